"""DiT: a transformer over patches, conditioned by adaptive layer norm with zero-initialised gates (Peebles &
Xie, 2212.09748).

    c = time(t) + class(y) + numeric(n);   (shift, scale, gate)×2 of every block = Linear(SiLU(c)), one matrix
                                           product for all blocks
    h += gate1 · attention(LN(h)(1 + scale1) + shift1);   h += gate2 · MLP(LN(h)(1 + scale2) + shift2)

At initialisation the output is exactly 0. B batch, N tokens, D width, C channels, P patch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.attention.specs import Full, among
from backbones.axes import Axes
from backbones.caching.order import order_of
from backbones.caching.reuse import through
from backbones.encoders import (
    ClassEncoder,
    NamedEncoders,
    NumericEncoder,
    TimeEncoder,
    conditioned,
    grid_positions,
)
from backbones.patches import IdHead, Ids, KnownPatches, Patches, PatchHead
from backbones.pointwise import norm_modulated
from backbones.stem import ConvHead, ConvStem
from backbones.transformer import Attention, Block, TimeAttention
from backbones.types import Cond, RunContext

__all__ = ["SIZES", "Attention", "Block", "DiT", "TimeAttention", "autocast_dtype"]
SIZES = {  # width, depth, heads; S, B, L, XL are the paper's, the others ours
    "Mi": (128, 4, 2),
    "Ti": (192, 6, 3),
    "S": (384, 12, 6),
    "B": (768, 12, 12),
    "L": (1024, 24, 16),
    "XL": (1152, 28, 16),
}


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """The dtype that autocast gives matrix products on x's device, None where it is off."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if kind != "meta" and torch.is_autocast_enabled(kind) else None


