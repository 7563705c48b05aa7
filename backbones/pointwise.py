"""What lies between the products of a transformer's block, each in one pass over memory on CPUs, forward and
backward: GELU, a norm with its modulation, a gate with its residual.

torch makes each of these in two or three passes (benchmarks/pointwise.py times both sides). The plain forms
run for float64, small tensors, on other devices, where torch.compile fuses them itself, and under function
transforms.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.kernels.threads import flat, share
from backbones.recurrences.forms import NUMBA, told

LEAST = 2**15  # numbers, below which a call costs more than it saves
LANES = 16
KINDS = (torch.float32, torch.bfloat16)


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh form, elementwise."""
    if not _fused(x):
        return F.gelu(x, approximate="tanh")
    return Gelu.apply(x)


def norm_modulated(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """LayerNorm(x) (1 + scale) + shift for x (B, N, D), shift and scale (B, D), in their dtype. The norm has
    no map of its own."""
    if not _fused(x, shift, scale):
        return _norm_plain(x, shift, scale, eps)
    return NormModulated.apply(x, shift, scale, eps)


def gated(h: Tensor, gate: Tensor, x: Tensor) -> Tensor:
    """h + gate · x for h and x (B, N, D), gate (B, D), in h's dtype."""
    if not _fused(h, gate, x) or h.dtype != torch.float32:
        return h + gate[:, None] * x
    return Gated.apply(h, gate, x)


def _fused(first: Tensor, *others: Tensor) -> bool:
    """Whether the loops can take these tensors, and are worth their call."""
    return (
        NUMBA
        and first.device.type == "cpu"
        and first.numel() >= LEAST
        and all(t.dtype in KINDS and t.shape[-1] % LANES == 0 for t in (first, *others))
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and _loops().there
    )


class Loops(NamedTuple):
    """Modules of kernels, whose functions have no types of their own."""

    there: bool
    gelu: Any = None
    modulated: Any = None


@cache
def _loops() -> Loops:
    """Loaded once; not there where the compiler's library cannot be, as in a process short of memory."""
    try:
        from backbones.kernels import gelu, modulated
    except (ImportError, OSError, MemoryError):
        return Loops(False)
    return Loops(True, gelu, modulated)


def _rows(*vectors: Tensor) -> tuple[list[Tensor], int]:
    """(B, D) vectors that lie equally far apart from one sample to the next, and how far."""
    strides = {(v.stride(0), v.stride(1)) for v in vectors}
    if len(strides) == 1 and vectors[0].stride(1) == 1 and vectors[0].stride(0) > 0:
        return [v.detach() for v in vectors], vectors[0].stride(0)
    return [v.detach().contiguous() for v in vectors], vectors[0].shape[1]


def _stretches(samples: int, tokens: int) -> int:
    """In how many parts the tokens of a sample are shared out, so that every thread has one."""
    return max(1, min(tokens, -(-torch.get_num_threads() // samples)))


def _twice(ctx: Any, plain: Callable[..., Tensor], grad: Tensor, *inputs: Tensor) -> Sequence[Any]:
    """Gradients that can be differentiated again: of the plain form."""
    with torch.enable_grad():
        wanted = [t for t, needed in zip(inputs, ctx.needs_input_grad) if needed]
        made = torch.autograd.grad(plain(*inputs), wanted, grad, create_graph=True)
    found = iter(made)
    return [next(found) if needed else None for needed in ctx.needs_input_grad[: len(inputs)]]


class Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        kernel = _loops().gelu
        given = x.detach().contiguous()
        out = torch.empty_like(given)
        ctx.save_for_backward(x)
        arrays, count = (flat(given), flat(out)), given.numel()
        told(
            "GELU",
            (kernel.forward,),
            lambda: share(-(-count // LANES), lambda a, b: kernel.forward(a, b, *arrays, count)),
        )
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        kernel = _loops().gelu
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _twice(ctx, lambda x: F.gelu(x, approximate="tanh"), grad, x)[0]
        out = torch.empty(x.shape, dtype=x.dtype)
        arrays, count = (flat(x.contiguous()), flat(grad.to(x.dtype).contiguous()), flat(out)), x.numel()
        share(-(-count // LANES), lambda a, b: kernel.backward(a, b, *arrays, count))
        return out


class NormModulated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
        kernel = _loops().modulated
        given = x.detach().contiguous()
        (moved, scaled), apart = _rows(shift, scale)
        y = torch.empty(x.shape, dtype=shift.dtype)
        ctx.save_for_backward(x, shift, scale)
        ctx.eps = eps
        batch, tokens, channels = x.shape
        arrays = [flat(v) for v in (given, moved, scaled, y)]
        told(
            "norm",
            (kernel.norm_forward,),
            lambda: share(
                batch * tokens,
                lambda a, b: kernel.norm_forward(a, b, *arrays, tokens, channels, apart, _f32(eps)),
            ),
        )
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        kernel = _loops().modulated
        x, shift, scale = ctx.saved_tensors
        if torch.is_grad_enabled():
            eps = ctx.eps
            return (*_twice(ctx, lambda x, a, b: _norm_plain(x, a, b, eps), grad, x, shift, scale), None)
        batch, tokens, channels = x.shape
        (scaled,), apart = _rows(scale)
        parts = _stretches(batch, tokens)
        dx = torch.empty(x.shape, dtype=x.dtype)
        sums = torch.zeros(2, batch * parts, channels)
        arrays = [flat(v) for v in (grad.contiguous(), x.contiguous(), scaled, dx, sums[0], sums[1])]
        share(
            batch * parts,
            lambda a, b: kernel.norm_backward(a, b, *arrays, tokens, parts, channels, apart, _f32(ctx.eps)),
        )
        dshift, dscale = sums.view(2, batch, parts, channels).sum(2).unbind()
        return dx, dshift.to(shift.dtype), dscale.to(scale.dtype), None


class Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, gate: Tensor, x: Tensor) -> Tensor:
        kernel = _loops().modulated
        (row,), apart = _rows(gate)
        z = torch.empty(h.shape, dtype=h.dtype)
        ctx.save_for_backward(gate, x)
        batch, tokens, channels = h.shape
        arrays = [flat(v) for v in (h.detach().contiguous(), row, x.detach().contiguous(), z)]
        told(
            "gate",
            (kernel.gate_forward,),
            lambda: share(
                batch * tokens, lambda a, b: kernel.gate_forward(a, b, *arrays, tokens, channels, apart)
            ),
        )
        return z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        kernel = _loops().modulated
        gate, x = ctx.saved_tensors
        if torch.is_grad_enabled():
            wide = grad * gate[:, None]
            return grad, (grad * x).sum(1).to(gate.dtype), wide.to(x.dtype)
        batch, tokens, channels = x.shape
        (row,), apart = _rows(gate)
        parts = _stretches(batch, tokens)
        dx, dgate = torch.empty(x.shape, dtype=x.dtype), torch.zeros(batch * parts, channels)
        arrays = [flat(v) for v in (grad.contiguous(), row, x.contiguous(), dx, dgate)]
        share(batch * parts, lambda a, b: kernel.gate_backward(a, b, *arrays, tokens, parts, channels, apart))
        return grad, dgate.view(batch, parts, channels).sum(1).to(gate.dtype), dx


def _norm_plain(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    norm = F.layer_norm(x, x.shape[-1:], eps=eps).to(shift.dtype)
    return torch.addcmul(shift[:, None], norm, 1 + scale[:, None])


def _f32(value: float) -> Any:
    return np.float32(value)
