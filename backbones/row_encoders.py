"""Encoders of conditions that are many rows: sets, words, and vectors in a row. Rows are padded by what is
missing; a sample without a row is met by a learned null, as one whose condition was dropped is."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.encoders import sinusoid
from backbones.pooling import Pool, summed

MANY = 16  # rows of a usual set: what their sum is divided by
# of waves along standardised places, in radians: the first frequency, and from each to the next
LONGEST, OCTAVE = 0.5, 1.5


class Rows(nn.Module):
    """What encoders of rows share: an MLP of each row, pooling, and the null."""

    def __init__(self, dim: int, *, pooling: str, heads: int, pooled: int = 0, width: int | None = None):
        super().__init__()
        width = width or dim
        self.row = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.pool = Pool(width, pooling=pooling, heads=heads)
        self.out = nn.Sequential(nn.Linear(pooled or dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.null = nn.Parameter(torch.zeros(dim))
        nn.init.normal_(self.null, std=0.02)

    def finished(self, pooled: Tensor, there: Tensor) -> Tensor:
        """(B, D), the null where a sample has no row."""
        out = self.out(pooled.to(self.null.dtype))
        return torch.where(there.any(1)[:, None], out, self.null.to(out.dtype))


class SetEncoder(Rows):
    """(B, K, f) sets of any number of rows, those of NaN absent, to (B, D): an MLP of each row, the mean and
    the sum of what it makes and the number of rows, and an MLP of these (DeepSets, Zaheer et al. 1703.06114).
    ``pooling=attention`` weighs the rows of the mean. Neither the order of rows nor absent ones change it.

    ``width``: of a row, ``dim`` unless given. ``sums``: the mean and the sum of the rows as they are stand
    beside those of what the MLP makes of them. Of the columns ``along``, which say where something was seen,
    ``waves`` sines and cosines are added to a row, alone and times its other columns: what a sum of such rows
    tells is then linear in what was seen."""

    def __init__(
        self,
        features: int,
        dim: int,
        *,
        pooling: str = "mean",
        heads: int = 4,
        width: int | None = None,
        waves: int = 0,
        along: tuple[int, ...] = (),
        sums: bool = False,
    ):
        width, along = width or dim, tuple(along)
        waves = waves if along else 0
        each = len(along) * (1 + 2 * waves)  # of the places: themselves and their waves
        more = 2 * len(along) * waves + each * (features - len(along)) if waves else 0
        pooled = 2 * width + 1 + (2 * (features + more) if sums else 0)
        super().__init__(dim, pooling=pooling, heads=heads, pooled=pooled, width=width)
        self.features, self.along, self.sums = features, along, sums
        self.others = tuple(k for k in range(features) if k not in self.along)
        self.frequencies = tuple(LONGEST * OCTAVE**k for k in range(waves))
        self.first = nn.Linear(features + more, width)

    def waved(self, rows: Tensor) -> Tensor:
        """(..., features) with waves of the places and their products."""
        if not self.frequencies:
            return rows
        places = rows[..., self.along]
        angles = places[..., None] * places.new_tensor(self.frequencies)
        waves = torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)
        every = torch.cat([places, waves], -1)
        products = rows[..., self.others][..., None] * every[..., None, :]
        return torch.cat([rows, waves, products.flatten(-2)], -1)

    def forward(self, rows: Tensor) -> Tensor:
        there = ~rows.isnan().any(-1)  # (B, K)
        known = torch.where(there[..., None], rows, 0.0).to(self.null.dtype)
        seen = self.waved(known)
        h = self.row(self.first(seen))
        count = there.sum(1, keepdim=True).float()
        pooled = [self.pool(h, there), summed(h.float(), there) / MANY, (1 + count).log()]
        if self.sums:
            total = summed(seen.float(), there)
            pooled += [total / count.clamp(min=1), total / MANY]
        return self.finished(torch.cat(pooled, 1), there)

    def absent(self, rows: int, device: torch.device) -> Tensor:
        return torch.full((rows, 1, self.features), torch.nan, device=device)


class InOrder(Rows):
    """Rows of which each has a place, whose sinusoid is added to it."""

    def placed(self, h: Tensor, there: Tensor) -> Tensor:
        """(B, L, D) to (B, D)."""
        places = sinusoid(torch.arange(h.shape[1], device=h.device), h.shape[-1])
        h = self.row(h + places.to(h.dtype))
        return self.finished(self.pool(h, there), there)


class VectorEncoder(InOrder):
    """(B, L, f) vectors in a row, those of NaN absent, to (B, D)."""

    def __init__(self, features: int, dim: int, *, pooling: str = "attention", heads: int = 4):
        super().__init__(dim, pooling=pooling, heads=heads)
        self.first = nn.Linear(features, dim)

    def forward(self, rows: Tensor) -> Tensor:
        there = ~rows.isnan().any(-1)  # (B, L)
        known = torch.where(there[..., None], rows, 0.0).to(self.null.dtype)
        return self.placed(self.first(known), there)

    def absent(self, rows: int, device: torch.device) -> Tensor:
        return torch.full((rows, 1, self.first.in_features), torch.nan, device=device)


class WordEncoder(InOrder):
    """(B, L) numbers of words to (B, D), −1 where there is none and ``vocabulary`` for a word that is not in
    it, which begins as the mean of all words: training on whole captions meets none."""

    def __init__(self, vocabulary: int, dim: int, *, pooling: str = "attention", heads: int = 4):
        super().__init__(dim, pooling=pooling, heads=heads)
        self.words = nn.Embedding(vocabulary, dim)
        self.unknown = nn.Parameter(torch.zeros(dim))

    def forward(self, rows: Tensor) -> Tensor:
        table = self.words.weight
        every = torch.cat([table, (self.unknown + table.mean(0))[None]])
        return self.placed(F.embedding(rows.clamp(0, len(table)), every), rows >= 0)

    def absent(self, rows: int, device: torch.device) -> Tensor:
        return torch.full((rows, 1), -1, dtype=torch.int64, device=device)
