"""What a measure is worth: the same of real samples against others, at the numbers that were measured, as far
as there are so many."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from studio.evaluation import measures
from studio.evaluation.classes import onto
from studio.evaluation.measures import Side
from studio.evaluation.reference import Reference, side_of
from studio.metrics.features import Extractor

Pair = tuple[Side, Side, str]


def floors(
    names: Sequence[str], reference: Reference, samples: Side, extractor: Extractor
) -> tuple[dict[str, float], str]:
    """Each measure of real samples against others, as many on both sides as were measured where there are so
    many, and how many they were. Held-out samples stand against the whole reference; where there are too few
    of them the reference is divided. Scores that need no pair are those of as many real samples."""
    values: dict[str, float] = {}
    told: dict[str, list[str]] = {}
    options = measures.options_of(extractor, True)
    pairs: dict[tuple[object, ...], Pair | None] = {}
    for name in names:
        if name in measures.NO_FLOOR:
            continue
        for pair in (fresh_pair, divided):
            kind = (
                pair,
                name == "sfid",
                *(name in group for group in (measures.BY_CLASS, measures.BY_RATIO, measures.OF_REAL)),
            )
            if kind not in pairs:
                pairs[kind] = pair(name, reference, samples, extractor)
            made = pairs[kind]
            if made is None:
                continue
            one, two, text = made
            found, _ = measures.measured([name], one, two, options)
            if found:
                values |= {k: v for k, v in found.items() if not k.endswith("_std")}
                told.setdefault(text, []).append(name)
                break
    return values, "; ".join(
        f"{', '.join(which)}: {text}" if len(told) > 1 else text for text, which in told.items()
    ) or "none"


def fresh_pair(name: str, reference: Reference, samples: Side, extractor: Extractor) -> Pair | None:
    """As many held-out samples as were measured, against the whole reference; None where there are not so
    many."""
    fresh, count = reference.fresh, samples.n or 0
    if fresh is None:
        return None
    rows = eligible(name, fresh, samples)
    if len(rows) < count:
        return None
    index = np.sort(drawn(rows)[:count])
    one = fresh.part(index)
    if name == "sfid":
        if reference.real is None or reference.real.test is None:
            return None
        one = side_of(reference.real.test.take(index), extractor)
    if name in measures.OF_REAL:
        return one, one, f"{count:,} held-out real samples"
    return (
        one,
        reference.side,
        f"{count:,} held-out real samples against the reference's "
        f"{reference.side.n or len(reference.side.need('features')):,}",
    )


def divided(name: str, reference: Reference, samples: Side, extractor: Extractor) -> Pair | None:
    """Two disjoint parts of the reference: in the proportion that was measured where that is what a measure
    depends on; otherwise as many as were measured, at most half, and the rest. None where the reference keeps
    fewer than four samples."""
    side, count = reference.side, samples.n or 0
    rows = np.zeros(0, np.int64) if side.features is None else drawn(eligible(name, side, samples))
    have = len(rows)
    if have < 4:
        return None
    if name in measures.OF_REAL:
        n = min(count, have)
        one = side.part(np.sort(rows[:n]))
        return one, one, f"{n:,} real samples" + (f", there are no {count:,}" if n < count else "")
    n = round(have * count / (have + count)) if name in measures.BY_RATIO else min(count, have // 2)
    n = min(max(n, 2), have - 2)
    index, rest = np.sort(rows[:n]), np.sort(rows[n:])
    one, two = side.part(index), side.part(rest)
    if name == "sfid":  # of the spatial tap only moments are kept, so the part is looked at again
        if reference.real is None or side.spatial is None:
            return None
        one = side_of(reference.real.take(index), extractor)
        if side.n is not None and one.spatial is not None:
            two = replace(two, spatial=side.spatial.without(one.spatial))
        else:
            two = side_of(reference.real.take(rest), extractor)
    how = (
        f", in the proportion of {count:,} to {have:,}"
        if name in measures.BY_RATIO
        else f", there are not twice {count:,}"
        if n < count
        else ""
    )
    return one, two, f"two disjoint real sets of {n:,} and {have - n:,}{how}"


def eligible(name: str, side: Side, samples: Side) -> np.ndarray:
    """Rows of the real side; for measures by class those of the classes that the samples have."""
    every = np.arange(len(side.need("features")))
    if name not in measures.BY_CLASS or samples.labels is None or side.labels is None:
        return every
    try:
        return every[np.isin(side.labels, onto(samples.labels, samples.classes, side.names, "the reference"))]
    except ValueError:  # it has other classes
        return every[:0]


def drawn(rows: np.ndarray) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=1)).permutation(rows)
