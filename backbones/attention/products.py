"""Attention by products of torch: scaled_dot_product_attention, the formula written out, blocks of it, and
one for the forward with the other for the backward pass."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.attention.specs import (
    Bias,
    BlockDiagonal,
    Full,
    GridWindow,
    Spec,
    Window,
    check,
    mask_of,
    part_of,
    reach,
)

NARROW = 32  # numbers of bf16 in a vector of 512 bits
MANY = 256  # queries of a block of the backward pass
ROWS = 64  # queries of a block, at least; more of them read the scores from memory


def sdpa(q: Tensor, k: Tensor, v: Tensor, spec: Spec) -> Tensor:
    mask = mask_of(spec, q.shape[-2], k.shape[-2], q)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def explicit(q: Tensor, k: Tensor, v: Tensor, spec: Spec) -> Tensor:
    """Two matrix products and a softmax. On CPUs with bf16 instructions the products use them; it can be
    differentiated twice."""
    b, h, n, d = q.shape
    keys = k.reshape(b * h, -1, d).transpose(1, 2)
    # (B, H, N, M)
    scores = torch.baddbmm(q.new_zeros(()), q.reshape(b * h, n, d), keys, beta=0, alpha=d**-0.5).view(
        b, h, n, -1
    )
    mask = mask_of(spec, q.shape[-2], k.shape[-2], q)
    return _weights(scores, mask, blind=not isinstance(spec, Bias) or spec.blind) @ v


def _weights(scores: Tensor, mask: Tensor | None, *, blind: bool) -> Tensor:
    """softmax(scores + mask); ``blind``: a query may see nothing, and then all of its weights are 0."""
    if mask is None:
        return _softmax(scores)
    if not blind:
        return _softmax(scores + mask)
    # its row never meets −inf, so its gradients are 0 too
    dark = (mask == -math.inf).all(dim=-1, keepdim=True)
    return _softmax(scores + mask.masked_fill(dark, 0.0)).masked_fill(dark, 0.0)


def blocks(q: Tensor, k: Tensor, v: Tensor, spec: Spec) -> Tensor:
    """The explicit form for one block of queries after the other, each with the keys that it can see: its
    scores stay in the cache, and a window costs what it sees."""
    n, m = q.shape[-2], k.shape[-2]
    check(spec, n, m)
    made = []
    for a, b in _stretches(spec, n):
        low, high = reach(spec, a, b, m)
        mask = part_of(spec, (a, b), (low, high), q)
        part: Spec = Full() if mask is None else Bias(mask, blind=not isinstance(spec, Bias) or spec.blind)
        made.append(explicit(q[:, :, a:b], k[:, :, low:high], v[:, :, low:high], part))
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


def recomputed(q: Tensor, k: Tensor, v: Tensor, spec: Spec) -> Tensor:
    """SDPA's forward pass, and a backward pass that makes the scores of a block of queries anew: on CPUs its
    products use instructions that SDPA's own does not. Of specs without a gradient of their own."""
    if isinstance(spec, Bias):
        raise ValueError(
            "got a bias for attention 'recomputed', expected windows, pieces or none; try 'sdpa'"
        )
    return _Recomputed.apply(q, k, v, spec)


class _Recomputed(torch.autograd.Function):
    """P = softmax(q kᵀ/√d), o = P v; dP = do vᵀ, dS = P (dP − Σ do·o)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, spec: Spec) -> Tensor:
        out = sdpa(q, k, v, spec)
        ctx.save_for_backward(q, k, v, out)
        ctx.spec = spec
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        q, k, v, out = ctx.saved_tensors
        n, m, scale = q.shape[-2], k.shape[-2], q.shape[-1] ** -0.5
        grad = grad.to(q.dtype)
        exact = torch.promote_types(q.dtype, torch.float32)
        along = (grad.to(exact) * out.to(exact)).sum(-1, keepdim=True)  # (B, H, N, 1)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for a in range(0, n, MANY):
            b = min(n, a + MANY)
            low, high = reach(ctx.spec, a, b, m)
            mask = part_of(ctx.spec, (a, b), (low, high), q)
            kb, vb, part = k[:, :, low:high], v[:, :, low:high], grad[:, :, a:b]
            scores = scale * (q[:, :, a:b] @ kb.transpose(2, 3))
            weights = _weights(scores, mask, blind=True)
            dv[:, :, low:high] += weights.transpose(2, 3) @ part
            ds = weights * (part @ vb.transpose(2, 3) - along[:, :, a:b].to(q.dtype)) * scale
            dq[:, :, a:b] = ds @ kb
            dk[:, :, low:high] += ds.transpose(2, 3) @ q[:, :, a:b]
        return dq, dk, dv, None
