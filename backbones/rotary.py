"""Rotary positions (RoFormer, Su et al. 2104.09864): queries and keys are turned by their places, so that a
score depends on how far apart two tokens lie.

    q'_m · k'_n = q_m · R(n − m) k_n,   R turns pair i of the d entries by (n − m) · 10000^(−2i / d)
"""

import torch
from torch import Tensor

BASE = 10_000.0


def turned(x: Tensor) -> Tensor:
    """(..., N, d) of tokens at the places 0 to N − 1, in x's dtype; entry i and i + d/2 are a pair."""
    places, pairs = x.shape[-2], x.shape[-1] // 2
    speeds = BASE ** (-torch.arange(pairs, device=x.device, dtype=torch.float32) / pairs)
    angles = torch.arange(places, device=x.device, dtype=torch.float32)[:, None] * speeds  # (N, d/2)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
