"""The order of tokens: by squares of a grid, a window over which is local in two directions."""

from functools import lru_cache

import torch
from torch import Tensor

from backbones.types import RunContext


def order_of(ctx: RunContext | None, grid: tuple[int, int], device: torch.device) -> Tensor | None:
    """(N,) places of the raster in the plan's order; None where tokens stay as they lie."""
    plan = None if ctx is None else ctx.plan
    if plan is None or not plan.tile or not plan.attention or plan.tile >= max(grid):
        return None
    return tiles(grid, plan.tile).to(device)


@lru_cache(maxsize=16)
def tiles(grid: tuple[int, int], side: int) -> Tensor:
    """(N,) places of a raster (h, w), square after square; those at the edges are cut."""
    with torch.inference_mode(False):
        y, x = torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij")
        keys = torch.stack([y // side, x // side, y % side, x % side]).flatten(1)  # (4, N)
        size = max(grid) + 1
        return (((keys[0] * size + keys[1]) * size + keys[2]) * size + keys[3]).argsort()
