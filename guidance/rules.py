"""What a rule is: it declares the ``space`` it works in and does one or both of ``transform`` and ``combine``.

``transform(predictions, ...)`` changes branches before they are combined; ``combine(predictions, ...)`` returns the guided tensor. Both get
tensors in the rule's space by branch name ("cond", "uncond", ..., and "guided" for rules after the first combination). A rule has
no state of its own: ``state`` is its dict in the run's context.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from samplers.paths import Path, sigma_of

Tensors = Mapping[str, Tensor]


class Rule:
    """Base: active everywhere, needs the unconditional branch, does nothing."""

    space: str = "native"
    needs: frozenset[str] = frozenset({"uncond"})

    def active(self, t: float, path: Path) -> bool:
        """Whether the rule acts in a step that starts at t. Off means that its branches are not even computed."""
        return True

    def transform(self, predictions: Tensors, *, x: Tensor, t: float | Tensor, path: Path, state: dict[str, Any]) -> dict[str, Tensor]:
        return {}

    def combine(self, predictions: Tensors, *, x: Tensor, t: float | Tensor, path: Path, state: dict[str, Any]) -> Tensor | None:
        return None


class Interval:
    """A half-open stretch of the path: ``interval`` (a, b) acts on a <= t < b; ``interval_sigma`` (lo, hi) on lo < sigma/alpha <= hi
    (Kynkäänniemi et al. 2404.07724). Decided by the start of a step, for all its evaluations."""

    def __init__(self, interval: tuple[float, float] | None = None, interval_sigma: tuple[float, float] | None = None):
        if interval is not None and interval_sigma is not None:
            raise ValueError("got both interval and interval_sigma, expected one of them")
        for name, pair in (("interval", interval), ("interval_sigma", interval_sigma)):
            if pair is not None and (len(pair) != 2 or not pair[0] < pair[1]):
                raise ValueError(f"got {name}={pair}, expected two increasing numbers a:b")
        self.interval, self.interval_sigma = interval, interval_sigma

    def contains(self, t: float, path: Path) -> bool:
        if self.interval is not None:
            return self.interval[0] <= t < self.interval[1] or (t == 1.0 and self.interval[1] >= 1.0)
        if self.interval_sigma is not None:
            return self.interval_sigma[0] < float(sigma_of(path, t)) <= self.interval_sigma[1]
        return True


def check_scale(scale: float, name: str) -> float:
    if not abs(scale) < float("inf"):
        raise ValueError(f"got {name}={scale}, expected a finite number (1 is off)")
    return float(scale)
