"""Samples of one to three axes as pictures, which networks cut into patches.

    curves    (B, L) or (B, C, L)    (B, C, 1, L)
    rows      (B, n, d)              (B, d, 1, n)
    pictures  (B, C, H, W)           as they are
    clips     (B, T, C, H, W)        (B·F, p·C, H, W)

Of a clip p frames, as deep as a patch is, are the channels of one picture.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

ROWS = "rows (B, n, d)"
KINDS = {1: "curves (B, L) or (B, C, L)", 2: "pictures (B, C, H, W)", 3: "clips (B, T, C, H, W)"}


class Axes:
    """``sides``: of a sample, without its channels; one number is that of a square. ``patch``: along each;
    one number is along all but the frames of clips, which are patches by themselves. ``stem``: convolutions
    make the patches; ``rows``: samples of one side are (B, n, d), a token a row. Raises ``ValueError`` for
    other numbers of sides, for patches that do not fill them, for curves with a stem, and for rows in larger
    patches."""

    def __init__(
        self,
        sides: int | Sequence[int],
        patch: int | Sequence[int],
        *,
        stem: bool = False,
        rows: bool = False,
    ):
        self.sides = (sides, sides) if isinstance(sides, int) else tuple(sides)
        self.count = len(self.sides)
        if self.count not in KINDS or min(self.sides) < 1:
            raise ValueError(f"got the sides {self.sides}, expected one to three, each at least 1")
        self.patch = (
            ((1, patch, patch) if self.count == 3 else (patch,) * self.count)
            if isinstance(patch, int)
            else tuple(patch)
        )
        if len(self.patch) != self.count or min(self.patch) < 1:
            raise ValueError(
                f"got patches of {patch} for samples of {self.count} "
                f"side{'s' if self.count > 1 else ''} {self.sides}, expected one number, or one for each side"
            )
        if stem and self.count == 1:
            raise ValueError(
                f"got stem_channels for curves of {self.sides[0]}, expected none: their patches are linear"
            )
        if rows and self.patch != (1,):
            raise ValueError(
                f"got rows=true with patches of {patch} and sides {self.sides}, expected patch_size=1 and "
                "one side: a row is a token"
            )
        self.rows, self.kind = rows, ROWS if rows else KINDS[self.count]
        self.native = self._grid(self.sides)

    @property
    def clips(self) -> bool:
        return self.count == 3

    @property
    def square(self) -> tuple[int, int]:
        """Down and across of a patch, as pictures have it."""
        return (1, self.patch[0]) if self.count == 1 else (self.patch[-2], self.patch[-1])

    def channels(self, count: int) -> int:
        """Of a picture, where a sample has ``count``."""
        return count * (self.patch[0] if self.clips else 1)

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Patches along each side of samples (B, ...). Raises ``ValueError`` for samples of other axes, and
        for sides that patches do not fill."""
        if len(shape) - 1 not in ((1, 2) if self.count == 1 and not self.rows else (self.count + 1,)):
            raise ValueError(f"got samples of shape {tuple(shape)}, expected {self.kind}")
        if self.rows:
            return self._grid((shape[1],))
        return self._grid((shape[1], *shape[3:]) if self.clips else tuple(shape[-self.count :]))

    def _grid(self, sides: tuple[int, ...]) -> tuple[int, ...]:
        if any(side % p or not side for side, p in zip(sides, self.patch)):
            size = self.patch[0] if len({*self.patch}) == 1 else self.patch
            kind, got = self.kind.partition(" ")[0], "×".join(map(str, sides))
            raise ValueError(
                f"got {kind} of {got}, expected multiples of the patch size {size}; pad or resize them"
            )
        return tuple(side // p for side, p in zip(sides, self.patch))

    def flat(self, grid: tuple[int, ...]) -> tuple[int, int]:
        """Patches down and across of one picture."""
        return (1, grid[0]) if self.count == 1 else (grid[-2], grid[-1])

    def below(self, grid: tuple[int, ...]) -> tuple[int, int]:
        """Patches down and across of a tall picture."""
        down, across = self.flat(grid)
        return (grid[0] * down if self.clips else down), across

    def frames(self, x: Tensor) -> Tensor:
        """Samples (B, ...) as pictures (B·F, C, H, W)."""
        if self.count == 1:
            x = x.mT if self.rows else x
            return x.reshape(len(x), -1, 1, x.shape[-1])
        return x.unflatten(1, (-1, self.patch[0])).flatten(2, 3).flatten(0, 1) if self.clips else x

    def samples(self, y: Tensor, like: Tensor, parts: int = 1, valid: Tensor | None = None) -> Tensor:
        """Pictures (B·F, C, H, W) as samples like ``like``. ``parts``: values for each entry; their channels
        follow each other in pictures, and in samples all of their first axis does. ``valid`` (B, n): which
        rows are real; the others get 0."""
        if self.rows:
            y = y.squeeze(2).unflatten(1, (parts, -1)).mT  # (B, parts, n, d)
            return (y if valid is None else y * valid[:, None, :, None]).flatten(1, 2)
        if self.count == 1:
            return y.squeeze(2) if like.ndim == 3 else y.flatten(1)
        if not self.clips:
            return y
        y = y.unflatten(0, (len(like), -1)).unflatten(2, (self.patch[0], -1)).flatten(1, 2)  # (B, T, C, H, W)
        return y if parts == 1 else torch.cat(y.chunk(parts, dim=2), dim=1)

    def known(self, mask: Tensor | None, x: Tensor) -> Tensor:
        """Which places of samples x (B, ...) are known, as samples (B, ...) of one channel: of those whose
        channels are known in part, the share; none where nothing is said."""
        mask = torch.zeros_like(x, dtype=torch.bool) if mask is None else mask.expand_as(x)
        channels = 2 if self.clips or self.rows else 1
        one = mask.float()
        return one.mean(channels, keepdim=True) if x.ndim > self.count + 1 else one

    def tall(self, x: Tensor) -> Tensor:
        """Samples as one picture each, (B, C, F·H, W): frames below each other."""
        y = self.frames(x)
        return y.unflatten(0, (len(x), -1)).transpose(1, 2).flatten(2, 3) if self.clips else y

    def cut(self, y: Tensor, like: Tensor, parts: int = 1, valid: Tensor | None = None) -> Tensor:
        """Tall pictures as samples: see `samples`."""
        if self.clips:
            frames = like.shape[1] // self.patch[0]
            y = y.unflatten(2, (frames, -1)).transpose(1, 2).flatten(0, 1)
        return self.samples(y, like, parts, valid)

    def tokens(self, shape: Sequence[int]) -> int:
        """How many patches a sample of this shape (without the batch) has."""
        return math.prod(self.grid((1, *shape)))
