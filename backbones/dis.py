"""DiS: a diffusion backbone of bidirectional state-space layers (Fei et al. 2402.05608), with long skips
between its halves and no attention.

The sequence is [condition, time, patches]. A block is Mamba's, the residual added before the norm: (h, r) → r
= r + h, h = Mixer(Norm(r)); the later half also reads the outputs of the earlier one through ``skip_linear``.
A mixer runs one selective scan in each direction and adds them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.axes import Axes
from backbones.caching.reuse import through
from backbones.encoders import ClassEncoder, NamedEncoders, NumericEncoder, conditioned, sinusoid
from backbones.patches import DropPath, KnownPatches, Patches, named_size, resized, unpatchify
from backbones.recurrences.conv import two_way_conv
from backbones.recurrences.forms import exact, form_of
from backbones.recurrences.two_way import Way, two_way_scan
from backbones.stem import Frame
from backbones.types import Cond, RunContext

# depth (one more block in all), width
SIZES = {"S": (24, 368), "B": (24, 768), "M": (48, 768), "L": (48, 1024), "H": (48, 1536)}
STATES, KERNEL = 16, 4
NEVER = -1e4  # softplus of that is 0 in every dtype


class Norm(nn.Module):
    """RMSNorm with a weight in float32, or LayerNorm with an affine map."""

    def __init__(self, dim: int, rms: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = None if rms else nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * self.weight
        return F.layer_norm(x, (x.shape[-1],), self.weight, self.bias, 1e-5)


class Mixer(nn.Module):
    """Mamba in both directions (``bimamba v2``): (B, L, D) → (B, L, D). Projections in and out are shared;
    convolution, gates of the scan and its state are one set for each direction. What is not ``valid`` (B, L,
    1) is a 0 to the convolutions, as is what lies beyond the ends, and leaves the state as it is: no time
    passes there."""

    def __init__(self, dim: int):
        super().__init__()
        inner, self.rank = 2 * dim, math.ceil(dim / 16)
        self.in_proj, self.out_proj = nn.Linear(dim, 2 * inner, bias=False), nn.Linear(inner, dim, bias=False)
        for end in ("", "_b"):
            setattr(self, f"conv1d{end}", nn.Conv1d(inner, inner, KERNEL, groups=inner, padding=KERNEL - 1))
            setattr(self, f"x_proj{end}", nn.Linear(inner, self.rank + 2 * STATES, bias=False))
            setattr(self, f"dt_proj{end}", nn.Linear(self.rank, inner))
            setattr(
                self,
                f"A{end}_log",
                nn.Parameter(torch.arange(1, STATES + 1, dtype=torch.float32).log().repeat(inner, 1)),
            )
            setattr(self, f"D{end}", nn.Parameter(torch.ones(inner)))

    def forward(self, h: Tensor, ctx: RunContext | None, valid: Tensor | None = None) -> Tensor:
        h = h if valid is None else h.masked_fill(~valid, 0)
        x, z = self.in_proj(h).chunk(2, dim=-1)  # (B, L, 2D) each
        both = two_way_conv(
            x, self._both("conv1d", "weight").squeeze(2), self._both("conv1d", "bias"), form=form_of(ctx)
        )
        ahead, back = (self.way(one, end, valid) for one, end in zip(both, ("", "_b")))
        with exact(h.device):  # step sizes decide how long a state lasts: not in bf16
            y = two_way_scan(ahead, back, z, form=form_of(ctx))
        return self.out_proj(y)

    def _both(self, name: str, part: str) -> Tensor:
        """A parameter of the two directions, stacked."""
        return torch.stack([getattr(getattr(self, f"{name}{end}"), part) for end in ("", "_b")])

    def way(self, x: Tensor, end: str, valid: Tensor | None = None) -> Way:
        """What one direction's scan needs, from its (B, L, 2D)."""
        x_proj, dt_proj = getattr(self, f"x_proj{end}"), getattr(self, f"dt_proj{end}")
        low, b, c = x_proj(x).split([self.rank, STATES, STATES], dim=-1)  # (B, L, R), (B, L, N) twice
        a = -torch.exp(getattr(self, f"A{end}_log").to(dt_proj.weight.dtype))
        weight = dt_proj.weight
        if valid is not None:  # steps of 0, by one rank more
            low = torch.cat([low, (~valid * NEVER).to(low.dtype)], dim=-1)
            weight = F.pad(weight, (0, 1), value=1.0)
        return Way(x, low, b, c, a, weight, getattr(self, f"D{end}"), dt_proj.bias)


