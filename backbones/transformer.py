"""Blocks of a transformer whose modulation comes from outside (adaLN-Zero: Peebles & Xie, 2212.09748), and
attention over time. B batch, N tokens, D width, H heads."""

from collections.abc import Sequence

from torch import Tensor, nn

from backbones.attention import attend
from backbones.attention.specs import Full, Spec
from backbones.caching.attention import attended
from backbones.encoders import grid_positions
from backbones.inference import activated
from backbones.pointwise import gated, norm_modulated
from backbones.rotary import turned
from backbones.types import RunContext


class Attention(nn.Module):
    """Multi-head self-attention with a fused qkv projection. ``rotary``: scores depend on how far apart
    tokens lie (`backbones.rotary`); heads of an even width."""

    def __init__(self, dim: int, heads: int, rotary: bool = False):
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(
        self, x: Tensor, ctx: RunContext | None, gate: Tensor | None = None, sees: Spec = Full()
    ) -> Tensor:
        return attended(self, x, ctx, gate, sees)

    def mix(self, x: Tensor, specs: Sequence[Spec], ctx: RunContext | None) -> list[Tensor]:
        """(B, N, D) → (B, H, N, d) for each spec."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, N, d) each
        if self.rotary:
            q, k = turned(q), turned(k)
        return [attend(q, k, v, spec, ctx) for spec in specs]

    def project(self, mixed: Tensor) -> Tensor:
        """(B, H, N, d) → (B, N, D)."""
        return self.proj(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(activated(x, self.fc1, "gelu", "tanh"))


class Block(nn.Module):
    """One transformer block; its six modulation vectors come from outside."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, mlp_norm_eps: float, rotary: bool = False):
        super().__init__()
        self.attn, self.mlp = Attention(dim, heads, rotary), MLP(dim, int(dim * mlp_ratio))
        self.norm1 = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(dim, eps=mlp_norm_eps, elementwise_affine=False)

    def forward(self, h: Tensor, modulation: Tensor, ctx: RunContext | None, sees: Spec = Full()) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, dim=1)  # (B, D) each
        h = gated(h, gate1, self.attn(norm_modulated(h, shift1, scale1, self.norm1.eps), ctx, gate1, sees))
        return gated(h, gate2, self.mlp(norm_modulated(h, shift2, scale2, self.norm2.eps)))


class TimeAttention(nn.Module):
    """h + attention over the frames of each place, with their fixed positions (VDT, Lu et al. 2305.13311).
    Ours starts as the identity. No plan names it: it is computed in full."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.norm, self.attn = nn.LayerNorm(dim), Attention(dim, heads)
        nn.init.xavier_uniform_(self.attn.qkv.weight)
        for zero in (self.attn.qkv.bias, self.attn.proj.weight, self.attn.proj.bias):
            nn.init.zeros_(zero)

    def forward(self, h: Tensor, frames: int, ctx: RunContext | None) -> Tensor:
        """(B·F, N, D) → (B·F, N, D)."""
        batch, (_, places, dim) = len(h) // frames, h.shape
        rows = h.view(batch, frames, places, dim).transpose(1, 2).reshape(-1, frames, dim)  # (B·N, F, D)
        x = self.norm(rows)
        x = x + grid_positions(dim, (frames,)).to(x)
        y = self.attn.project(self.attn.mix(x, [Full()], ctx)[0])
        return h + y.view(batch, places, frames, dim).transpose(1, 2).reshape(h.shape)
