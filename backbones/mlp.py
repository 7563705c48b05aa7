"""A small MLP for points: (B, d) and a time to (B, d_out), with class labels or numbers when there are
any."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.encoders import ClassEncoder, NumericEncoder, TimeEncoder
from backbones.types import Cond, RunContext


class MLPBackbone(nn.Module):
    """``net(x, t, cond)``: (B, d), (B,) on the trained time scale → (B, d). The output starts at 0."""

    def __init__(
        self,
        *,
        dim: int = 2,
        width: int = 256,
        depth: int = 3,
        num_classes: int = 0,
        num_numeric: int = 0,
        learn_sigma: bool = False,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.inp = nn.Linear(dim, width)
        self.t_embedder = TimeEncoder(width)
        self.y_embedder = ClassEncoder(num_classes, width) if num_classes else None
        self.n_embedder = NumericEncoder(num_numeric, width) if num_numeric else None
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) for _ in range(depth)
        )
        self.out = nn.Linear(width, dim * (2 if learn_sigma else 1))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, x: Tensor, t: Tensor, cond: Cond | None = None, ctx: RunContext | None = None
    ) -> Tensor:
        cond = cond if cond is not None else Cond()
        c = self.t_embedder(t.expand(len(x)))
        if self.y_embedder is not None:
            label = (
                cond.label
                if cond.label is not None
                else torch.full((len(x),), -1, dtype=torch.int64, device=x.device)
            )
            c = c + self.y_embedder(label)
        if self.n_embedder is not None:
            count = self.n_embedder.values.in_features
            c = c + self.n_embedder(
                cond.numeric if cond.numeric is not None else x.new_full((len(x), count), torch.nan)
            )
        h = self.inp(x) + c
        for block in self.blocks:
            h = h + block(F.silu(h))
        return self.out(F.silu(h))
