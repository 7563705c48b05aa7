"""`backbones.kernels.wkv` as a function that torch can differentiate: (B, T, C) float32 on the CPU. The
released kernel's mode runs forward only."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.kernels import wkv as wkv_kernel
from backbones.kernels.threads import flat, share
from backbones.recurrences.forms import once, told

kernel: Any = wkv_kernel  # numba's functions have no types of their own


def _flat(*tensors: Tensor) -> list[Any]:
    return [flat(t.detach().contiguous()) for t in tensors]


def _kept(w: Tensor, u: Tensor, k: Tensor, v: Tensor, more: int) -> list[Tensor]:
    """Inputs as the kernel takes them: bfloat16 keys and values as they are where nothing needs a
    gradient."""
    low = k.dtype == v.dtype == torch.bfloat16 and not (
        torch.is_grad_enabled() and any(x.requires_grad for x in (w, u, k, v))
    )
    given = [w.float(), u.float(), *(x if low else x.float() for x in (k, v))]
    return [F.pad(x, (0, more)) for x in given] if more else given


def forward(w: Tensor, u: Tensor, k: Tensor, v: Tensor, *, training: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(B, T, C) result, and what the backward pass needs (where ``training``)."""
    batch, length, channels = k.shape
    y = torch.empty_like(k)
    top, below = (torch.empty(k.shape if training else (0,)) for _ in range(2))
    groups = channels // kernel.LANES
    inputs, outputs = _flat(w, u, k, v), _flat(y, top, below)
    share(batch * groups, lambda first, last: kernel.forward(first, last, *inputs, *outputs, groups, length))
    return y, top, below


def backward(
    grad: Tensor, w: Tensor, u: Tensor, k: Tensor, v: Tensor, y: Tensor, top: Tensor, below: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the four inputs."""
    batch, length, channels = k.shape
    gw, gu = torch.empty(batch, channels), torch.empty(batch, channels)
    gk, gv = torch.empty_like(k), torch.empty_like(v)
    groups = channels // kernel.LANES
    inputs, outputs = _flat(w, u, k, v, y, top, below, grad.float()), _flat(gw, gu, gk, gv)
    share(batch * groups, lambda first, last: kernel.backward(first, last, *inputs, *outputs, groups, length))
    return gw.sum(0), gu.sum(0), gk, gv


class WKV(torch.autograd.Function):
    """``w``, ``u`` (C,); ``k``, ``v`` (B, T, C) float32, or bfloat16 without gradients; C a multiple of
    16."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
        given, training = (w, u, k.contiguous(), v.contiguous()), any(ctx.needs_input_grad)
        made = forward(*given, training=training)
        if training:
            ctx.save_for_backward(*given, *made)
        return made[0]

    @staticmethod
    @once("WKV")
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return backward(grad, *ctx.saved_tensors)


def released(inputs: list[Tensor], segments: int, eps: float) -> Tensor:
    """As `WKV` on its four inputs, with the released kernel's formula, without gradients."""
    batch, length, channels = inputs[2].shape
    y, groups, values = (
        torch.empty(inputs[2].shape, dtype=inputs[2].dtype),
        channels // kernel.LANES,
        _flat(*inputs),
    )
    out, size = flat(y), -(-length // segments)
    share(
        batch * groups,
        lambda first, last: kernel.released(first, last, *values, out, groups, length, size, np.float32(eps)),
    )
    return y


def fused_wkv(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, as_released: tuple[int, float] | None = None
) -> Tensor:
    """As `backbones.recurrences.wkv.wkv_reference`; ``as_released``: segments and ε of the kernel's mode."""
    channels = k.shape[2]
    more = -channels % kernel.LANES
    wide = _kept(w, u, k, v, more)
    y: Tensor
    if as_released is not None:
        y = told("WKV of released weights", (kernel.released,), lambda: released(wide, *as_released))
    else:
        y = told("WKV", (kernel.forward,), lambda: WKV.apply(*wide))
    return y[..., :channels].to(v.dtype)
