"""One function for attention: ``attend(q, k, v, spec, ctx)``; softmax(q kᵀ / √d + mask) v.

`choose` picks the form of `BACKENDS` by thresholds that were measured: torch's own, or two products and a
softmax.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.types import RunContext

NARROW = 32  # numbers of bf16 in a vector of 512 bits


@dataclass(frozen=True)
class Full:
    """Every query sees every key."""


@dataclass(frozen=True, eq=False)
class Bias:
    """An additive mask, broadcastable to (B, H, N, M); −inf forbids. A query with no key left gets zeros;
    ``blind=False`` says that there is none, which saves looking for it."""

    bias: Tensor
    blind: bool = True


Spec = Full | Bias


def mask_of(spec: Spec, like: Tensor) -> Tensor | None:
    """The additive mask of a spec; None for Full."""
    return spec.bias.to(like.dtype) if isinstance(spec, Bias) else None


def _sdpa(q: Tensor, k: Tensor, v: Tensor, spec: Spec) -> Tensor:
    mask = mask_of(spec, q)
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
    mask = mask_of(spec, q)
    if mask is None:
        return _softmax(scores) @ v
    if isinstance(spec, Bias) and not spec.blind:
        return _softmax(scores + mask) @ v
    # a query that sees nothing: its row never meets −inf, so its gradients are 0 too
    blind = (mask == -math.inf).all(dim=-1, keepdim=True)
    weights = _softmax(scores + mask.masked_fill(blind, 0.0)).masked_fill(blind, 0.0)
    return weights @ v


def _softmax(scores: Tensor) -> Tensor:
    """Over the last dimension. On CPUs torch's own in bf16 is slower than by way of float32 where a row is no
    whole vector (benchmarks/softmax.py)."""
    if scores.dtype == torch.bfloat16 and scores.shape[-1] < NARROW and scores.device.type == "cpu":
        return scores.float().softmax(dim=-1).to(scores.dtype)
    return scores.softmax(dim=-1)


BACKENDS: dict[str, Callable[[Tensor, Tensor, Tensor, Spec], Tensor]] = {"sdpa": _sdpa, "explicit": _explicit}


def choose(q: Tensor, spec: Spec, *, double_backward: bool = False) -> str:
    """The fastest form: on CPUs in bf16 the explicit form up to 1,024 tokens in training and 512 without
    gradient; otherwise SDPA.
    Torch's own has no second derivative on a CPU."""
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
    """Attention of (B, H, N, D) queries over (B, H, M, D) keys and values; returns (B, H, N, D)."""
    twice = ctx is not None and ctx.double_backward
    return BACKENDS[choose(q, spec, double_backward=twice)](q, k, v, spec)
