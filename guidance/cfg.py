"""Classifier-free guidance (Ho & Salimans 2207.12598): g = u + w (c − u). w = 1 is off and the unconditional
pass is not made; w = 0 is unconditional. (The paper's own scale is w − 1.)

A ``schedule`` lets the part above 1 grow along the path, 1 + (w − 1) f(t), with the mean of f over t in [0,
1] equal to 1: linear f = 2t, cosine f = 1 − cos πt (monotone schedulers of Wang et al. 2404.13040).
"""

import math
from typing import Any

import torch
from torch import Tensor

from guidance.rules import Interval, Rule, Tensors, check_scale, towards
from samplers.paths import Path, Time
from samplers.prediction import expand

SCHEDULES = ("constant", "linear", "cosine", "limited")


class CFG(Rule):
    """``scale`` w; ``interval`` in t or ``interval_sigma`` in sigma/alpha bounds where it acts; ``channels``
    guides only the first of them and leaves the rest conditional (3 reproduces the original DiT on four
    latent channels). ``schedule``: constant, linear, cosine, or limited, which is constant inside an interval
    and asks for one. ``space``: native, what the path's users call the model's output, or on graphs logp,
    where it acts on p(z_s | z_t)."""

    def __init__(
        self,
        scale: float = 1.0,
        *,
        interval: tuple[float, float] | None = None,
        interval_sigma: tuple[float, float] | None = None,
        channels: int | None = None,
        schedule: str = "constant",
        space: str = "native",
    ):
        if space not in ("native", "logp"):
            raise ValueError(f"got cfg space {space!r}, expected native, or logp on graphs")
        self.space = space
        self.scale, self.where, self.channels, self.schedule = (
            check_scale(scale, "cfg scale"),
            Interval(interval, interval_sigma),
            channels,
            schedule,
        )
        if channels is not None and channels < 1:
            raise ValueError(f"got channels={channels}, expected at least 1")
        if schedule not in SCHEDULES:
            raise ValueError(f"got cfg schedule {schedule!r}, expected one of {', '.join(SCHEDULES)}")
        if schedule == "limited" and not self.where:
            raise ValueError(
                "got the schedule limited without an interval; write e.g. "
                "cfg(scale=2,schedule=limited),interval=0.1:0.9"
            )

    def weight(self, t: Time) -> Tensor | float:
        """The scale at t."""
        if self.schedule in ("constant", "limited"):
            return self.scale
        if isinstance(t, Tensor):
            return 1 + (self.scale - 1) * (2 * t if self.schedule == "linear" else 1 - torch.cos(math.pi * t))
        return 1 + (self.scale - 1) * (2 * t if self.schedule == "linear" else 1 - math.cos(math.pi * t))

    def active(self, t: float, path: Path) -> bool:
        return float(self.weight(t)) != 1 and self.where.contains(t, path)

    def combine(
        self, predictions: Tensors, *, x: Tensor, t: Time, path: Path, state: dict[str, Any]
    ) -> Tensor:
        c, weight = predictions["cond"], self.weight(t)
        guided = towards(
            predictions, "uncond", expand(weight, c).to(c) if isinstance(weight, Tensor) else weight
        )
        if self.channels is None or self.channels >= c.shape[1]:
            return guided
        return torch.cat(
            [guided[:, : self.channels], predictions.get("guided", c)[:, self.channels :]], dim=1
        )
