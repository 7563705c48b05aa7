"""Condition encoders: time, class label, numbers, pictures; and the sinusoids of positions.

Missing conditions are met by a learned null: the last row of a class table, one learned vector for each
missing number or for a missing picture. An encoder takes (B, ...) values to (B, D), and says what stands for
a condition that is ``absent`` altogether.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.caching.kept import kept
from backbones.plugins import Registry
from backbones.registry import build
from backbones.types import Cond, RunContext

REGISTRY = Registry(
    "encoders",
    {
        "class": "backbones.encoders:ClassEncoder",
        "numbers": "backbones.encoders:NumericEncoder",
        "picture": "backbones.encoders:PictureEncoder",
        "set": "backbones.row_encoders:SetEncoder",
        "vectors": "backbones.row_encoders:VectorEncoder",
        "words": "backbones.row_encoders:WordEncoder",
        "field": "backbones.field_encoder:FieldEncoder",
    },
)


def sinusoid(t: Tensor, dim: int, *, shift: int = 0) -> Tensor:
    """(B,) times to (B, dim): [cos(t f), sin(t f)], f_j = 10000^(−j/(h − shift)), h = dim // 2, in float32;
    odd dims end in a zero.

    Attention Is All You Need (1706.03762), section 3.5, in the order of ADM/DiT; diffusers uses ``shift=1``.
    """
    half = dim // 2
    frequencies = torch.exp(
        -math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=t.device) / (half - shift)
    )
    angles = t.float()[:, None] * frequencies  # (B, h)
    out = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return F.pad(out, (0, 1)) if dim % 2 else out


def grid_positions(dim: int, grid: tuple[int, ...], *, native: tuple[int, ...] | None = None) -> Tensor:
    """(N, dim) fixed sin-cos positions of a grid of one to three axes, the last one fastest. Of two, the
    first half of the columns encodes x, the second y, token = y·W + x; of three, (T, H, W), they are those of
    (H, W) and of (T,) added.

    With ``native`` the coordinates are stretched so that another grid covers the same extent (for a model
    sampled at another size). Raises ``ValueError`` for a width that the axes do not share evenly.
    """
    if len(grid) == 3:
        at = None if native is None else native[:1]
        of_time = grid_positions(dim, grid[:1], native=at)[:, None]
        return (of_time + grid_positions(dim, grid[1:], native=native and native[1:])).flatten(0, 1)
    if dim % (2 * len(grid)):
        raise ValueError(
            f"got a width of {dim} for {len(grid)}-D positions, expected a multiple of {2 * len(grid)}"
        )
    share = dim // len(grid)  # columns of an axis
    omega = 10000.0 ** (-torch.arange(share // 2, dtype=torch.float64) / (share / 2))
    stretch = [1.0] * len(grid) if native is None else [a / b for a, b in zip(native, grid)]
    places = torch.meshgrid(*(torch.arange(n) * s for n, s in zip(grid, stretch)), indexing="ij")

    def one(m: Tensor) -> Tensor:
        angles = m.reshape(-1, 1).double() * omega  # (N, share/2)
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    return torch.cat([one(m) for m in reversed(places)], dim=1).float()


class TimeEncoder(nn.Module):
    """(B,) times on the trained scale to (B, D): Linear(SiLU(Linear(sinusoid256)))."""

    def __init__(self, dim: int, *, frequencies: int = 256, shift: int = 0):
        super().__init__()
        self.frequencies, self.shift = frequencies, shift
        self.mlp = nn.Sequential(nn.Linear(frequencies, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(sinusoid(t, self.frequencies, shift=self.shift).to(next(self.mlp.parameters()).dtype))


class ClassEncoder(nn.Module):
    """(B,) labels to (B, D). −1 and ``num_classes`` mean "no label": the last row, when the table has one."""

    def __init__(self, num_classes: int, dim: int, *, null: bool = True):
        super().__init__()
        self.num_classes, self.null = num_classes, null
        self.embedding_table = nn.Embedding(num_classes + int(null), dim)

    def forward(self, label: Tensor) -> Tensor:
        if self.null:
            label = torch.where(label < 0, self.num_classes, label)
        return self.embedding_table(label)

    def absent(self, rows: int, device: torch.device) -> Tensor:
        return torch.full((rows,), -1, dtype=torch.int64, device=device)


class NumericEncoder(nn.Module):
    """(B, K) numbers, or (B, ...) of K numbers each, NaN = missing, to (B, D): an MLP of the known values
    plus a learned null vector for each missing one."""

    def __init__(self, count: int, dim: int):
        super().__init__()
        self.values, self.nulls = nn.Linear(count, dim), nn.Parameter(torch.zeros(count, dim))
        self.out = nn.Linear(dim, dim)
        nn.init.normal_(self.nulls, std=0.02)

    def forward(self, numeric: Tensor) -> Tensor:
        numeric = numeric.flatten(1)
        missing = numeric.isnan()
        known = torch.where(missing, torch.zeros_like(numeric), numeric).to(self.nulls.dtype)
        h = self.values(known) + missing.to(self.nulls.dtype) @ self.nulls  # (B, D)
        return self.out(F.silu(h))

    def absent(self, rows: int, device: torch.device) -> Tensor:
        return torch.full((rows, self.values.in_features), torch.nan, device=device)


class PictureEncoder(nn.Module):
    """(B, C, H, W) pictures of any size to (B, D): strided convolutions and a mean over places. One with a
    NaN in it is missing as a whole."""

    def __init__(self, channels: int, dim: int, *, width: int = 64):
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.second = nn.Conv2d(width, dim, 3, stride=2, padding=1)
        self.out, self.null = nn.Linear(dim, dim), nn.Parameter(torch.zeros(dim))
        nn.init.normal_(self.null, std=0.02)

    def forward(self, picture: Tensor) -> Tensor:
        missing = picture.isnan().flatten(1).any(1)[:, None]  # (B, 1)
        known = torch.where(missing[..., None, None], 0.0, picture).to(self.null.dtype)
        h = self.second(F.silu(self.first(known)))
        return torch.where(missing, self.null, self.out(F.silu(h).mean((2, 3))))

    def absent(self, rows: int, device: torch.device) -> Tensor:
        return torch.full((rows, self.first.in_channels, 1, 1), torch.nan, device=device)


class KnownEmbedder(nn.Linear):
    """Masks of known entries, (..., K) of each token or of the whole sample, to (..., D): what a network is
    told beside their clean values. It starts at 0, and is 0 where nothing is known."""

    def __init__(self, count: int, dim: int):
        super().__init__(count, dim, bias=False)
        nn.init.zeros_(self.weight)

    def forward(self, known: Tensor) -> Tensor:
        return super().forward(known.to(self.weight.dtype))


class NamedEncoders(nn.ModuleList):
    """Encoders of `Cond.named`. ``fields``: of each its ``name``, its ``encoder`` (`REGISTRY`) and that one's
    options."""

    def __init__(self, fields: Sequence[Mapping[str, Any]], dim: int):
        super().__init__(
            build(
                REGISTRY,
                f["encoder"],
                "condition encoder",
                {**{k: v for k, v in f.items() if k not in ("name", "encoder")}, "dim": dim},
            )
            for f in fields
        )
        self.names = tuple(f["name"] for f in fields)


def conditioned(
    c: Tensor | None, cond: Cond, like: Tensor, /, ctx: RunContext | None = None, **encoders: Any
) -> Tensor:
    """``c`` (B, D) plus what the encoders make of their conditions, in their order: each is called as its
    condition in `Cond` is, ``named`` all of the others. One that is absent counts as missing. ``like`` (B,
    ...) tells rows and device. A run (``ctx``) without gradients encodes a condition once."""
    named = encoders.pop("named", None)
    pairs = [*encoders.items(), *zip(getattr(named, "names", ()), named or ())]
    for name, encoder in pairs:
        if encoder is None:
            continue
        given = cond.get(name)
        value: Any = encoder.absent(len(like), like.device) if given is None else given
        dtype = c.dtype if c is not None and value.is_floating_point() else value.dtype
        part = _encoded(encoder, value, dtype, ctx)
        c = part if c is None else c + part
    assert c is not None
    return c


def _encoded(encoder: Any, value: Tensor, dtype: torch.dtype, ctx: RunContext | None) -> Tensor:
    """What an encoder makes of a condition; of the very tensor that it saw last in this run, what it made
    then."""
    if ctx is None or torch.is_grad_enabled():
        return encoder(value.to(dtype))
    memory = kept(ctx, encoder, "encoded")
    if memory.get("of") is not value or memory["dtype"] != dtype:
        memory |= {"of": value, "dtype": dtype, "made": encoder(value.to(dtype))}
    return memory["made"]
