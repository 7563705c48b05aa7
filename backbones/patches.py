"""Pictures ↔ sequences of patches, and what the backbones without attention share: learned positions, dropped
paths, sizes of grids."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def grid_of(height: int, width: int, patch: int) -> tuple[int, int]:
    """Patches down and across. Raises ``ValueError`` for sides that patches do not fill."""
    if height % patch or width % patch:
        raise ValueError(
            f"got pictures of {height}×{width}, expected multiples of the patch size {patch}; pad or "
            "resize them"
        )
    return height // patch, width // patch


def unpatchify(tokens: Tensor, grid: tuple[int, int], patch: int, channels: int) -> Tensor:
    """(B, N, p·p·C), channel fastest, to (B, C, H, W)."""
    rows, columns = grid
    return (
        tokens.view(-1, rows, columns, patch, patch, channels)
        .permute(0, 5, 1, 3, 2, 4)
        .reshape(-1, channels, rows * patch, columns * patch)
    )


def resized(positions: Tensor, native: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """(1, N, D) learned positions of another grid, interpolated so that it covers the same extent."""
    if grid == native:
        return positions
    table = positions.view(1, *native, -1).permute(0, 3, 1, 2)
    return F.interpolate(table, size=grid, mode="bilinear", align_corners=True).flatten(2).transpose(1, 2)


class DropPath(nn.Module):
    """In training a sample's branch is left out with probability ``rate`` and scaled by 1/(1 − rate)
    otherwise (Huang et al. 1603.09382)."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device, dtype=torch.float32) >= self.rate
        return x * (kept / (1 - self.rate)).to(x.dtype)


def named_size(size: str, sizes: dict[str, tuple[int, int]], family: str) -> tuple[int, int, int]:
    """(depth, width, patch) of a name such as ``S/2``. Raises ``ValueError`` for one that is not there."""
    letters, _, patch = size.partition("/")
    if letters not in sizes or not patch.isdigit():
        raise ValueError(f"got {family} size {size!r}, expected {'|'.join(sizes)}/PATCH, such as 'S/2'")
    return (*sizes[letters], int(patch))
