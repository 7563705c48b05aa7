"""An encoder of arrays of one, two or three axes, patched as pictures are: matrices, curves, past frames."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.encoders import grid_positions
from backbones.row_encoders import Rows

MOST = {1: 32, 2: 8, 3: 4}  # patches along an axis, where none are asked for


class FieldEncoder(Rows):
    """(B, C, *sides) arrays, or (B, *sides) without ``channels``, to (B, D): patches with the sinusoids of
    their places on every axis, pooled. ``frames``: channels stand behind the first side, (B, T, C, H, W).
    ``patch``: a side of a patch, or one for each axis; what patches leave over at the end is filled up.
    Missing entries (NaN) are met by a learned vector each of a patch, a missing array by one null. Raises
    ``ValueError`` for sides that are none, and for patches that do not go with them."""

    def __init__(
        self,
        sides: Sequence[int],
        dim: int,
        *,
        channels: int = 0,
        frames: bool = False,
        patch: int | Sequence[int] = 0,
        pooling: str = "attention",
        heads: int = 4,
    ):
        super().__init__(dim, pooling=pooling, heads=heads)
        self.sides, self.channels, self.frames = tuple(sides), channels, frames
        if len(self.sides) not in MOST or min(self.sides) < 1:
            raise ValueError(f"got sides {list(sides)}, expected one to three of at least 1")
        whole = [patch] * len(self.sides) if isinstance(patch, int) else list(patch)
        if len(whole) != len(self.sides) or min(whole) < 0:
            raise ValueError(f"got patch={patch} for the sides {list(sides)}, expected one for each axis")
        self.patch = tuple(p or math.ceil(s / MOST[len(self.sides)]) for p, s in zip(whole, self.sides))
        size = math.prod(self.patch) * max(channels, 1)
        self.values, self.missing = nn.Linear(size, dim), nn.Linear(size, dim, bias=False)

    def forward(self, array: Tensor) -> Tensor:
        patches, grid = self.patches(array)  # (B, L, size)
        lost = patches.isnan()
        known = torch.where(lost, 0.0, patches).to(self.null.dtype)
        h = self.values(known) + self.missing(lost.to(self.null.dtype))
        h = self.row(h + grid_positions(h.shape[-1], grid).to(h))
        there = torch.ones(h.shape[:2], dtype=torch.bool, device=h.device)
        seen = ~array.isnan().flatten(1).all(1)
        return self.finished(self.pool(h, there), there & seen[:, None])

    def patches(self, array: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """(B, L, channels · patch) in the order of the axes, and how many there are along each."""
        n = len(self.sides)
        if self.channels == 0:
            array = array[:, None]
        elif self.frames:
            array = array.movedim(2, 1)
        over = [(-s) % p for s, p in zip(array.shape[2:], self.patch)]
        array = F.pad(array, [v for o in reversed(over) for v in (0, o)], value=torch.nan)
        grid = tuple(s // p for s, p in zip(array.shape[2:], self.patch))
        cut = array.reshape(*array.shape[:2], *(v for pair in zip(grid, self.patch) for v in pair))
        order = (0, *(2 + 2 * i for i in range(n)), 1, *(3 + 2 * i for i in range(n)))
        return cut.permute(order).reshape(len(array), math.prod(grid), -1), grid

    def absent(self, rows: int, device: torch.device) -> Tensor:
        middle = [self.channels] if self.channels else []
        shape = [self.sides[0], *middle, *self.sides[1:]] if self.frames else [*middle, *self.sides]
        return torch.full((rows, *shape), torch.nan, device=device)
