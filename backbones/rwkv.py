"""Diffusion-RWKV (Fei et al. 2404.04478): a diffusion backbone whose tokens mix by bidirectional WKV
(`backbones.recurrences.wkv`) at linear cost, conditioned by adaLN-Zero, with long skips between its halves.

A block mixes along the sequence and then along the channels; both first look at the four neighbours of a
patch (``q_shift``: a quarter of the channels from each).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from backbones.axes import Axes
from backbones.caching.reuse import through
from backbones.encoders import (
    ClassEncoder,
    NamedEncoders,
    NumericEncoder,
    TimeEncoder,
    conditioned,
    grid_positions,
)
from backbones.inference import activated
from backbones.patches import DropPath, KnownPatches, Patches, named_size, resized, unpatchify
from backbones.recurrences.forms import exact, form_of
from backbones.recurrences.shift import Modulation, shifted_mixes
from backbones.recurrences.wkv import MODES, bi_wkv
from backbones.stem import Frame
from backbones.types import Cond, RunContext

SIZES = {"S": (13, 384), "B": (25, 384), "M": (25, 512), "L": (37, 768), "H": (37, 1024)}  # depth, width
NEVER = -1e4  # a key whose weight e^k is 0 beside any other
Grid = tuple[int, int]
Mask = Tensor | None  # (B, T, 1)


class SpatialMix(nn.Module):
    """(B, T, D) → (B, T, D) along the sequence. ``mode`` of the WKV; ``key_norm`` normalises its result. What
    is not ``valid`` (B, T, 1) has no weight, and is a 0 to its neighbours."""

    def __init__(self, dim: int, mode: str, key_norm: bool):
        super().__init__()
        self.mode = mode
        self.spatial_decay, self.spatial_first = (
            nn.Parameter(torch.zeros(dim)),
            nn.Parameter(torch.zeros(dim)),
        )
        for name in ("k", "v", "r"):
            setattr(self, f"spatial_mix_{name}", nn.Parameter(torch.ones(1, 1, dim)))
        self.key, self.value, self.receptance, self.output = (
            nn.Linear(dim, dim, bias=False) for _ in range(4)
        )
        self.key_norm = nn.LayerNorm(dim) if key_norm else None

    def forward(
        self, x: Tensor, grid: Grid, modulation: Modulation | None, ctx: RunContext | None, valid: Mask
    ) -> Tensor:
        mixes = (self.spatial_mix_k, self.spatial_mix_v, self.spatial_mix_r)
        form = form_of(ctx)
        k, v, r = shifted_mixes(x, grid, mixes, modulation, form=form, valid=valid)  # type: ignore[arg-type]
        k, v, r = self.key(k), self.value(v), activated(r, self.receptance, "sigmoid")
        k = k if valid is None else k.masked_fill(~valid, NEVER)
        with exact(x.device):
            y = bi_wkv(
                self.spatial_decay / x.shape[1],
                self.spatial_first / x.shape[1],
                k,
                v,
                self.mode,
                form=form_of(ctx),
            )
        y = y if self.key_norm is None else self.key_norm(y)
        return self.output(r * y)


class ChannelMix(nn.Module):
    """(B, T, D) → (B, T, D) along the channels, four times wider inside."""

    def __init__(self, dim: int, key_norm: bool):
        super().__init__()
        self.spatial_mix_k, self.spatial_mix_r = (
            nn.Parameter(torch.ones(1, 1, dim)),
            nn.Parameter(torch.ones(1, 1, dim)),
        )
        self.key, self.value, self.receptance = (
            nn.Linear(dim, 4 * dim, bias=False),
            nn.Linear(4 * dim, dim, bias=False),
            nn.Linear(dim, dim, bias=False),
        )
        self.key_norm = nn.LayerNorm(4 * dim) if key_norm else None

    def forward(
        self, x: Tensor, grid: Grid, modulation: Modulation | None, ctx: RunContext | None, valid: Mask
    ) -> Tensor:
        mixes = (self.spatial_mix_k, self.spatial_mix_r)
        k, r = shifted_mixes(x, grid, mixes, modulation, form=form_of(ctx), valid=valid)
        k = activated(k, self.key, "relu").square()
        k = k if self.key_norm is None else self.key_norm(k)
        return activated(r, self.receptance, "sigmoid") * self.value(k)


class Block(nn.Module):
    """(B, T, D), condition (B, D) → (B, T, D); ``skip`` is an earlier block's output."""

    def __init__(
        self, dim: int, mode: str, key_norm: bool, post_norm: bool, drop: float, *, skip: bool, first: bool
    ):
        super().__init__()
        self.ln0 = nn.LayerNorm(dim) if first else None
        self.ln1, self.ln2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.att, self.ffn, self.drop, self.post_norm = (
            SpatialMix(dim, mode, key_norm),
            ChannelMix(dim, key_norm),
            DropPath(drop),
            post_norm,
        )
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.skip_linear = nn.Linear(2 * dim, dim) if skip else None

    def forward(
        self, h: Tensor, c: Tensor, grid: Grid, skip: Tensor | None, ctx: RunContext | None, valid: Mask
    ) -> Tensor:
        if self.skip_linear is not None and skip is not None:
            h = self.skip_linear(torch.cat([h, skip], dim=-1))
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c)[:, None].chunk(6, dim=-1)
        h = h if self.ln0 is None else self.ln0(h)
        if self.post_norm:
            h = h + self.drop(gate1 * (self.ln1(self.att(h, grid, None, ctx, valid)) * (1 + scale1) + shift1))
            return h + self.drop(
                gate2 * (self.ln2(self.ffn(h, grid, None, ctx, valid)) * (1 + scale2) + shift2)
            )
        h = torch.addcmul(h, gate1, self.drop(self.att(h, grid, (self.ln1, shift1, scale1), ctx, valid)))
        return torch.addcmul(h, gate2, self.drop(self.ffn(h, grid, (self.ln2, shift2, scale2), ctx, valid)))


