"""A convolutional stem and head around a transformer's blocks: from pixels to tokens and back, with skips.

For small pictures this trains several times better than a linear patch embedding. Level 0 has the resolution
of the picture, each further level half of it; the last step down gives the tokens. The head mirrors it:
up-sampling by pixel shuffle, the stem's output joined by concatenation, the last convolution
zero-initialised.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _norm(channels: int) -> nn.GroupNorm:
    groups = next(g for g in (8, 4, 2, 1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


class ModulatedBlock(nn.Module):
    """h + conv(SiLU(norm(conv(SiLU(norm(h))))·(1 + scale) + shift)); the second convolution starts at
    zero."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.norm1, self.norm2 = _norm(channels), _norm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor, modulation: Tensor) -> Tensor:
        shift, scale = modulation[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1) each
        y = self.conv1(F.silu(self.norm1(h)))
        y = torch.addcmul(shift, self.norm2(y), 1 + scale)
        return h + self.conv2(F.silu(y))


class ConvStem(nn.Module):
    """(B, C, H, W) to tokens (B, N, D) and the skips; patch size 2^len(channels)."""

    def __init__(self, in_channels: int, channels: tuple[int, ...], blocks: int, dim: int):
        super().__init__()
        self.first = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        widths = [*channels, dim]
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in zip(widths[:-1], widths[1:])
        )
        self.blocks = nn.ModuleList(ModulatedBlock(channels[-1]) for _ in range(blocks))

    def forward(self, x: Tensor, modulations: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        h = self.first(x.contiguous(memory_format=torch.channels_last))
        skips = [h]
        for level, down in enumerate(self.down):
            if level + 1 == len(self.down):  # the residual blocks sit at the coarsest level above the tokens
                for block, m in zip(self.blocks, modulations):
                    h = block(h, m)
                skips[-1] = h
            h = down(F.silu(h) if level else h)
            skips.append(h)
        return h.flatten(2).transpose(1, 2), skips[:-1]


class ConvHead(nn.Module):
    """Tokens (B, N, D) and the stem's skips back to (B, C_out, H, W)."""

    def __init__(self, out_channels: int, channels: tuple[int, ...], blocks: int, dim: int):
        super().__init__()
        widths = [*channels, dim]
        self.up = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in zip(widths[:-1], widths[1:]))
        self.join = nn.ModuleList(
            nn.Conv2d(2 * a, a, 3 if a == channels[0] else 1, padding=int(a == channels[0])) for a in channels
        )
        self.blocks = nn.ModuleList(ModulatedBlock(channels[-1]) for _ in range(blocks))
        self.last = nn.Conv2d(channels[0], out_channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(
        self, tokens: Tensor, grid: tuple[int, int], skips: list[Tensor], modulations: list[Tensor]
    ) -> Tensor:
        h = tokens.transpose(1, 2).unflatten(2, grid).contiguous(memory_format=torch.channels_last)
        for level in reversed(range(len(self.up))):
            h = F.pixel_shuffle(self.up[level](h), 2)
            h = self.join[level](torch.cat([h, skips[level]], dim=1))
            if level + 1 == len(self.up):
                for block, m in zip(self.blocks, modulations):
                    h = block(h, m)
        return self.last(F.silu(h))


class Frame(nn.Module):
    """Stem and head around any trunk of tokens, their blocks modulated by a condition (B, D). ``open`` gives
    tokens (B, N, D) and what ``close`` needs."""

    def __init__(self, in_channels: int, out_channels: int, channels: tuple[int, ...], blocks: int, dim: int):
        super().__init__()
        self.stem, self.head = (
            ConvStem(in_channels, channels, blocks, dim),
            ConvHead(out_channels, channels, blocks, dim),
        )
        self.splits = [2 * b.channels for b in (*self.stem.blocks, *self.head.blocks)]
        self.modulation = nn.Linear(dim, sum(self.splits)) if self.splits else None
        if self.modulation is not None:
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

    def open(self, x: Tensor, c: Tensor) -> tuple[Tensor, tuple[list[Tensor], list[Tensor]]]:
        parts = [] if self.modulation is None else list(self.modulation(F.silu(c)).split(self.splits, dim=1))
        tokens, skips = self.stem(x, parts[: len(self.stem.blocks)])
        return tokens, (skips, parts[len(self.stem.blocks) :])

    def close(self, tokens: Tensor, grid: tuple[int, int], rest: tuple[list[Tensor], list[Tensor]]) -> Tensor:
        return self.head(tokens, grid, *rest)
