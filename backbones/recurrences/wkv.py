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
from backbones.recurrences.wkv_chunked import wkv_chunked
from backbones.recurrences.wkv_plain import EPS as EPS
from backbones.recurrences.wkv_plain import SEGMENTS as SEGMENTS
from backbones.recurrences.wkv_plain import wkv_reference as wkv_reference

MODES = ("paper", "kernel")


def bi_wkv(w: Tensor, u: Tensor, k: Tensor, v: Tensor, mode: str = "paper", *, form: str = "auto") -> Tensor:
    """``w``, ``u`` (C,); ``k``, ``v`` (B, T, C) → (B, T, C) in v's dtype. ``form`` as in
    `backbones.recurrences.forms`; ``reference`` and ``chunked`` can be differentiated twice. The kernel's
    mode is fused without gradients only. Under torch.compile the last two are operators of their own. Raises
    ``ValueError`` for shapes that do not fit, integer tensors, an unknown mode and a form that is not
    there."""
    check_wkv(w, u, k, v, mode)
    tracing = torch.compiler.is_compiling()
    chosen = "fused" if tracing and compiled(form, v, w) else pick(form, ("fused", "chunked"), v, w)
    if mode == "kernel" and torch.is_grad_enabled() and any(x.requires_grad for x in (w, u, k, v)):
        if form == "fused":
            raise ValueError(
                "got form='fused' with mode='kernel' where gradients are asked for, which only its "
                "plain forms have; try form='auto'"
            )
        chosen = "reference" if chosen == "fused" else chosen
    if chosen == "fused" and tracing:
        from backbones.recurrences.compiled import wkv

        return wkv(w, u, k, v, (SEGMENTS, EPS) if mode == "kernel" else None)
    if chosen == "fused":
        from backbones.recurrences.wkv_fused import fused_wkv

        return fused_wkv(w, u, k, v, (SEGMENTS, EPS) if mode == "kernel" else None)
    return (wkv_chunked if chosen == "chunked" else wkv_reference)(w, u, k, v, mode)


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