class Block(nn.Module):
    """(h, r) → (h, r); ``skip`` (B, L, D) is an earlier block's h."""

    def __init__(self, dim: int, rms: bool, drop: float, *, skip: bool):
        super().__init__()
        self.norm, self.mixer, self.drop = Norm(dim, rms), Mixer(dim), DropPath(drop)
        self.skip_linear = nn.Linear(2 * dim, dim) if skip else None

    def forward(
        self,
        h: Tensor,
        r: Tensor | None,
        skip: Tensor | None,
        ctx: RunContext | None,
        valid: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        if self.skip_linear is not None and skip is not None:
            h = self.skip_linear(torch.cat([h, skip], dim=-1))
        r = h.to(torch.promote_types(h.dtype, torch.float32)) if r is None else r + self.drop(h)
        return self.mixer(self.norm(r), ctx, valid), r


class DiS(nn.Module):
    """``net(x, t, cond)``: (B, C, H, W), (B,) on the trained time scale, Cond(label=(B,), numeric=(B, K)) →
    (B, C_out, H, W). Curves and clips (`backbones.axes`) are sequences too.

    ``size`` ("S/2") sets depth, width and patch; ``depth`` is even, with one block more in all.
    ``num_classes=0`` and ``num_numeric=0``: no condition token and no modulation of the last layer, as in the
    original. ``rms_norm=False``: LayerNorm. ``drop_path`` rises linearly over the blocks, in training only.
    Any H, W divisible by the patch works; learned positions are interpolated. ``stem_channels`` and
    ``stem_blocks``, ``known``, ``rows`` and ``periodic`` as in DiT. Ours starts at zero (the last layer
    does) and gives both directions the step sizes that the original gives the forward one;
    ``original_init`` undoes both.
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
        hidden_size: int = 368,
        depth: int = 24,
        num_classes: int = 1000,
        null_class: bool = True,
        num_numeric: int = 0,
        fields: Sequence[Mapping[str, Any]] = (),
        learn_sigma: bool = False,
        rms_norm: bool = True,
        drop_path: float = 0.0,
        original_init: bool = False,
        stem_channels: tuple[int, ...] = (),
        stem_blocks: int = 2,
        known: bool = False,
        rows: bool = False,
        periodic: bool = False,
    ):
        super().__init__()
        if size is not None:
            depth, hidden_size, patch_size = named_size(size, SIZES, "DiS")
        if depth % 2 or depth < 2:
            raise ValueError(
                f"got DiS of depth {depth}, expected an even number: as many blocks before the middle one "
                "as after it"
            )
        patch_size = 2 ** len(stem_channels) if stem_channels else patch_size
        self.axes = axes = Axes(input_size, patch_size, stem=bool(stem_channels), rows=rows)
        self.periodic = periodic
        self.patch_size, self.grid, self.num_classes = patch_size, axes.native, num_classes
        self.in_channels, self.out_channels, self.learn_sigma = (
            in_channels,
            (out_channels or in_channels) * (2 if learn_sigma else 1),
            learn_sigma,
        )
        self.conditional = bool(num_classes or num_numeric or fields)
        self.extras = 2 if self.conditional else 1
        dim, tokens = hidden_size, math.prod(self.grid)
        inner, self.outer = axes.channels(in_channels * (1 + periodic)), axes.channels(self.out_channels)
        self.frame = Frame(inner, self.outer, stem_channels, stem_blocks, dim) if stem_channels else None
        if self.frame is None:
            self.patch_embed = Patches(inner, dim, axes.square)
        self.time_embed = nn.Sequential(nn.Linear(dim, 4 * dim), nn.SiLU(), nn.Linear(4 * dim, dim))
        self.label_emb = ClassEncoder(num_classes, dim, null=null_class) if num_classes else None
        self.n_embedder = NumericEncoder(num_numeric, dim) if num_numeric else None
        self.pos_embed = nn.Parameter(torch.zeros(1, self.extras + tokens, dim))
        half = depth // 2
        rates = [0.0, *(drop_path * i / (depth - 1) for i in range(depth))]
        self.in_blocks = nn.ModuleList(Block(dim, rms_norm, rates[i], skip=False) for i in range(half))
        self.mid_block = Block(dim, rms_norm, rates[half], skip=False)
        self.out_blocks = nn.ModuleList(
            Block(dim, rms_norm, rates[half + 1 + i], skip=True) for i in range(half)
        )
        self.norm_f, self.last_drop = Norm(dim, rms_norm), DropPath(drop_path)
        self.final_norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.final_layer = nn.ModuleDict()
        if self.frame is None:
            self.final_layer["linear"] = nn.Linear(dim, math.prod(axes.square) * self.outer)
        if self.conditional:
            self.final_layer["adaLN_modulation"] = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))
        self._initialise(depth, original=original_init)
        self.f_embedders = NamedEncoders(fields, dim)
        self.known_embedder = KnownPatches(axes.channels(1), dim, axes.square) if known else None

    def _initialise(self, depth: int, *, original: bool) -> None:
        """torch's own linear layers with biases at 0, embeddings N(0, 0.02), mixers' last product over
        √depth, step sizes log-uniform in [0.001, 0.1]."""
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, Mixer):
                with torch.no_grad():
                    module.out_proj.weight /= math.sqrt(depth)
                for end in ("",) if original else ("", "_b"):
                    first_steps(getattr(module, f"dt_proj{end}"))
        if not original:
            if self.frame is None:
                nn.init.zeros_(self.final_layer["linear"].weight)  # type: ignore[arg-type]
            if self.conditional:
                nn.init.zeros_(self.final_layer["adaLN_modulation"][1].weight)  # type: ignore[index]

    def tokens(self, shape: Sequence[int]) -> int:
        """How many patches a sample of a shape has."""
        return self.axes.tokens(shape)

    def forward(
        self, x: Tensor, t: Tensor, cond: Cond | None = None, ctx: RunContext | None = None
    ) -> Tensor:
        grid, picture = self.axes.grid(x.shape), self.axes.tall(x)
        picture = torch.cat([picture.cos(), picture.sin()], 1) if self.periodic else picture
        cond = cond if cond is not None else Cond()
        kind = self.pos_embed.dtype
        time = self.time_embed(sinusoid(t.expand(len(x)), self.pos_embed.shape[-1]).to(kind))  # (B, D)
        extras, condition = [time], None
        if self.conditional:
            condition = conditioned(
                None, cond, x, label=self.label_emb, numeric=self.n_embedder, named=self.f_embedders
            )
            extras = [condition, time]
        if self.frame is not None:
            h, rest = self.frame.open(picture, time if condition is None else time + condition)
        else:
            h, _ = self.patch_embed(picture)  # (B, N, D)
        if self.known_embedder is not None:
            h = h + self.known_embedder(self.axes.tall(self.axes.known(cond.known, x)))
        table = self.pos_embed
        positions = torch.cat(
            [table[:, : self.extras], resized(table[:, self.extras :], self.grid, grid)], dim=1
        )
        h = torch.cat([*(e[:, None].to(h.dtype) for e in extras), h], dim=1) + positions  # (B, extras + N, D)
        valid, real = cond.valid if self.axes.rows else None, None
        if valid is not None:
            real = F.pad(valid, (self.extras, 0), value=True)[..., None]  # (B, extras + N, 1)

        def blocks(h: Tensor) -> Tensor:
            r: Tensor | None = None
            skips = []
            for block in self.in_blocks:
                h, r = block(h, r, None, ctx, real)
                skips.append(h)
            h, r = self.mid_block(h, r, None, ctx, real)
            for block in self.out_blocks:
                h, r = block(h, r, skips.pop(), ctx, real)
            assert r is not None
            return r + self.last_drop(h)

        h = self.final_norm(self.norm_f(through(blocks, h, ctx, self)))
        if condition is not None:
            shift, scale = self.final_layer["adaLN_modulation"](time + condition).chunk(2, dim=1)
            h = h * (1 + scale[:, None]) + shift[:, None]
        h, flat = h[:, self.extras :], self.axes.below(grid)
        if self.frame is not None:
            out = self.frame.close(h, flat, rest)
        else:
            out = unpatchify(self.final_layer["linear"](h), flat, self.axes.square, self.outer)
        return self.axes.cut(out, x, 2 if self.learn_sigma else 1, valid)


def first_steps(projection: nn.Linear) -> None:
    """Weights U(±R^−½); biases so that softplus gives step sizes log-uniform in [0.001, 0.1]."""
    bound = projection.in_features**-0.5
    nn.init.uniform_(projection.weight, -bound, bound)
    low, high = math.log(0.001), math.log(0.1)
    steps = torch.exp(
        torch.rand(projection.out_features, device=projection.bias.device) * (high - low) + low
    ).clamp_min(1e-4)
    with torch.no_grad():
        projection.bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # softplus⁻¹
