"""Samples that are measured as they are, by functions of two sets in memory: points, and whatever a task of
one's own brings. A measure of samples stands beside the same of real ones."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backbones.registry import suggest
from studio.evaluation.judges import Asked, Found, Judge, Ruler, maker_of, names_of, same_kind
from studio.evaluation.reference import Reference, located
from studio.evaluation.results import Result
from studio.evaluation.sets import SampleSet
from studio.runtime.version import __version__
from studio.tasks import REGISTRY as TASKS
from studio.tasks import kind_of


@dataclass(frozen=True)
class Measure:
    """``of(samples, real)`` gives a number, or numbers by name; ``real``: as many real samples, or, of
    measures ``against_all``, the whole reference. ``needs(real)`` raises ``ValueError`` for a reference it
    cannot be computed with. ``notes``: what the protocol tells. ``slow``: `studio compare` measures it only
    where it is asked for; ``once``: a sample must not be there twice."""

    of: Callable[[SampleSet, SampleSet], float | Mapping[str, float]]
    against_all: bool = False
    needs: Callable[[SampleSet], None] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    slow: bool = False
    once: bool = False


class ArrayJudge(Judge):
    """``measures`` by name: functions (samples, real) → a number or numbers by name, or `Measure`s."""

    def __init__(self, measures: Mapping[str, Any]):
        self.measures = {k: m if isinstance(m, Measure) else Measure(m) for k, m in measures.items()}

    def ruler(self, samples: SampleSet, ref: Any, asked: Asked) -> Ruler:
        wanted = names_of(asked.metrics)
        for name in wanted or ():
            if name not in self.measures:
                raise ValueError(
                    f"got metric {name!r} for {samples.task}, expected some of "
                    f"{', '.join(self.measures)}{suggest(name, self.measures)}"
                )
        real = ref if isinstance(ref, Reference) else located(ref)
        if not isinstance(real, SampleSet):
            raise ValueError(
                f"got a reference of features for {samples.task}, expected a set of {samples.task} samples; "
                "choose another --ref"
            )
        same_kind(samples, real, asked.made)
        free = kind_of(samples.task).any_length if samples.task in TASKS else False
        if samples.shape[free:] != real.shape[free:]:
            raise ValueError(
                f"got samples of {samples.shape} and a reference of {real.shape}, expected the same number "
                "of coordinates"
            )
        if len(real) < 2:
            raise ValueError(f"got a reference of {len(real)}, expected at least 2 samples; give more")
        chosen = {k: m for k, m in self.measures.items() if wanted is None or k in wanted}
        for measure in chosen.values():
            if not asked.made and wanted is not None and measure.needs is not None:
                measure.needs(real)
        return ArrayRuler(chosen, real)


class ArrayRuler(Ruler):
    """The measures that were asked for, against one set."""

    def __init__(self, measures: Mapping[str, Measure], real: SampleSet):
        self.measures, self.real = measures, real
        self.slow = frozenset(k for k, m in measures.items() if m.slow)
        self.once = frozenset(k for k, m in measures.items() if m.once)

    @property
    def digest(self) -> str:
        return self.real.hash

    @property
    def about(self) -> dict[str, Any]:
        return {
            "extractor": self.real.task,
            "reference": self.real.name,
            "reference_hash": self.real.hash,
            "reference_n": len(self.real),
        }

    def names(self, sets: Sequence[SampleSet]) -> tuple[list[str], dict[str, str]]:
        return list(self.measures), {}

    def by_rows(self, samples: SampleSet) -> Callable[[Sequence[str], np.ndarray], Found]:
        return lambda names, rows: self._measured(samples.take(rows), names)[::2]

    def measure(self, samples: SampleSet) -> Result:
        values, floor, failed, compared = self._all(samples, list(self.measures))
        notes: dict[str, Any] = {}
        for measure in self.measures.values():
            notes |= measure.notes
        protocol = {
            "task": samples.task,
            "samples": len(samples),
            "compared": compared,
            "reference": self.real.name,
            "reference_hash": self.real.hash,
            "reference_n": len(self.real),
            "reference_part": self.real.about.get("part", "all"),
            "floor": f"two disjoint real sets of {compared}",
            **notes,
            "studio": __version__,
            **maker_of(samples),
        }
        return Result(samples.name, values, floor, failed, protocol)

    def _measured(self, samples: SampleSet, names: Sequence[str]) -> tuple[dict, dict, dict]:
        return self._all(samples, names)[:3]

    def _all(
        self, samples: SampleSet, names: Sequence[str]
    ) -> tuple[dict[str, float], dict[str, float], dict[str, str], int]:
        """Values, those of real samples, reasons of what failed, and how many were compared: as many as are
        there, and as the half of the reference."""
        rng = np.random.Generator(np.random.Philox(key=1))
        order = rng.permutation(len(self.real))
        n = min(len(samples), len(self.real) // 2)
        some, others = self.real.take(order[:n]), self.real.take(order[n : 2 * n])
        drawn = samples.take(rng.permutation(len(samples))[:n])
        whole = self.real.take(np.arange(len(self.real)))
        values: dict[str, float] = {}
        floor: dict[str, float] = {}
        failed: dict[str, str] = {}
        for name in names:
            measure = self.measures[name]
            against = whole if measure.against_all else others
            try:
                if measure.needs is not None:
                    measure.needs(self.real)
                values |= _numbers(name, measure.of(drawn, against))
                floor |= _numbers(name, measure.of(some, against))
            except ValueError as error:
                failed[name] = str(error)
        return values, floor, failed, n


def _numbers(name: str, found: float | Mapping[str, float]) -> dict[str, float]:
    made = {k: float(v) for k, v in (found if isinstance(found, Mapping) else {name: found}).items()}
    if not all(map(math.isfinite, made.values())):
        raise ValueError(f"the result is {made}, expected finite numbers")
    return made
