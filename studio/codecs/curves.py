"""Curves in units of their own ↔ the same with mean 0 and standard deviation 1 in every channel, or at every
place."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from studio.codecs.codec import Columns

PATCHES = 32  # of a curve, where its length can be so divided and a config is silent


class Curves(Columns):
    """(B, L) or (B, C, L) floats ↔ float32 less ``mean`` over ``std``, a number for each channel, or, of
    ``places``, for each of the L places of all; decoded to ``dtype``, what the data had. Raises
    ``ValueError`` for units that are none."""

    name = "curves"
    axis = -2  # of the channels, where there are any

    def __init__(
        self,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        dtype: str = "float32",
        places: bool = False,
    ):
        super().__init__(mean=tuple(mean), std=tuple(std))
        if len(mean) != len(std) or not all(math.isfinite(s) and s > 0 for s in std):
            raise ValueError(f"got the means {mean} and deviations {std}, expected as many, all above 0")
        self.dtype = getattr(torch, dtype)
        self.own = -1 if places else self.axis  # the axis of which each has a unit of its own

    def encode(self, data: Tensor) -> Tensor:
        mean, std = self._units(data)
        return ((data.double() - mean) / std).float()

    def decode(self, x: Tensor) -> Tensor:
        mean, std = self._units(x)
        return (x.double() * std + mean).to(self.dtype)

    def _units(self, like: Tensor) -> list[Tensor]:
        """Mean and deviation as they broadcast to (B, ...)."""
        shape = [1] * like.ndim
        if like.ndim > 2 or self.own == -1:
            shape[self.own] = -1
        made = (torch.tensor(v, dtype=torch.float64, device=like.device) for v in (self.mean, self.std))
        return [v.view(shape) for v in made]

    def log_det(self, shape: Sequence[int]) -> float | None:
        return -(math.prod(shape) // len(self.std)) * math.fsum(map(math.log, self.std))

    def sizes(self, shape: Sequence[int]) -> dict[str, Any]:
        """One side of some channels, in the longest patches that leave some `PATCHES` or more; of (L,) alone
        ``dim`` too."""
        *channels, length = shape
        longest = max(p for p in range(1, math.ceil(length / PATCHES) + 1) if length % p == 0)
        found = {"in_channels": math.prod(channels), "input_size": (length,), "patch_size": longest}
        return found if channels else {**found, "dim": length}
