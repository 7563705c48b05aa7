"""Classifier-free guidance (Ho & Salimans 2207.12598): g = u + w (c − u). w = 1 is off and the unconditional pass is not made; w = 0 is
unconditional. (The paper's own scale is w − 1.)"""

from typing import Any

import torch
from torch import Tensor

from guidance.rules import Interval, Rule, Tensors, check_scale
from samplers.paths import Path


class CFG(Rule):
    """``scale`` w; ``interval`` in t or ``interval_sigma`` in sigma/alpha bounds where it acts; ``channels`` guides only the first of them and
    leaves the rest conditional (3 reproduces the original DiT on four latent channels)."""

    def __init__(
        self, scale: float = 1.0, *, interval: tuple[float, float] | None = None, interval_sigma: tuple[float, float] | None = None,
        channels: int | None = None,
    ):  # fmt: skip
        self.scale, self.where, self.channels = check_scale(scale, "cfg scale"), Interval(interval, interval_sigma), channels
        if channels is not None and channels < 1:
            raise ValueError(f"got channels={channels}, expected at least 1")

    def active(self, t: float, path: Path) -> bool:
        return self.scale != 1 and self.where.contains(t, path)

    def combine(self, predictions: Tensors, *, x: Tensor, t: float | Tensor, path: Path, state: dict[str, Any]) -> Tensor:
        c, u = predictions["cond"], predictions["uncond"]
        guided = torch.lerp(u, c, self.scale)
        if self.channels is None or self.channels >= c.shape[1]:
            return guided
        return torch.cat([guided[:, : self.channels], c[:, self.channels :]], dim=1)
