"""What measures samples of a kind: a `Judge`, which a task names, makes a `Ruler` of a reference, everything
checked before the first sample of a model is made. `evaluate`, `compare` and `sweep` measure by it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from studio.evaluation.results import Result
from studio.evaluation.sets import SampleSet
from studio.metrics.features import Extractor

Found = tuple[dict[str, float], dict[str, str]]  # values, and why the others could not be computed
MAKERS = (  # what of a set's maker a protocol tells
    "model",
    "model_hash",
    "weights",
    "sampler",
    "num_steps",
    "guidance",
    "labels",
    "seeds",
    "dtype",
    "conditions",
    "path",
)


@dataclass(frozen=True)
class Asked:
    """How to measure, as `studio.evaluate` has it; not ``made``: of the samples all but the values counts,
    and a measure asked for by name that they cannot have is refused."""

    metrics: Sequence[str] | None = None
    features: str | Extractor | None = None
    inception: str | Path | None = None
    allow_small: bool = False
    filters: str | None = None
    test_scaffolds: str | None = None
    made: bool = True


class Ruler(ABC):
    """Measures against one reference. For comparisons, names of measures that are ``slow``, for which a
    sample must be there ``once`` only, and that are kept of a set as a ``whole``. ``seen_by``: the hash of
    what looks at samples, where something does."""

    slow: frozenset[str] = frozenset()
    once: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    seen_by: str | None = None

    @property
    @abstractmethod
    def digest(self) -> str:
        """Of the reference."""

    @property
    @abstractmethod
    def about(self) -> dict[str, Any]:
        """What a comparison tells of the reference."""

    @abstractmethod
    def measure(self, samples: SampleSet) -> Result:
        """A single measure that cannot be computed is listed in ``failed``."""

    @abstractmethod
    def names(self, sets: Sequence[SampleSet]) -> tuple[list[str], dict[str, str]]:
        """What is to be measured of these sets, and why some of it cannot be."""

    @abstractmethod
    def by_rows(self, samples: SampleSet) -> Callable[[Sequence[str], np.ndarray], Found]:
        """Measures by name of rows of a set, which is looked at once."""


class Judge(ABC):
    """``takes``: options that it understands beside the names of measures; ``any_shape``: whether two sets of
    different shapes can be compared; ``features``: whether references can be kept as an extractor's
    features."""

    takes: tuple[str, ...] = ()
    any_shape: bool = False
    features: bool = False

    @abstractmethod
    def ruler(self, samples: SampleSet, ref: Any, asked: Asked) -> Ruler:
        """Raises ``ValueError`` for whatever does not fit together, ``ImportError`` for a measure whose
        library is missing."""


def same_kind(samples: SampleSet, real: SampleSet, made: bool) -> None:
    """Raises ``ValueError`` for a reference of another task."""
    if samples.task != real.task:
        raise ValueError(
            f"got a reference of {real.task} for {'samples' if made else 'a model'} of {samples.task}; "
            "choose another --ref"
        )


def names_of(metrics: str | Sequence[str] | None) -> list[str] | None:
    """From ``"w2,modes"`` or a list."""
    if metrics is None:
        return None
    return [n.strip() for n in (metrics.split(",") if isinstance(metrics, str) else metrics)]


def maker_of(samples: SampleSet) -> dict[str, Any]:
    further = {k: samples.about[k] for k in ("fields",) if k in samples.about}
    return {k: samples.about.get(k) for k in MAKERS} | further
