"""`studio compare`: two sets against one reference, and how sure the differences of their measures are.

Both sets are measured at the number of the smaller one, as most measures depend on it. The interval of a
difference is that of the bootstrap (Efron 1979): both sets are drawn again with replacement, and the
quantiles of the differences around their mean lie around the difference that was measured, so that what
drawing itself adds to a distance falls out. Measures for which a sample must not be there twice
(`Ruler.once`) are drawn without replacement, half of a set at a time, which varies as much. The reference
stays as it is. Sets of the same seeds and classes are drawn together, sample by sample.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from studio.evaluation.judges import Asked, Ruler, names_of
from studio.evaluation.reference import Reference
from studio.evaluation.ruler import judge_of, ruler_for
from studio.evaluation.run import opened
from studio.evaluation.sets import SampleSet
from studio.metrics.features import Extractor
from studio.runtime import files
from studio.runtime.progress import notebook_bar

APART = ("_std", "_test")  # endings of numbers that are not the set's own
FEWEST, MOST = 20, 100_000
Measure = Callable[[Sequence[str], np.ndarray], tuple[dict[str, float], dict[str, str]]]


@dataclass(frozen=True)
class Comparison:
    """By measure: ``values`` of both sets, the ``difference`` (second less first) and its ``interval`` (low,
    high); ``failed``: what could not be computed, and why."""

    names: tuple[str, str]
    values: dict[str, tuple[float, float]]
    difference: dict[str, float]
    interval: dict[str, tuple[float, float]]
    failed: dict[str, str]
    protocol: dict[str, Any]

    def differs(self, name: str) -> bool:
        """Whether 0 lies outside of the interval."""
        low, high = self.interval[name]
        return low > 0 or high < 0

    def tree(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """A measure a line: both values, the difference and its interval; then the protocol."""
        width = max(map(len, [*self.values, *self.failed, "measure"])) + 2
        rows = [f"{'measure':<{width}}{'A':>12}{'B':>12}{'B − A':>12}  {self.protocol['level']:.0%} interval"]
        for name, (a, b) in self.values.items():
            low, high = self.interval[name]
            told = "" if self.differs(name) else "  (holds 0)"
            rows.append(
                f"{name:<{width}}{a:>12.4f}{b:>12.4f}{self.difference[name]:>+12.4f}  {low:+.4f} to "
                f"{high:+.4f}{told}"
            )
        rows += [f"{k:<{width}}not computed: {why}" for k, why in self.failed.items()]
        head = [f"A: {self.names[0]}", f"B: {self.names[1]}", ""]
        return [
            *head,
            *rows,
            "",
            *(f"{k}: {v}" for k, v in self.protocol.items() if v not in (None, {}, "", [])),
        ]

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def save(self, path: Path) -> Path:
        files.write_json(path, self.tree())
        return path


def compare(
    a: str | Path | SampleSet,
    b: str | Path | SampleSet,
    ref: str | Path | SampleSet | Reference,
    *,
    metrics: str | Sequence[str] | None = None,
    features: str | Extractor | None = None,
    inception: str | Path | None = None,
    allow_small: bool = False,
    rounds: int = 200,
    level: float = 0.95,
    seed: int = 0,
    on_progress: Callable[[int, int], Any] | None = None,
) -> Comparison:
    """Two sets of samples that are there, against one reference.

    - ``metrics``, ``features``, ``inception``, ``allow_small``: as in `studio.evaluate`, by default without
      the slow measures.
    - ``rounds``: of drawing again, from ``seed``; ``level``: of the intervals.
    - ``on_progress``: called with how many rounds are done, and of how many.

    Raises ``ValueError`` for what does not fit together, before anything is measured; a single measure that
    cannot be computed is listed in ``failed``.
    """
    if not FEWEST <= rounds <= MOST:
        raise ValueError(f"got rounds={rounds}, expected {FEWEST} to {MOST:,}; 200 tell a 95 % interval")
    if not 0.5 <= level < 1:
        raise ValueError(f"got level={level}, expected a share from 0.5 to below 1, such as 0.95")
    sets = [_set(one) for one in (a, b)]
    _check(*sets)
    ruler = ruler_for(sets[0], ref, Asked(names_of(metrics), features, inception, allow_small))
    names, failed = _names(ruler, sets, metrics)
    count = min(map(len, sets))
    rng = np.random.Generator(np.random.Philox(key=seed))
    cut = [s if len(s) == count else s.take(np.sort(rng.permutation(len(s))[:count])) for s in sets]
    paired = _paired(*sets)
    judges = [ruler.by_rows(s) for s in cut]
    every = np.arange(count)
    found = []
    for judge in judges:
        values, why = judge(names, every)
        found.append(values)
        failed |= why
    keys = [k for k in found[0] if k in found[1] and not k.endswith(APART)]
    drawn: dict[str, list[float]] = {k: [] for k in keys}
    groups = [[n for n in names if n not in failed and (n in ruler.once) == once] for once in (False, True)]
    with notebook_bar("comparing", shown=None if on_progress is None else False) as bar:
        for done in range(rounds):
            for once, group in enumerate(groups):
                if group:
                    _draw(rng, judges, group, count, bool(once), paired, drawn)
            (on_progress or bar)(done + 1, rounds)
    difference = {k: found[1][k] - found[0][k] for k in keys}
    interval = {k: _around(difference[k], drawn[k], level) for k in keys if len(drawn[k]) == rounds}
    for k in [k for k in keys if k not in interval]:
        failed[k] = f"it could be measured in {len(drawn[k])} of {rounds} rounds only; make more samples"
        del difference[k]
    protocol = {
        "samples": count,
        "of": [len(s) for s in sets],
        "sample_hash": [s.hash for s in sets],
        **ruler.about,
        "rounds": rounds,
        "level": level,
        "seed": seed,
        "drawn": "together, by the same seeds" if paired else "each by itself",
        "without_replacement": groups[1],
    }
    return Comparison(
        (sets[0].name, sets[1].name),
        {k: (found[0][k], found[1][k]) for k in interval},
        difference,
        interval,
        failed,
        protocol,
    )


def _set(one: Any) -> SampleSet:
    there = opened(one, {})
    if there is None:
        name = getattr(one, "name", one)
        raise ValueError(
            f"got {str(name)!r}, expected a set of samples that is there; make one first with `studio "
            f"generate {name} --out DIR --num N`"
        )
    return there


def _check(a: SampleSet, b: SampleSet) -> None:
    """Raises ``ValueError`` for sets that one reference cannot judge."""
    if a.task != b.task:
        raise ValueError(
            f"got {a.task} samples in {a.name} and {b.task} in {b.name}, expected the same kind of both"
        )
    if not judge_of(a).any_shape and a.shape != b.shape:
        raise ValueError(
            f"got samples of {a.shape} in {a.name} and of {b.shape} in {b.name}, expected the same shape; "
            "resize one first"
        )
    if min(len(a), len(b)) < 2:
        raise ValueError(f"got {len(a)} and {len(b)} samples, expected at least 2 of each")
    if a.hash == b.hash:
        raise ValueError(f"got the same samples twice ({a.name} and {b.name}), expected two sets")


def _names(ruler: Ruler, sets: Sequence[SampleSet], metrics: Any) -> tuple[list[str], dict[str, str]]:
    """What to measure, and what cannot be. Raises ``ValueError`` where that was asked for by name."""
    wanted, failed = ruler.names(sets)
    if metrics is None:
        wanted = [n for n in wanted if n not in ruler.slow | ruler.whole]
        return [n for n in wanted if n not in failed], {n: why for n, why in failed.items() if n in wanted}
    if whole := [n for n in wanted if n in ruler.whole]:
        raise ValueError(
            f"got the metric {whole[0]}, which is kept of a set as a whole, so it has no interval; "
            "leave it out"
        )
    if failed:
        name, why = next(iter(failed.items()))
        raise ValueError(f"{name} cannot be computed: {why}; or leave it out of the metrics")
    return list(wanted), {}


def _paired(a: SampleSet, b: SampleSet) -> bool:
    """Whether sample i of both was made from the same seed for the same class."""
    seeds = a.about.get("seeds")
    alike = seeds is not None and seeds == b.about.get("seeds") and len(a) == len(b)
    return (
        alike
        and (a.labels is None) == (b.labels is None)
        and (a.labels is None or b.labels is None or np.array_equal(a.labels, b.labels))
    )


def _draw(
    rng: np.random.Generator,
    judges: Sequence[Measure],
    names: Sequence[str],
    count: int,
    once: bool,
    paired: bool,
    drawn: dict[str, list[float]],
) -> None:
    """One round: both sets drawn again, and the differences of their measures."""

    def rows() -> np.ndarray:
        return (
            np.sort(rng.permutation(count)[: max(count // 2, 2)]) if once else rng.integers(0, count, count)
        )

    first = rows()
    one, two = judges[0](names, first)[0], judges[1](names, first if paired else rows())[0]
    for key in drawn:
        if key in one and key in two:
            drawn[key].append(two[key] - one[key])


def _around(value: float, drawn: Sequence[float], level: float) -> tuple[float, float]:
    """The interval of a difference from those of the rounds."""
    low, high = np.quantile(np.asarray(drawn) - np.mean(drawn), [(1 - level) / 2, (1 + level) / 2])
    return value + float(low), value + float(high)