class DiT(nn.Module):
    """``net(x, t, cond)``: (B, C, H, W), (B,) on the trained time scale, Cond(label=(B,), numeric=(B, K)) →
    (B, C_out, H, W). Curves (B, L) and (B, C, L) with ``input_size=(L,)``, clips (B, T, C, H, W) with
    ``input_size=(T, H, W)``: blocks see one frame, and attention over time stands in front of each.

    ``size`` ("S/2", "Ti/4") sets width, depth, heads and patch. ``num_classes=0``: no labels.
    ``null_class=False``: no row for a missing label. ``fields``: conditions of other names
    (`backbones.encoders.NamedEncoders`). ``out_channels`` (``in_channels`` by default);
    ``learn_sigma`` doubles them (the second half is the variance head, or another). ``stem_channels``
    replaces the linear patches by a convolutional stem and head; the patch is then 2^len(stem_channels). Any
    sides divisible by the patch work; positions stretch to the native grid's extent.
    ``patch_size``: one number, or one for each side (`backbones.axes.Axes`). ``vocab``: of tokens, ids (B, L)
    or (B, H, W) → logits (B, ..., V), by patches of one place. ``known``: it is told which entries are given
    (`Cond.known`). ``rows``: samples are (B, n, d), a token a row; those that are not `Cond.valid` are
    padding, which the others do not see and of which it says 0. ``periodic``: entries are angles (radians),
    seen by their cosine and sine, so that a whole turn changes nothing. ``rotary``: attention of
    samples of one side also sees how far apart tokens lie (`backbones.rotary`). ``frequency_shift`` and
    ``mlp_norm_eps`` are 1 and 1e-5 in diffusers' version.
    """

    pos_embed: Tensor
    identity = ("temporal", "known_embedder")  # parts that begin as that
    # see backbones.inference
    low_precision = ("stem", "x_embedder", "blocks", "temporal", "head", "final_layer", "modulation")

    def __init__(
        self,
        *,
        size: str | None = None,
        input_size: int | tuple[int, ...] = 32,
        patch_size: int | tuple[int, ...] = 2,
        in_channels: int = 4,
        out_channels: int | None = None,
        hidden_size: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        num_classes: int = 1000,
        null_class: bool = True,
        num_numeric: int = 0,
        fields: Sequence[Mapping[str, Any]] = (),
        learn_sigma: bool = False,
        stem_channels: tuple[int, ...] = (),
        stem_blocks: int = 2,
        frequency_shift: int = 0,
        mlp_norm_eps: float = 1e-6,
        vocab: int = 0,
        known: bool = False,
        rows: bool = False,
        periodic: bool = False,
        rotary: bool = False,
    ):
        super().__init__()
        if size is not None:
            letters, _, patch = size.partition("/")
            if letters not in SIZES or not patch.isdigit():
                raise ValueError(f"got DiT size {size!r}, expected {'|'.join(SIZES)}/PATCH, such as 'S/2'")
            (hidden_size, depth, num_heads), patch_size = SIZES[letters], int(patch)
        if stem_channels:
            patch_size = 2 ** len(stem_channels)
        self.axes = axes = Axes(input_size, patch_size, stem=bool(stem_channels), rows=rows)
        self.periodic = periodic
        if hidden_size % num_heads:
            raise ValueError(
                f"got width {hidden_size} and {num_heads} heads, expected a width divisible by the heads"
            )
        if rotary and (axes.count > 1 or hidden_size // num_heads % 2):
            raise ValueError(
                f"got rotary=true with sides {axes.sides} and heads of width {hidden_size // num_heads}, "
                "expected samples of one side and an even width"
            )
        self.patch_size, self.grid, self.num_classes = patch_size, axes.flat(axes.native), num_classes
        self.in_channels, self.out_channels, self.learn_sigma = (
            in_channels,
            (out_channels or in_channels) * (2 if learn_sigma else 1),
            learn_sigma,
        )

        self.t_embedder = TimeEncoder(hidden_size, shift=frequency_shift)
        self.y_embedder = ClassEncoder(num_classes, hidden_size, null=null_class) if num_classes else None
        self.n_embedder = NumericEncoder(num_numeric, hidden_size) if num_numeric else None
        self.register_buffer("pos_embed", grid_positions(hidden_size, self._along(self.grid))[None])  # frozen
        self.blocks = nn.ModuleList(
            Block(hidden_size, num_heads, mlp_ratio, mlp_norm_eps, rotary) for _ in range(depth)
        )
        self.temporal: nn.ModuleList | None = None
        inner, outer = axes.channels(in_channels * (1 + periodic)), axes.channels(self.out_channels)
        if stem_channels:
            self.stem: ConvStem | None = ConvStem(inner, stem_channels, stem_blocks, hidden_size)
            self.head: ConvHead | None = ConvHead(outer, stem_channels, stem_blocks, hidden_size)
            extra = [2 * b.channels for b in (*self.stem.blocks, *self.head.blocks)]
        else:
            self.stem, self.head, extra = None, None, []
            self.x_embedder: Ids | Patches = Patches(inner, hidden_size, axes.square)
            self.final_layer: IdHead | PatchHead = PatchHead(outer, hidden_size, axes.square)
        if vocab:
            if stem_channels or axes.clips or rows or {*axes.patch} != {1}:
                raise ValueError(
                    f"got vocab={vocab} with patches of {patch_size}, sides {axes.sides} and rows={rows}, "
                    "expected patch_size=1, one or two sides, no stem and no rows"
                )
            self.x_embedder, self.final_layer = Ids(vocab, hidden_size), IdHead(vocab, hidden_size)
        self.vocab = vocab
        self.final_norm = nn.LayerNorm(hidden_size, eps=1e-6, elementwise_affine=False)
        self.splits = [6 * hidden_size] * depth + [2 * hidden_size] + extra
        # every block's adaLN and the final layer's, in one product
        self.modulation = nn.Linear(hidden_size, sum(self.splits))
        self._initialise()
        self.f_embedders = NamedEncoders(fields, hidden_size)
        self.known_embedder = KnownPatches(axes.channels(1), hidden_size, axes.square) if known else None
        if axes.clips:
            self.temporal = nn.ModuleList(TimeAttention(hidden_size, num_heads) for _ in range(depth))

    def _initialise(self) -> None:
        """Xavier for the transformer's linears, N(0, 0.02) for embeddings and the time MLP, zeros for
        modulation and output."""
        for module in [*self.blocks.modules(), *self.children()]:
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for module in self.t_embedder.mlp:
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
        if self.y_embedder is not None:
            nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        if self.stem is None:
            self.x_embedder.initialise()
            self.final_layer.initialise()

    def _along(self, grid: tuple[int, int]) -> tuple[int, ...]:
        """The axes of a grid that positions count."""
        return grid[1:] if self.axes.count == 1 else grid

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """(1, N, D) positions of a grid; another grid than the native one is stretched to the same extent."""
        if grid == self.grid:
            return self.pos_embed
        native, along = self._along(self.grid), self._along(grid)
        return grid_positions(self.pos_embed.shape[-1], along, native=native)[None].to(self.pos_embed)

    def encode(self, t: Tensor, cond: Cond) -> Tensor:
        """(B, D) conditioning vector. A condition that is absent counts as missing."""
        time, numbers = self.t_embedder(t), self.n_embedder
        return conditioned(time, cond, t, label=self.y_embedder, numeric=numbers, named=self.f_embedders)

    def tokens(self, shape: Sequence[int]) -> int:
        """How many patches a sample of a shape has."""
        return self.axes.tokens((1, *shape) if self.vocab else shape)

    def forward(
        self, x: Tensor, t: Tensor, cond: Cond | None = None, ctx: RunContext | None = None
    ) -> Tensor:
        given, x = x.shape, x[:, None] if self.vocab else x
        along = self.axes.grid(x.shape)
        grid, frames = self.axes.flat(along), along[0] if self.axes.clips else 1
        if t.ndim == 0:
            t = t.expand(len(x))
        cond = cond if cond is not None else Cond()
        c = self.encode(t, cond)  # (B, D)
        joined = self.modulate_all(c, autocast_dtype(x))
        if frames > 1:
            joined = joined.repeat_interleave(frames, dim=0)
        parts = joined.split(self.splits, dim=1)
        count, down = len(self.blocks), 0 if self.stem is None else len(self.stem.blocks)
        per_block, final, extra = parts[:count], parts[count], list(parts[count + 1 :])
        first, last = (self.stem or self.x_embedder), (self.head or self.final_layer)
        seen = self.axes.frames(x)
        seen = torch.cat([seen.cos(), seen.sin()], 1) if self.periodic else seen
        h, rest = first(seen, extra[:down])  # (B·F, N, D)
        h = h + self.positions(grid)
        if self.known_embedder is not None:
            known = cond.known[:, None] if self.vocab and cond.known is not None else cond.known
            h = h + self.known_embedder(self.axes.frames(self.axes.known(known, x)))

        valid = cond.valid if self.axes.rows else None
        sees = Full() if valid is None else among(valid)

        def blocks(h: Tensor) -> Tensor:
            order = order_of(ctx, grid, h.device)
            h = h if order is None else h[:, order]
            for i, (block, modulation) in enumerate(zip(self.blocks, per_block)):
                if self.temporal is not None:
                    h = self.temporal[i](h, frames, ctx)
                h = block(h, modulation, RunContext.at(ctx, i), sees)
            return h if order is None else torch.empty_like(h).index_copy_(1, order, h)

        h = through(blocks, h, ctx, self)
        shift, scale = final.chunk(2, dim=1)
        h = norm_modulated(h, shift, scale, self.final_norm.eps)
        out = last(h, grid, rest, extra[down:])
        if self.vocab:
            return out.view(*given, -1)
        return self.axes.samples(out, x, 2 if self.learn_sigma else 1, valid)

    def modulate_all(self, c: Tensor, low: torch.dtype | None) -> Tensor:
        """(B, sum(splits)) of every block, in autocast's dtype. In training the product itself is never cast:
        few rows and many weights, casting costs more."""
        if low is None:
            return self.modulation(F.silu(c))
        with torch.autocast(c.device.type, enabled=False):
            return self.modulation(F.silu(c.to(self.modulation.weight.dtype))).to(low)
