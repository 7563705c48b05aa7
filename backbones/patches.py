"""Pictures ↔ sequences of patches, and what the backbones without attention share: learned positions, dropped
paths, sizes.

A network's first layer is called as ``(x, modulations) → tokens (B, N, D), rest`` and its last one as
``(tokens, (rows, columns), rest, modulations) → x``: `Patches` and `PatchHead`, which keep no rest and take
no modulations, or `backbones.stem.ConvStem` and ``ConvHead``.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.encoders import KnownEmbedder


class Patches(nn.Module):
    """(B, C, H, W) to tokens (B, N, D), one of each patch of ``patch`` rows and columns."""

    def __init__(self, channels: int, dim: int, patch: tuple[int, int]):
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, patch, stride=patch)

    def initialise(self) -> None:
        """Xavier, as of a linear layer."""
        nn.init.xavier_uniform_(self.proj.weight.view(len(self.proj.weight), -1))
        nn.init.zeros_(self.proj.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, modulations: Sequence[Tensor] = ()) -> tuple[Tensor, list[Tensor]]:
        return self.proj(x).flatten(2).transpose(1, 2).contiguous(), []


class PatchHead(nn.Module):
    """Tokens (B, N, D) back to (B, C, H, W)."""

    def __init__(self, channels: int, dim: int, patch: tuple[int, int]):
        super().__init__()
        self.patch, self.channels = patch, channels
        self.linear = nn.Linear(dim, patch[0] * patch[1] * channels)

    def initialise(self) -> None:
        """Zeros."""
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self, tokens: Tensor, grid: tuple[int, int], rest: Sequence[Tensor], modulations: Sequence[Tensor]
    ) -> Tensor:
        return unpatchify(self.linear(tokens), grid, self.patch, self.channels)


class Ids(nn.Module):
    """Ids (B, 1, 1, L) or (B, 1, H, W) of ``vocab`` tokens and the mask to (B, N, D), one of each place."""

    def __init__(self, vocab: int, dim: int):
        super().__init__()
        self.table = nn.Embedding(vocab + 1, dim)

    def initialise(self) -> None:
        """N(0, 0.02), as of labels."""
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, x: Tensor, modulations: Sequence[Tensor] = ()) -> tuple[Tensor, list[Tensor]]:
        return self.table(x.flatten(1)), []


class IdHead(nn.Module):
    """(B, N, D) to logits (B, N, V)."""

    def __init__(self, vocab: int, dim: int):
        super().__init__()
        self.linear = nn.Linear(dim, vocab)

    def initialise(self) -> None:
        """Zeros: every token alike."""
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self, tokens: Tensor, grid: tuple[int, int], rest: Sequence[Tensor], modulations: Sequence[Tensor]
    ) -> Tensor:
        return self.linear(tokens)


class KnownPatches(KnownEmbedder):
    """Masks of known entries, (B, 1, H, W) for pictures, to (B, N, D)."""

    def __init__(self, channels: int, dim: int, patch: tuple[int, int]):
        super().__init__(channels * patch[0] * patch[1], dim)
        self.patch = patch

    def forward(self, known: Tensor) -> Tensor:
        cells = F.unfold(known.to(self.weight.dtype), self.patch, stride=self.patch)  # (B, C·p·q, N)
        return super().forward(cells.transpose(1, 2))


def unpatchify(tokens: Tensor, grid: tuple[int, int], patch: tuple[int, int], channels: int) -> Tensor:
    """(B, N, p·q·C), channel fastest, to (B, C, H, W)."""
    (rows, columns), (p, q) = grid, patch
    return (
        tokens.view(-1, rows, columns, p, q, channels)
        .permute(0, 5, 1, 3, 2, 4)
        .reshape(-1, channels, rows * p, columns * q)
    )


def resized(positions: Tensor, native: tuple[int, ...], grid: tuple[int, ...]) -> Tensor:
    """(1, N, D) learned positions of another grid of one to three axes, interpolated so that it covers the
    same extent."""
    if grid == native:
        return positions
    table = positions.view(1, *native, -1).movedim(-1, 1)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(grid)]
    return F.interpolate(table, size=grid, mode=mode, align_corners=True).flatten(2).transpose(1, 2)


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
