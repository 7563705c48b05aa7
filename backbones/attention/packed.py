"""Attention of kernels that run on GPUs: layouts and masks as they take them. A kernel is handed over, so
that what is around it is tested where the kernel does not run.

xformers and `torch.nn.attention.varlen` take tokens before heads; varlen takes all sequences in one row.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from backbones.attention.specs import Bias, BlockDiagonal, Full, GridWindow, Spec, Window, check, mask_of

ALIGNED = 8  # numbers by which rows of a dense bias lie apart for xformers


def xformers(
    q: Tensor, k: Tensor, v: Tensor, spec: Spec, kernel: Callable[..., Tensor], masks: Any
) -> Tensor:
    """(B, H, N, D) by ``kernel(q, k, v, attn_bias=...)`` of (B, N, H, D); ``masks``: the module of its
    biases."""
    check(spec, q.shape[2], k.shape[2])
    qs, ks, vs = (t.transpose(1, 2) for t in (q, k, v))
    batch, n = qs.shape[:2]
    if isinstance(spec, BlockDiagonal):
        row = [t.reshape(1, -1, *t.shape[2:]) for t in (qs, ks, vs)]
        bias = masks.BlockDiagonalMask.from_seqlens([length for length in spec.lengths if length] * batch)
        return kernel(*row, attn_bias=bias).reshape(batch, n, *q.shape[1::2]).transpose(1, 2)
    if isinstance(spec, Full):
        return kernel(qs, ks, vs, attn_bias=None).transpose(1, 2)
    if isinstance(spec, Window):
        local = masks.LocalAttentionFromBottomRightMask(window_left=spec.left, window_right=spec.right)
        return kernel(qs, ks, vs, attn_bias=local).transpose(1, 2)
    mask = mask_of(spec, n, ks.shape[1], q)
    assert mask is not None
    return kernel(qs, ks, vs, attn_bias=_aligned(mask.expand(batch, q.shape[1], n, -1))).transpose(1, 2)


def _aligned(mask: Tensor) -> Tensor:
    """The same numbers in rows that begin at multiples of eight."""
    wide = mask.new_zeros(*mask.shape[:-1], -(-mask.shape[-1] // ALIGNED) * ALIGNED)
    wide[..., : mask.shape[-1]] = mask
    return wide[..., : mask.shape[-1]]


def varlen(q: Tensor, k: Tensor, v: Tensor, spec: Spec, kernel: Callable[..., Tensor]) -> Tensor:
    """(B, H, N, D) by ``kernel(q, k, v, starts_q, starts_k, max_q, max_k, window_size=...)`` of (B·N, H,
    D)."""
    check(spec, q.shape[2], k.shape[2])
    batch, heads, n, d = q.shape
    m = k.shape[2]
    row = [t.transpose(1, 2).reshape(-1, heads, d) for t in (q, k, v)]
    window = (min(spec.left, m), min(spec.right, m)) if isinstance(spec, Window) else (-1, -1)
    lengths = spec.lengths if isinstance(spec, BlockDiagonal) else None
    starts_q, starts_k = (starts(lengths or (size,), batch, q.device) for size in (n, m))
    longest = (max(lengths),) * 2 if lengths else (n, m)
    out = kernel(*row, starts_q, starts_k, *longest, window_size=window)
    return out.view(batch, n, heads, d).transpose(1, 2)


@lru_cache(maxsize=32)
def starts(lengths: tuple[int, ...], batch: int, device: torch.device) -> Tensor:
    """(pieces + 1,) int32: where each piece of a batch begins, and the end."""
    with torch.inference_mode(False):
        every = torch.tensor([0, *[length for length in lengths if length] * batch])
        return every.cumsum(0).to(device=device, dtype=torch.int32)


def flex(q: Tensor, k: Tensor, v: Tensor, spec: Spec, kernel: Callable[..., Tensor], masks: Any) -> Tensor:
    """(B, H, N, D) by ``kernel(q, k, v, score_mod=, block_mask=)``; ``masks``: the module that makes block
    masks."""
    n, m = q.shape[2], k.shape[2]
    check(spec, n, m)
    if isinstance(spec, Full):
        return kernel(q, k, v)
    if isinstance(spec, Bias):
        bias = spec.bias.to(q.dtype).expand(*q.shape[:2], n, m)
        return kernel(q, k, v, score_mod=lambda score, b, h, i, j: score + bias[b, h, i, j])
    return kernel(q, k, v, block_mask=block_mask(spec, n, m, q.device, masks.create_block_mask))


@lru_cache(maxsize=32)
def block_mask(spec: Spec, n: int, m: int, device: torch.device, create: Callable[..., Any]) -> Any:
    """Which blocks of the scores are computed at all."""
    return create(sees(spec, device), B=None, H=None, Q_LEN=n, KV_LEN=m, device=device)


def sees(spec: Spec, device: torch.device) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """``sees(b, h, i, j)``: whether query i sees key j."""
    if isinstance(spec, Window):
        left, right = spec.left, spec.right
        return lambda b, h, i, j: (j - i >= -left) & (j - i <= right)
    if isinstance(spec, BlockDiagonal):
        owner = torch.repeat_interleave(
            torch.arange(len(spec.lengths), device=device), torch.tensor(spec.lengths, device=device)
        )
        return lambda b, h, i, j: owner[i] == owner[j]
    assert isinstance(spec, GridWindow)
    axes, step = [], 1
    for size, radius in zip(spec.grid[::-1], spec.radius[::-1]):
        axes.append((size, radius, step))
        step *= size

    def near(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        seen = i == i
        for size, radius, step in axes:
            seen = seen & ((i // step % size - j // step % size).abs() <= radius)
        return seen

    return near
