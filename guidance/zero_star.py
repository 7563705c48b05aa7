"""CFG-Zero* (Fan et al. 2503.18886), for velocities of flows. Two halves that can be had on their own:

    s = ⟨c, u⟩/⟨u, u⟩,  g = s u + w (c − s u)      the unconditional velocity at its best length
    g = 0 in the first steps                       where an early velocity is worse than none

A velocity of zero leaves the state where it is. A noise prediction of zero does not, so the second half is
refused for other models.
"""

from typing import Any

import torch
from torch import Tensor

from guidance.rules import Interval, Rule, Tensors, check_scale, dot, towards
from samplers.denoiser import Queryable
from samplers.paths import Path, Time


class CFGZeroStar(Rule):
    """``scale`` w; ``zero_steps`` first steps without a move (None: 4 % of them, at least one, for flows, and
    none for others); ``optimal`` False leaves u as it is. ``interval``, ``interval_sigma`` as in cfg; outside
    of them nothing is done, the first steps included."""

    space = "velocity"

    def __init__(
        self,
        scale: float = 1.0,
        *,
        zero_steps: int | None = None,
        optimal: bool = True,
        interval: tuple[float, float] | None = None,
        interval_sigma: tuple[float, float] | None = None,
    ):
        self.scale, self.where = check_scale(scale, "cfg_zero_star scale"), Interval(interval, interval_sigma)
        if zero_steps is not None and zero_steps < 0:
            raise ValueError(f"got zero_steps={zero_steps}, expected 0 or more")
        self.zero_steps, self.optimal = zero_steps, optimal

    def check(self, denoiser: Queryable) -> None:
        if self.zero_steps and denoiser.path.native != "velocity":
            raise ValueError(
                f"got cfg_zero_star with zero_steps={self.zero_steps} for a model on a "
                f"{denoiser.path.native} path, where a prediction of zero is no standstill; "
                "use cfg_zero_star(zero_steps=0)"
            )

    def active(self, t: float, path: Path) -> bool:
        return self.where.contains(t, path)

    def still(self, path: Path, num_steps: int) -> int:
        """How many first steps do not move."""
        if path.native != "velocity":
            return 0
        return max(1, round(0.04 * num_steps)) if self.zero_steps is None else self.zero_steps

    def combine(
        self, predictions: Tensors, *, x: Tensor, t: Time, path: Path, state: dict[str, Any]
    ) -> Tensor:
        c, u = predictions["cond"], predictions["uncond"]
        if state["num_steps"] and state["step"] < self.still(path, state["num_steps"]):
            return torch.zeros_like(c)
        if self.optimal:
            u = (dot(c, u) / (dot(u, u) + 1e-8)).to(u) * u
        return towards({**predictions, "uncond": u}, "uncond", self.scale)
