"""Bidirectional WKV (Vision-RWKV, Duan et al. 2403.02308): attention by exponential decay in both directions
at linear cost,

    y_t = [Σ_{i≠t} e^{−(|t−i|−1) w + k_i} v_i + e^{u + k_t} v_t] / [the same without v]
      mode="paper"

with w and u already divided by the length. The released CUDA kernel computes something else: it works in 32
segments of S = ⌈T/32⌉ steps and is one step off across their ends, which in closed form (t₀ the first step of
t's segment) is

    i < t, same segment  e^{−(t−i−1) w + k_i}      i < t, another  e^{−(t−i) w + k_i}      i > t  e^{−(i−t) w
                                                                   + k_i}
    itself               e^{u + k_t} + Σ_{t₀<j≤t} (1 − e^w) e^{(t−j) w + k_j}              mode="kernel", for
                         checkpoints that were trained with it

All sums carry their largest exponent, so nothing overflows. Float32, or float64 for float64 inputs.
"""

import torch
from torch import Tensor

from backbones.recurrences.forms import compiled, pick

SEGMENTS, EPS = 32, 1e-6
MODES = ("paper", "kernel")
Sum = tuple[Tensor, Tensor, Tensor]  # numerator, denominator, exponent: their values times e^exponent


def bi_wkv(w: Tensor, u: Tensor, k: Tensor, v: Tensor, mode: str = "paper", *, form: str = "auto") -> Tensor:
    """``w``, ``u`` (C,); ``k``, ``v`` (B, T, C) → (B, T, C) in v's dtype. ``form`` as in
    `backbones.recurrences.forms`; ``reference`` can be differentiated twice. The kernel's mode is fused
    without gradients only. Under torch.compile the fused form is an operator of its own. Raises
    ``ValueError`` for shapes that do not fit, integer tensors, an unknown mode and a form that is not
    there."""
    check_wkv(w, u, k, v, mode)
    tracing = torch.compiler.is_compiling()
    chosen = (
        "fused"
        if tracing and compiled(form, v, w)
        else "reference"
        if tracing
        else pick(form, ("fused",), v, w)
    )
    if mode == "kernel" and torch.is_grad_enabled() and any(x.requires_grad for x in (w, u, k, v)):
        if form == "fused":
            raise ValueError(
                "got form='fused' with mode='kernel' where gradients are asked for, which only its "
                "reference form has; try form='auto'"
            )
        chosen = "reference"
    if chosen == "fused" and tracing:
        from backbones.recurrences.compiled import wkv

        return wkv(w, u, k, v, (SEGMENTS, EPS) if mode == "kernel" else None)
    if chosen == "fused":
        from backbones.recurrences.wkv_fused import fused_wkv

        return fused_wkv(w, u, k, v, (SEGMENTS, EPS) if mode == "kernel" else None)
    return wkv_reference(w, u, k, v, mode)


def wkv_reference(w: Tensor, u: Tensor, k: Tensor, v: Tensor, mode: str = "paper") -> Tensor:
    """Two scans in torch alone: differentiable twice, under ``vmap``, on any device."""
    kind = torch.float64 if v.dtype == torch.float64 else torch.float32
    decay, first, keys, values = w.to(kind), u.to(kind), k.to(kind), v.to(kind)
    ks, vs = keys.unbind(1), values.unbind(1)
    size = -(-len(ks) // SEGMENTS) if mode == "kernel" else 0
    right, ahead = [_empty(keys)], _empty(keys)
    for i in range(len(ks) - 1, 0, -1):  # over i > t, weights e^{−(i−t−1) w}
        ahead = _add(_shift(ahead, -decay), ks[i], vs[i])
        right.append(ahead)
    right.reverse()
    made = []
    behind = inside = extra = _empty(keys)
    for t, (key, value) in enumerate(zip(ks, vs)):
        own = (value, torch.ones_like(value), first + key)
        if mode == "paper":
            made.append(_ratio([behind, right[t], own]))
        else:
            if t % size == 0:
                # what lies before this segment, and nothing of it yet
                outside, inside, extra = behind, _empty(keys), _empty(keys)
            else:
                outside = _shift(outside, -decay)
                extra = _add(_shift(extra, decay), key, value)
            made.append(
                _ratio(
                    [inside, _shift(outside, -decay), _shift(right[t], -decay), _scaled(extra, decay), own],
                    eps=EPS,
                )
            )
            inside = _add(_shift(inside, -decay), key, value)
        behind = _add(_shift(behind, -decay), key, value)
    return torch.stack(made, dim=1).to(v.dtype)


def _empty(keys: Tensor) -> Sum:
    zero = torch.zeros_like(keys[:, 0])
    return zero, zero, torch.full_like(zero, -1e30)  # finite, so that differences of exponents are


def _shift(total: Sum, by: Tensor) -> Sum:
    return total[0], total[1], total[2] + by


def _add(total: Sum, key: Tensor, value: Tensor) -> Sum:
    top = torch.maximum(total[2], key)
    old, new = torch.exp(total[2] - top), torch.exp(key - top)
    return old * total[0] + new * value, old * total[1] + new, top


def _scaled(total: Sum, w: Tensor) -> Sum:
    """(1 − e^w) times a sum, e^w kept out of the range of overflow."""
    top = w.clamp_min(0)
    factor = torch.exp(-top) - torch.exp(w - top)
    return factor * total[0], factor * total[1], total[2] + top


def _ratio(sums: list[Sum], eps: float = 0.0) -> Tensor:
    top = torch.stack([s[2] for s in sums]).amax(0)
    scales = [torch.exp(s[2] - top) for s in sums]
    above, below = (torch.stack([scale * s[i] for scale, s in zip(scales, sums)]).sum(0) for i in (0, 1))
    return above / (below + eps)


def check_wkv(w: Tensor, u: Tensor, k: Tensor, v: Tensor, mode: str) -> None:
    """Raises ``ValueError`` naming what does not fit."""
    if mode not in MODES:
        raise ValueError(f"got the wkv mode {mode!r}, expected one of {', '.join(MODES)}")
    if k.ndim != 3 or k.shape != v.shape or w.shape != k.shape[2:] or u.shape != k.shape[2:]:
        raise ValueError(
            f"got w {tuple(w.shape)}, u {tuple(u.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}, "
            "expected (channels,) twice and (batch, length, channels) twice"
        )
    for name, value in (("w", w), ("u", u), ("k", k), ("v", v)):
        if not value.is_floating_point():
            raise ValueError(f"got {name} of {value.dtype}, expected a floating-point tensor")
    if k.shape[1] == 0:
        raise ValueError("got a sequence of length 0, expected at least one step")
