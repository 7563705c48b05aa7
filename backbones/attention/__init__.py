"""One function for attention: ``attend(q, k, v, spec, ctx)``; softmax(q kᵀ / √d + mask) v.

Backends are entries of `BACKENDS`; `supports` says whether one can serve a call and why not. `auto` picks by
thresholds that were measured; an explicit choice that cannot be honoured raises.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.attention.specs import (
    Bias,
    BlockDiagonal,
    Full,
    GridWindow,
    Local,
    Spec,
    Window,
    check,
    mask_of,
    part_of,
    reach,
)
from backbones.types import RunContext

__all__ = [
    "BACKENDS",
    "Bias",
    "BlockDiagonal",
    "Full",
    "GridWindow",
    "Window",
    "attend",
    "choose",
    "supports",
]

NARROW = 32  # numbers of bf16 in a vector of 512 bits
ROWS = 64  # queries of a block, at least; more of them read the scores from memory


def _sdpa(q: Tensor, k: Tensor, v: Tensor, spec: Spec) -> Tensor:
    mask = mask_of(spec, q.shape[-2], k.shape[-2], q)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _explicit(q: Tensor, k: Tensor, v: Tensor, spec: Spec) -> Tensor:
    """Two matrix products and a softmax. On CPUs with bf16 instructions the products use them; it can be
    differentiated twice."""
    b, h, n, d = q.shape
    keys = k.reshape(b * h, -1, d).transpose(1, 2)
    # (B, H, N, M)
    scores = torch.baddbmm(q.new_zeros(()), q.reshape(b * h, n, d), keys, beta=0, alpha=d**-0.5).view(
        b, h, n, -1
    )
    mask = mask_of(spec, q.shape[-2], k.shape[-2], q)
    if mask is None:
        return _softmax(scores) @ v
    if isinstance(spec, Bias) and not spec.blind:
        return _softmax(scores + mask) @ v
    # a query that sees nothing: its row never meets −inf, so its gradients are 0 too
    blind = (mask == -math.inf).all(dim=-1, keepdim=True)
    weights = _softmax(scores + mask.masked_fill(blind, 0.0)).masked_fill(blind, 0.0)
    return weights @ v


def _blocks(q: Tensor, k: Tensor, v: Tensor, spec: Spec) -> Tensor:
    """The explicit form for one block of queries after the other, each with the keys that it can see: its
    scores stay in the cache, and a window costs what it sees."""
    n, m = q.shape[-2], k.shape[-2]
    check(spec, n, m)
    made = []
    for a, b in _stretches(spec, n):
        low, high = reach(spec, a, b, m)
        mask = part_of(spec, (a, b), (low, high), q)
        part: Spec = Full() if mask is None else Bias(mask, blind=not isinstance(spec, Bias) or spec.blind)
        made.append(_explicit(q[:, :, a:b], k[:, :, low:high], v[:, :, low:high], part))
    return torch.cat(made, dim=2)


def _stretches(spec: Spec, n: int) -> list[tuple[int, int]]:
    """Queries that are taken together: as many as a window is wide to one side, whole rows of a grid, whole
    pieces of a row of pieces."""
    if isinstance(spec, BlockDiagonal):
        ends = [0]
        for length in spec.lengths:
            ends.append(ends[-1] + length)
        return [(a, b) for a, b in zip(ends, ends[1:]) if b > a]
    rows = ROWS
    if isinstance(spec, Window):
        rows = max(ROWS, spec.left, spec.right)
    elif isinstance(spec, GridWindow):
        row = n // spec.grid[0]
        rows = row * max(1, ROWS // row, spec.radius[0])
    return [(a, min(n, a + rows)) for a in range(0, n, rows)]


def _softmax(scores: Tensor) -> Tensor:
    """Over the last dimension. On CPUs torch's own in bf16 is slower than by way of float32 where a row is no
    whole vector (benchmarks/softmax.py)."""
    if scores.dtype == torch.bfloat16 and scores.shape[-1] < NARROW and scores.device.type == "cpu":
        return scores.float().softmax(dim=-1).to(scores.dtype)
    return scores.softmax(dim=-1)


BACKENDS: dict[str, Callable[[Tensor, Tensor, Tensor, Spec], Tensor]] = {
    "sdpa": _sdpa,
    "explicit": _explicit,
    "blocks": _blocks,
}


def supports(name: str, q: Tensor, spec: Spec, *, double_backward: bool = False) -> str | None:
    """None when backend ``name`` can serve this call, else the reason in words."""
    if name not in BACKENDS:
        return f"there is no attention backend {name!r}; choose one of auto, {', '.join(BACKENDS)}"
    if name == "sdpa" and double_backward and q.device.type == "cpu":
        return "SDPA on the CPU has no double backward; choose 'explicit'"
    return None


def choose(q: Tensor, spec: Spec, *, double_backward: bool = False) -> str:
    """The backend of `auto`: blocks for windows and pieces; for all else, on CPUs in bf16, the explicit form
    up to 1,024 tokens in training and 512 without gradient; otherwise SDPA."""
    if isinstance(spec, Local):
        return "blocks"
    if double_backward:
        return "explicit"
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        return (
            "explicit"
            if q.shape[-2] <= (1024 if torch.is_grad_enabled() and q.requires_grad else 512)
            else "sdpa"
        )
    return "sdpa"


def attend(q: Tensor, k: Tensor, v: Tensor, spec: Spec = Full(), ctx: RunContext | None = None) -> Tensor:
    """Attention of (B, H, N, D) queries over (B, H, M, D) keys and values; returns (B, H, N, D).

    Raises ``ValueError`` when ``ctx.attention`` names a backend that does not exist or cannot serve the call.
    """
    name = "auto" if ctx is None else ctx.attention
    twice = ctx is not None and ctx.double_backward
    if name == "auto":
        name = choose(q, spec, double_backward=twice)
    elif reason := supports(name, q, spec, double_backward=twice):
        raise ValueError(reason)
    return BACKENDS[name](q, k, v, spec)
