"""What is compared when molecules are evaluated, and the measures that compare two sets."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from studio.evaluation.decoded import Decoded

Found = tuple[dict[str, float], dict[str, float]]  # values, and what real molecules give


@dataclass(frozen=True)
class Sides:
    """``own``: the samples with all that they tell. ``mine``, ``train``, ``real`` (what distances are to),
    ``some`` (as many training molecules), ``others`` (what floors compare them with: ``real``, or where that
    holds ``some`` too, the rest of it) and ``split`` (MOSES's scaffold split, where it is given) agree on
    stereochemistry. ``rules``: MOSES's filters, where they are given."""

    own: Decoded
    mine: Decoded
    train: Decoded
    real: Decoded
    some: Decoded
    others: Decoded
    split: Decoded | None = None
    rules: Any = None
    made: dict[str, tuple[float, float | None]] = field(default_factory=dict, repr=False)

    @property
    def apart(self) -> tuple[Decoded, Decoded]:
        """Real molecules and those that would be known to their model: the held-out and the training part, or
        two parts of one set."""
        return (self.some, self.others) if self.real is self.train else (self.real, self.train)

    def compared(self, kind: str) -> tuple[float, float | None]:
        """The samples' value against ``real`` and that of ``some`` against ``others``, None for too few;
        computed once, whatever the measures are called."""
        if kind not in self.made:
            value = COMPARE[kind](self.mine, self.real)
            try:
                self.made[kind] = value, COMPARE[kind](self.some, self.others)
            except ValueError:
                self.made[kind] = value, None
        return self.made[kind]


def _fcd(a: Decoded, b: Decoded) -> float:
    from studio.metrics import molecules

    return molecules.fcd(a.chemnet, b.chemnet)


def _fragments(a: Decoded, b: Decoded) -> float:
    from studio.metrics import molecules

    return molecules.cosine(a.fragments, b.fragments)


def _similarity(a: Decoded, b: Decoded) -> float:
    """To the most alike molecule of the reference."""
    from studio.metrics import molecules

    return molecules.nearest_similarity(a.prints, b.prints)


def _scaffolds(a: Decoded, b: Decoded) -> float:
    from studio.metrics import molecules

    return molecules.cosine(a.scaffolds, b.scaffolds)


def _large_scaffolds(a: Decoded, b: Decoded) -> float:
    from studio.metrics import molecules

    return molecules.cosine(a.large_scaffolds, b.large_scaffolds)


COMPARE = {
    "fcd": _fcd,
    "fragments": _fragments,
    "similarity": _similarity,
    "scaffolds": _scaffolds,
    "large_scaffolds": _large_scaffolds,
}


def against(name: str, kind: str, split: str = "") -> Callable[[Sides], Found]:
    """A measure: one comparison with the reference under a name, and under another with the scaffold split
    where there is one."""

    def measure(s: Sides) -> Found:
        value, floor = s.compared(kind)
        more = {split: COMPARE[kind](s.mine, s.split)} if split and s.split is not None else {}
        return {name: value, **more}, {} if floor is None else {name: floor}

    return measure
