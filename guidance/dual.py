"""Guidance by two conditions (Brooks et al. 2211.09800): one that stays, c₁, and the rest,

    g = e(∅, ∅) + w₁ (e(c₁, ∅) − e(∅, ∅)) + w₂ (e(c₁, c₂) − e(c₁, ∅))

three calls. A prior swap replaces e(∅, ∅) only. w₁ = w₂ is cfg.
"""

from dataclasses import replace
from typing import Any

from torch import Tensor

from backbones.types import CONDITIONS, Cond
from guidance.rules import Interval, Rule, Tensors, check_scale
from samplers.paths import Path, Time


class Dual(Rule):
    """``first`` w₁ and ``second`` w₂; ``keep`` names c₁: label, numeric, tokens, image or named (all others).
    ``interval``, ``interval_sigma`` as in cfg."""

    needs = frozenset({"uncond", "partial"})
    provides = "partial"

    def __init__(
        self,
        first: float = 1.5,
        second: float = 7.5,
        *,
        keep: str = "image",
        interval: tuple[float, float] | None = None,
        interval_sigma: tuple[float, float] | None = None,
    ):
        if keep not in CONDITIONS:
            raise ValueError(f"got keep={keep!r}, expected one of {', '.join(CONDITIONS)}")
        self.first, self.second, self.keep = (
            check_scale(first, "dual first"),
            check_scale(second, "dual second"),
            keep,
        )
        self.where = Interval(interval, interval_sigma)

    def active(self, t: float, path: Path) -> bool:
        return (self.first, self.second) != (1, 1) and self.where.contains(t, path)

    def condition(self, cond: Cond) -> Cond:
        if not (cond.named if self.keep == "named" else self.keep in cond.names):
            raise ValueError(
                f"got dual guidance that keeps the {self.keep}, which was not given; choose another keep"
            )
        return replace(cond.null(), **{self.keep: getattr(cond, self.keep)})

    def combine(
        self, predictions: Tensors, *, x: Tensor, t: Time, path: Path, state: dict[str, Any]
    ) -> Tensor:
        c, partial, u = predictions["cond"], predictions["partial"], predictions["uncond"]
        if "guided" in predictions:
            return (
                predictions["guided"] + (self.first - 1) * (partial - u) + (self.second - 1) * (c - partial)
            )
        return u + self.first * (partial - u) + self.second * (c - partial)
