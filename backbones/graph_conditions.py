"""Encoders of a molecule's properties (Liu et al. 2401.13858, section 3): each condition, or group of them,
has one of its own and a learned null.

clusters    softmax over D soft clusters of the number(s), then a linear map: which interval of the property
  it is
fourier     the number beside sines and cosines of it, then an MLP
classes     a table
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KINDS = ("clusters", "fourier", "classes")
BANDS = 8


class Fourier(nn.Module):
    """(B, K) to (B, K·(1 + 2·BANDS)): v, sin(π 2^j v / 8), cos(...)."""

    def forward(self, v: Tensor) -> Tensor:
        # (B, K, bands)
        angles = v[..., None] * (math.pi / 8 * 2.0 ** torch.arange(BANDS, device=v.device, dtype=v.dtype))
        return torch.cat([v, angles.sin().flatten(1), angles.cos().flatten(1)], dim=1)


class ConditionEncoder(nn.Module):
    """(B, K) numbers to (B, D). A sample of which any number is missing (NaN), or any class is not a class,
    gets the null."""

    def __init__(self, kind: str, columns: int, dim: int, *, count: int = 2):
        super().__init__()
        self.kind, self.count = kind, count
        if kind == "classes":
            self.embedding_table = nn.Embedding(count + 1, dim)  # the last row is the null
        else:
            self.embedding_drop = nn.Embedding(1, dim)
            first: list[nn.Module] = [nn.Linear(columns, dim), nn.Softmax(dim=1)]
            if kind == "fourier":
                first = [Fourier(), nn.Linear(columns * (1 + 2 * BANDS), dim), nn.SiLU()]
            self.mlp = nn.Sequential(*first, nn.Linear(dim, dim, bias=kind == "fourier"))

    def forward(self, values: Tensor, missing: Tensor) -> Tensor:
        """``missing`` (B,) bool."""
        if self.kind == "classes":
            code = values[:, 0].nan_to_num(-1).round().long()
            outside = missing | (code < 0) | (code >= self.count)
            return self.embedding_table(torch.where(outside, self.count, code))
        weight = self.embedding_drop.weight
        known = self.mlp(torch.where(missing[:, None], 0.0, values.nan_to_num()).to(weight.dtype))
        return torch.where(missing[:, None], weight, known)


class Conditions(nn.Module):
    """Several encoders whose outputs add up. ``groups``: of each encoder its kind, its columns of
    `Cond.numeric` and, for classes, their ``count``. ``together``: one missing number makes all conditions of
    the sample missing, as in the original."""

    def __init__(self, groups: Sequence[Mapping[str, Any]], dim: int, *, together: bool = False):
        super().__init__()
        self.columns, self.together = [tuple(g["columns"]) for g in groups], together
        for g in groups:
            if g.get("kind") not in KINDS or not g["columns"] or set(g) - {"kind", "columns", "count"}:
                raise ValueError(
                    f"got the condition group {dict(g)}, expected kind ({', '.join(KINDS)}), columns, and "
                    "count for classes"
                )
        self.encoders = nn.ModuleList(
            ConditionEncoder(g["kind"], len(g["columns"]), dim, count=g.get("count", 2)) for g in groups
        )

    @property
    def width(self) -> int:
        """Numbers that a sample has, at least."""
        return 1 + max(max(c) for c in self.columns)

    def absent(self, rows: int, device: torch.device) -> Tensor:
        return torch.full((rows, self.width), torch.nan, device=device)

    def forward(self, numeric: Tensor) -> Tensor:
        """(B, K) numbers, NaN = missing, to (B, D). Raises ``ValueError`` for too few columns."""
        if numeric.shape[1] < self.width:
            raise ValueError(
                f"got {numeric.shape[1]} conditions, expected {self.width}; pass NaN for those that "
                "are missing"
            )
        gone = numeric.isnan()
        total: Tensor | None = None
        for columns, encoder in zip(self.columns, self.encoders):
            own = gone[:, list(columns)]
            missing = gone[:, : self.width].any(1) if self.together else own.any(1)
            part = encoder(numeric[:, list(columns)], missing)
            total = part if total is None else total + part
        assert total is not None
        return total


def grouped(num_numeric: int, kind: str, groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The groups of a config: those it gives, otherwise one of ``kind`` for each number."""
    return (
        [dict(g) for g in groups] if groups else [{"kind": kind, "columns": (i,)} for i in range(num_numeric)]
    )


def modulated(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LN(h)(1 + scale) + shift; (B, n, D), (B, D)."""
    return torch.addcmul(shift[:, None], F.layer_norm(h, h.shape[-1:]), 1 + scale[:, None])
