"""Which parts of a network a run computes at which evaluation, and which it takes from an earlier one.

    attention   F full, W a window and what the last full one had beyond it, B of the unconditional branch
                what the conditional one has, C both of these, T what the last evaluation had
    trunk       F all blocks, R their last change of the stream again, L the line through their last two
    uncond      the same for what the unconditional prediction lacks to the conditional one

Attention: DiTFastAttn (Yuan et al. 2406.08552); trunk: FORA (Selvaraju et al. 2407.01425) and the first order
of TaylorSeer (Liu et al. 2503.06923). Every first letter is F.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

FULL, WINDOW, STEPS, BRANCHES, BOTH = "F", "W", "T", "B", "C"
ATTENTION = (STEPS, BOTH, WINDOW, BRANCHES, FULL)  # the cheapest first, as the search tries them
AGAIN, LINE = "R", "L"
REUSE = (FULL, AGAIN, LINE)


@dataclass(frozen=True)
class Plan:
    """``evaluations`` of each step of a run; ``attention``: for each evaluation a letter a layer;
    ``trunk``, ``uncond``: a letter an evaluation; empty where nothing is left out. ``window``: keys to each
    side; ``tile``: tokens are sorted by squares of so many a side, so that a window is one in two directions
    (0: as they lie). Raises ``ValueError`` for letters and lengths that are none.
    """

    evaluations: tuple[int, ...]
    attention: tuple[str, ...] = ()
    trunk: str = ""
    uncond: str = ""
    window: int = 0
    tile: int = 0

    def __post_init__(self) -> None:
        _whole("evaluations", self.evaluations, 1)
        _whole("window", (self.window,), 0)
        _whole("tile", (self.tile,), 0)
        for name, letters, rows in (
            ("trunk", REUSE, self.trunk),
            ("uncond", REUSE, self.uncond),
            *(("attention", ATTENTION, column) for column in self._columns()),
        ):
            if not isinstance(rows, str):
                raise ValueError(f"got {name} {rows!r}, expected a text: a letter for each evaluation")
            if rows and len(rows) != self.total:
                raise ValueError(
                    f"got {name} for {len(rows)} evaluations, expected one letter for each of {self.total}"
                )
            if unknown := set(rows) - set(letters):
                raise ValueError(
                    f"got {name} with {''.join(sorted(unknown))!r}, expected {', '.join(letters)}"
                )
            if rows and rows[0] != FULL:
                raise ValueError(f"got {name} that begins with {rows[0]!r}, expected F: nothing is kept yet")

    def _columns(self) -> list[str]:
        """Of attention: the letters of each layer."""
        if not isinstance(self.attention, tuple) or not all(isinstance(row, str) for row in self.attention):
            raise ValueError("got attention that is no text, expected a letter a layer for each evaluation")
        if len({len(row) for row in self.attention}) > 1:
            raise ValueError("got rows of attention of different lengths, expected a letter a layer in each")
        return ["".join(column) for column in zip(*self.attention)] or ["" for _ in self.attention[:1]]

    @staticmethod
    def full(evaluations: Sequence[int], *, window: int = 0, tile: int = 0) -> "Plan":
        """The plan that leaves nothing out."""
        return Plan(tuple(evaluations), window=window, tile=tile)

    @staticmethod
    def of(tree: Mapping[str, Any]) -> "Plan":
        """A plan as a file holds it. Raises ``ValueError``."""
        names = {f.name for f in fields(Plan)}
        if unknown := sorted(set(tree) - names):
            raise ValueError(f"got {', '.join(unknown)}, expected {', '.join(sorted(names))}")
        if "evaluations" not in tree:
            raise ValueError("got no evaluations, expected how many each step has")
        parts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in tree.items()}
        return Plan(**parts)

    def tree(self) -> dict[str, Any]:
        """As a file holds it."""
        return {f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v for f in fields(self)}

    @cached_property
    def hash(self) -> str:
        """Sixteen digits that change with any letter."""
        return hashlib.sha256(json.dumps(self.tree(), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def total(self) -> int:
        """Evaluations of a run."""
        return sum(self.evaluations)

    @property
    def layers(self) -> int:
        """Of attention; 0 where it is full throughout."""
        return len(self.attention[0]) if self.attention else 0

    @property
    def empty(self) -> bool:
        """Whether it leaves nothing out."""
        return set("".join((*self.attention, self.trunk, self.uncond))) <= {FULL}

    @cached_property
    def _first(self) -> tuple[int, ...]:
        return (0, *itertools.accumulate(self.evaluations))

    def row(self, step: int, evaluation: int) -> int | None:
        """The place of an evaluation in the plan; None of one that it does not know."""
        known = step < len(self.evaluations) and evaluation < self.evaluations[step]
        return self._first[step] + evaluation if known else None

    def attends(self, row: int, layer: int) -> str:
        """The letter of a layer's attention."""
        return self.attention[row][layer] if self.attention else FULL

    def needs_rest(self, row: int, layer: int) -> bool:
        """Whether what a full attention has beyond its window is asked for before the next full one."""
        return self._asked(row, layer, (WINDOW, BOTH), until=(FULL, BRANCHES))

    def needs_output(self, row: int, layer: int) -> bool:
        """Whether an attention's output is asked for: by the other branch, or at the next evaluation."""
        return self.attends(row, layer) in (BRANCHES, BOTH) or self._asked(
            row, layer, (STEPS,), until=(FULL, WINDOW, BRANCHES, BOTH)
        )

    def _asked(self, row: int, layer: int, by: Sequence[str], *, until: Sequence[str]) -> bool:
        for later in range(row + 1, len(self.attention)):
            if self.trunk and self.trunk[later] != FULL:
                continue  # its attention is not asked
            if self.attention[later][layer] in by:
                return True
            if self.attention[later][layer] in until:
                return False
        return False

    def with_(self, **changes: Any) -> "Plan":
        """The same with other parts."""
        return replace(self, **changes)


def _whole(name: str, values: Any, least: int) -> None:
    if not isinstance(values, tuple) or not all(type(v) is int and v >= least for v in values):
        raise ValueError(f"got {name} {values!r}, expected whole numbers from {least}")