class DiffusionRWKV(nn.Module):
    """``net(x, t, cond)``: (B, C, H, W), (B,) on the trained time scale, Cond(label=(B,), numeric=(B, K)) →
    (B, C_out, H, W). Curves and clips (`backbones.axes`) are sequences too.

    ``size`` ("S/2") sets depth, width and patch; ``depth`` is odd. ``wkv``: ``paper``, or ``kernel`` for
    released checkpoints. ``key_norm``, ``post_norm`` as in the original. ``drop_path`` rises linearly over
    the blocks, in training only. Any H, W divisible by the patch works, and any number of tokens; learned
    positions are interpolated. ``stem_channels`` and ``stem_blocks`` as in DiT: convolutions around the
    trunk. ``known``, ``rows`` and ``periodic`` as in DiT; decays count in n, padding or not.
    """

    identity = ("known_embedder",)  # what begins as that
    # see backbones.inference
    low_precision = ("frame", "in_blocks", "mid_block", "out_blocks", "final_layer")

    def __init__(
        self,
        *,
        size: str | None = None,
        input_size: int | tuple[int, ...] = 32,
        patch_size: int | tuple[int, ...] = 2,
        in_channels: int = 4,
        out_channels: int | None = None,
        hidden_size: int = 384,
        depth: int = 13,
        num_classes: int = 1000,
        null_class: bool = True,
        num_numeric: int = 0,
        fields: Sequence[Mapping[str, Any]] = (),
        learn_sigma: bool = False,
        wkv: str = "paper",
        key_norm: bool = False,
        post_norm: bool = False,
        drop_path: float = 0.0,
        stem_channels: tuple[int, ...] = (),
        stem_blocks: int = 2,
        known: bool = False,
        rows: bool = False,
        periodic: bool = False,
    ):
        super().__init__()
        if size is not None:
            depth, hidden_size, patch_size = named_size(size, SIZES, "Diffusion-RWKV")
        if depth % 2 == 0 or depth < 3:
            raise ValueError(
                f"got Diffusion-RWKV of depth {depth}, expected an odd number of at least 3: as many "
                "blocks before the middle one as after it"
            )
        if wkv not in MODES:
            raise ValueError(f"got wkv={wkv!r}, expected one of {', '.join(MODES)}")
        patch_size = 2 ** len(stem_channels) if stem_channels else patch_size
        self.axes = axes = Axes(input_size, patch_size, stem=bool(stem_channels), rows=rows)
        self.periodic = periodic
        self.patch_size, self.grid, self.num_classes = patch_size, axes.native, num_classes
        self.in_channels, self.out_channels, self.learn_sigma = (
            in_channels,
            (out_channels or in_channels) * (2 if learn_sigma else 1),
            learn_sigma,
        )
        dim, half = hidden_size, depth // 2
        inner, self.outer = axes.channels(in_channels * (1 + periodic)), axes.channels(self.out_channels)
        if not stem_channels:
            self.patch_embed = Patches(inner, dim, axes.square)
        self.time_embed = TimeEncoder(dim)
        self.label_emb = ClassEncoder(num_classes, dim, null=null_class) if num_classes else None
        self.n_embedder = NumericEncoder(num_numeric, dim) if num_numeric else None
        self.pos_embed = nn.Parameter(grid_positions(dim, self.grid)[None].clone())  # (1, N, D)
        rates = [drop_path * i / depth for i in range(depth)]
        made = [
            Block(dim, wkv, key_norm, post_norm, rates[i], skip=i > half, first=i == 0) for i in range(depth)
        ]
        self.in_blocks, self.mid_block, self.out_blocks = (
            nn.ModuleList(made[:half]),
            made[half],
            nn.ModuleList(made[half + 1 :]),
        )
        self.norm_f = nn.LayerNorm(dim)
        self.final_norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.final_layer = nn.ModuleDict(
            {"adaLN_modulation": nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))}
        )
        if not stem_channels:
            self.final_layer["linear"] = nn.Linear(dim, math.prod(axes.square) * self.outer)
        self._initialise(made)
        self.frame = Frame(inner, self.outer, stem_channels, stem_blocks, dim) if stem_channels else None
        self.f_embedders = NamedEncoders(fields, dim)
        self.known_embedder = KnownPatches(axes.channels(1), dim, axes.square) if known else None

    def _initialise(self, blocks: list[Block]) -> None:
        """Xavier for linear layers and patches, N(0, 0.02) for embeddings and the time MLP, zeros for
        modulation and output; decays and mixes by layer and channel (the paper's 'fancy')."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if "linear" in self.final_layer:
            last: Any = self.final_layer["linear"]
            self.patch_embed.initialise()
            nn.init.zeros_(last.weight)
        for module in self.time_embed.mlp:
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
        if self.label_emb is not None:
            nn.init.normal_(self.label_emb.embedding_table.weight, std=0.02)
        for layer, block in enumerate(blocks):
            nn.init.zeros_(block.adaLN_modulation[1].weight)  # type: ignore[arg-type]
            _fancy(block, layer, len(blocks))
        nn.init.zeros_(self.final_layer["adaLN_modulation"][1].weight)  # type: ignore[index]

    def encode(self, t: Tensor, cond: Cond) -> Tensor:
        """(B, D) conditioning vector; a condition that is absent counts as missing."""
        time, numbers = self.time_embed(t), self.n_embedder
        return conditioned(time, cond, t, label=self.label_emb, numeric=numbers, named=self.f_embedders)

    def tokens(self, shape: Sequence[int]) -> int:
        """How many patches a sample of a shape has."""
        return self.axes.tokens(shape)

    def forward(
        self, x: Tensor, t: Tensor, cond: Cond | None = None, ctx: RunContext | None = None
    ) -> Tensor:
        along, picture = self.axes.grid(x.shape), self.axes.tall(x)
        picture = torch.cat([picture.cos(), picture.sin()], 1) if self.periodic else picture
        grid = self.axes.below(along)
        cond = cond if cond is not None else Cond()
        c = self.encode(t.expand(len(x)), cond)
        if self.frame is not None:
            h, rest = self.frame.open(picture, c)
        else:
            h, _ = self.patch_embed(picture)  # (B, T, D)
        if self.known_embedder is not None:
            h = h + self.known_embedder(self.axes.tall(self.axes.known(cond.known, x)))
        h = h + resized(self.pos_embed, self.grid, along)
        valid = cond.valid if self.axes.rows else None
        real = None if valid is None else valid[..., None]  # (B, T, 1)

        def blocks(h: Tensor) -> Tensor:
            skips = []
            for block in self.in_blocks:
                h = block(h, c, grid, None, ctx, real)
                skips.append(h)
            h = self.mid_block(h, c, grid, None, ctx, real)
            for block in self.out_blocks:
                h = block(h, c, grid, skips.pop(), ctx, real)
            return h

        h = through(blocks, h, ctx, self)
        shift, scale = self.final_layer["adaLN_modulation"](c)[:, None].chunk(2, dim=-1)
        h = self.final_norm(self.norm_f(h)) * (1 + scale) + shift
        if self.frame is not None:
            out = self.frame.close(h, grid, rest)
        else:
            out = unpatchify(self.final_layer["linear"](h), grid, self.axes.square, self.outer)
        return self.axes.cut(out, x, 2 if self.learn_sigma else 1, valid)


def _fancy(block: Block, layer: int, depth: int) -> None:
    dim = block.att.spatial_decay.shape[0]
    along, left = layer / (depth - 1), 1 - layer / depth
    channel = torch.arange(dim, dtype=torch.float32, device=block.att.spatial_decay.device)
    share = channel / dim
    with torch.no_grad():
        block.att.spatial_decay.copy_(-5 + 8 * (channel / max(dim - 1, 1)) ** (0.7 + 1.3 * along))
        block.att.spatial_first.copy_(math.log(0.3) + 0.5 * ((channel + 1) % 3 - 1))
        for name, value in (
            ("k", share**left),
            ("v", share**left + 0.3 * along),
            ("r", share ** (0.5 * left)),
        ):
            getattr(block.att, f"spatial_mix_{name}").copy_(value[None, None])
        block.ffn.spatial_mix_k.copy_((share**left)[None, None])
        block.ffn.spatial_mix_r.copy_((share**left)[None, None])
