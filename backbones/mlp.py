"""A small MLP for points: (B, d) and a time to (B, d_out), with class labels, numbers or other conditions
when there are any."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.caching.reuse import through
from backbones.encoders import (
    ClassEncoder,
    KnownEmbedder,
    NamedEncoders,
    NumericEncoder,
    TimeEncoder,
    conditioned,
)
from backbones.types import Cond, RunContext


class MLPBackbone(nn.Module):
    """``net(x, t, cond)``: (B, d), (B,) on the trained time scale → (B, d). The output starts at 0.
    ``known``: it is told which entries are given (`Cond.known`). ``periodic``: entries are angles (radians),
    seen by their cosine and sine, so that a whole turn changes nothing. ``modulated``: time and conditions
    also scale and shift what each block makes (FiLM, Perez et al. 1709.07871), which begins as no change."""

    identity = ("known_embedder", "modulation")  # what begins as that

    def __init__(
        self,
        *,
        dim: int = 2,
        width: int = 256,
        depth: int = 3,
        num_classes: int = 0,
        num_numeric: int = 0,
        fields: Sequence[Mapping[str, Any]] = (),
        learn_sigma: bool = False,
        known: bool = False,
        periodic: bool = False,
        modulated: bool = False,
    ):
        super().__init__()
        self.num_classes, self.periodic = num_classes, periodic
        self.inp = nn.Linear(dim * (2 if periodic else 1), width)
        self.t_embedder = TimeEncoder(width)
        self.y_embedder = ClassEncoder(num_classes, width) if num_classes else None
        self.n_embedder = NumericEncoder(num_numeric, width) if num_numeric else None
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) for _ in range(depth)
        )
        self.out = nn.Linear(width, dim * (2 if learn_sigma else 1))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.f_embedders = NamedEncoders(fields, width)
        self.known_embedder = KnownEmbedder(dim, width) if known else None
        self.modulation = nn.Linear(width, 2 * width * depth) if modulated else None
        if self.modulation is not None:
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

    def tokens(self, shape: Sequence[int]) -> int:
        """One: a point is seen at once."""
        return 1

    def forward(
        self, x: Tensor, t: Tensor, cond: Cond | None = None, ctx: RunContext | None = None
    ) -> Tensor:
        cond = cond if cond is not None else Cond()
        c = self.t_embedder(t.expand(len(x)))
        c = conditioned(
            c, cond, x, ctx, label=self.y_embedder, numeric=self.n_embedder, named=self.f_embedders
        )
        h = self.inp(torch.cat([x.cos(), x.sin()], -1) if self.periodic else x) + c
        if self.known_embedder is not None and cond.known is not None:
            h = h + self.known_embedder(cond.known.expand_as(x))

        changes = None if self.modulation is None else self.modulation(F.silu(c)).chunk(len(self.blocks), -1)

        def blocks(h: Tensor) -> Tensor:
            for i, block in enumerate(self.blocks):
                if changes is None:
                    h = h + block(F.silu(h))
                    continue
                scale, shift = changes[i].chunk(2, -1)
                first, *rest = cast(nn.Sequential, block)
                made = first(F.silu(h)) * (1 + scale) + shift
                for layer in rest:
                    made = layer(made)
                h = h + made
            return h

        h = through(blocks, h, ctx, self)
        return self.out(F.silu(h))
