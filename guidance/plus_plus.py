"""CFG++ (Chung et al. 2406.08070): the data prediction follows the guided noise u + λ (c − u) with λ in [0,
1], the way back to the next level the unconditional noise u,

    x_s = alpha_s · data(u + λ (c − u)) + sigma_s · u

In a step from (alpha, sigma) this is plain guidance at w = λ alpha_s / (alpha_s − (sigma_s/sigma) alpha). The
prediction carries u as its head ``renoise``, which `ddim` follows; other samplers refuse it.
"""

from typing import Any

import torch
from torch import Tensor

from guidance.rules import Interval, Rule, Tensors
from samplers.paths import Path, Time


class CFGPlusPlus(Rule):
    """``scale`` λ in [0, 1]; ``interval``, ``interval_sigma`` as in cfg."""

    space = "noise"
    demands = frozenset({"renoise"})

    def __init__(
        self,
        scale: float = 0.6,
        *,
        interval: tuple[float, float] | None = None,
        interval_sigma: tuple[float, float] | None = None,
    ):
        if not 0 <= scale <= 1:
            raise ValueError(f"got cfg_plus_plus scale={scale}, expected 0 to 1; 0.6 is about cfg=7.5")
        self.scale, self.where = scale, Interval(interval, interval_sigma)

    def active(self, t: float, path: Path) -> bool:
        return self.where.contains(t, path)

    def combine(
        self, predictions: Tensors, *, x: Tensor, t: Time, path: Path, state: dict[str, Any]
    ) -> Tensor:
        return torch.lerp(predictions["uncond"], predictions["cond"], self.scale)

    def heads(self, predictions: Tensors) -> dict[str, Tensor]:
        return {"renoise": predictions["uncond"]}
