"""`backbones.kernels.scan` as a function that torch can differentiate: (B, D, L) float32 on the CPU, any
strides."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.kernels import scan as scan_kernel
from backbones.kernels.threads import flat, share
from backbones.recurrences.forms import once, told

kernel: Any = scan_kernel  # numba's functions have no types of their own

LOG2E = 1.4426950408889634
# units of the backward pass over all samples, at least; fixed, so that sums do not depend on the threads
PARTS = 8


def _flat(x: Tensor) -> tuple[Tensor, np.ndarray, tuple[int, int, int]]:
    """(B, D, L) as a flat float32 array with its strides; made contiguous where neither channels nor steps
    lie beside each other."""
    x = x.detach().float()
    if x.stride(1) != 1 and x.stride(2) != 1 or any(s < 0 for s in x.stride()):
        x = x.contiguous()
    return x, flat(x), (x.stride(0), x.stride(1), x.stride(2))


def _like(x: Tensor) -> Tensor:
    """An output laid out as an input is: channels beside each other, or steps."""
    if x.stride(1) == 1 and x.shape[1] > 1:
        return torch.empty(x.shape[0], x.shape[2], x.shape[1]).transpose(1, 2)
    return torch.empty(x.shape)


def forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor | None,
    bias: Tensor,
    begin: Tensor,
    softplus: bool,
    reverse: bool,
    *,
    training: bool,
    y: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """``y`` filled, the last state, and the states that `backward` starts from (where ``training``)."""
    batch, channels, length = u.shape
    states = A.shape[1]
    a = (A.detach().float() * LOG2E).contiguous().numpy()
    # (B·L·N,)
    into, out_of = (v.detach().float().transpose(1, 2).contiguous().view(-1).numpy() for v in (B, C))
    held = [_flat(x) for x in (u, delta, u if z is None else z)]
    _, flat_y, strides_y = _flat(y)
    end = torch.empty(batch, channels, states)
    groups = -(-channels // kernel.LANES)
    kept = torch.empty(kept_size(batch, channels, length, states) if training else 0)
    rest = (a, into, out_of, *(v.detach().float().contiguous().numpy() for v in (D, bias, begin)))
    shape = (channels, length, states)
    (_, fu, su), (_, fd, sd), (_, fz, sz) = held
    share(
        batch * groups,
        lambda first, last: kernel.forward(
            first,
            last,
            fu,
            su,
            fd,
            sd,
            fz,
            sz,
            flat_y,
            strides_y,
            *rest,
            end.numpy(),
            kept.numpy(),
            shape,
            softplus,
            z is not None,
            reverse,
        ),
    )
    return y, end, kept


def kept_size(batch: int, channels: int, length: int, states: int) -> int:
    """Numbers that the backward pass needs of the forward one."""
    return batch * -(-channels // kernel.LANES) * -(-length // kernel.CHUNK) * states * kernel.LANES


def backward(
    grad: Tensor,
    grad_end: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor | None,
    bias: Tensor,
    begin: Tensor,
    kept: Tensor,
    softplus: bool,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """Gradients of the nine inputs; of a ``z`` that is not there without numbers."""
    batch, channels, length = u.shape
    states, groups = A.shape[1], -(-channels // kernel.LANES)
    parts = min(groups, max(1, -(-PARTS // batch)))
    a = (A.detach().float() * LOG2E).contiguous().numpy()
    into, out_of = (v.detach().float().transpose(1, 2).contiguous().view(-1).numpy() for v in (B, C))
    (_, fu, su), (_, fd, sd), (_, fz, sz), (_, fg, sg) = held = [
        _flat(x) for x in (u, delta, u if z is None else z, grad)
    ]
    gu, gd, gz = (
        torch.empty(batch, length, channels),
        torch.empty(batch, length, channels),
        torch.empty(batch, length, channels if z is not None else 0),
    )
    ga, gbegin = torch.empty(batch, channels, states), torch.empty(batch, channels, states)
    gb, gc = torch.zeros(batch, parts, length, states), torch.zeros(batch, parts, length, states)
    gskip, gbias = torch.empty(batch, channels), torch.empty(batch, channels)
    gend = torch.zeros(batch, channels, states) if grad_end is None else grad_end.float().contiguous()
    shape = (channels, length, states)
    tail = [v.detach().float().contiguous().numpy() for v in (D, bias)]
    flat_grads = [v.view(-1).numpy() for v in (gu, gd, gz)]
    share(
        batch * parts,
        lambda first, last: kernel.backward(
            first,
            last,
            parts,
            fu,
            su,
            fd,
            sd,
            fz,
            sz,
            fg,
            sg,
            a,
            into,
            out_of,
            *tail,
            kept.numpy(),
            *flat_grads,
            ga.numpy(),
            gb.view(-1).numpy(),
            gc.view(-1).numpy(),
            gskip.numpy(),
            gbias.numpy(),
            gbegin.numpy(),
            gend.numpy(),
            shape,
            softplus,
            z is not None,
            reverse,
        ),
    )
    del held
    sums = [v.sum(1).transpose(1, 2) for v in (gb, gc)]  # (B, N, L)
    return (
        gu.transpose(1, 2),
        gd.transpose(1, 2),
        ga.sum(0),
        *sums,
        gskip.sum(0),
        gz.transpose(1, 2),
        gbias.sum(0),
        gbegin,
    )


class Scan(torch.autograd.Function):
    """Inputs as `selective_scan`'s, all given (zeros for what is absent), float32. Returns (out, last
    state)."""

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor,
        z: Tensor | None,
        bias: Tensor,
        begin: Tensor,
        softplus: bool,
        reverse: bool,
    ) -> tuple[Tensor, Tensor]:
        given, training = (u, delta, A, B, C, D, z, bias, begin), any(ctx.needs_input_grad)
        y, end, kept = forward(*given, softplus, reverse, training=training, y=_like(_flat(u)[0]))
        if training:
            ctx.save_for_backward(*given, kept)
            ctx.options = (softplus, reverse)
        return y, end

    @staticmethod
    @once("selective scan")
    def backward(ctx: Any, grad: Tensor, grad_end: Tensor | None) -> tuple[Any, ...]:
        made: list[Tensor | None] = list(backward(grad, grad_end, *ctx.saved_tensors, *ctx.options))
        made[6] = None if ctx.saved_tensors[6] is None else made[6]
        return (*made, None, None)


def fused_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    *,
    reverse: bool = False,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As `backbones.recurrences.scan.scan_reference`."""
    batch, channels, _ = u.shape
    zeros = torch.zeros(channels)
    begin = torch.zeros(batch, channels, A.shape[1]) if state is None else state
    wide = [x.float() for x in (u, delta, A, B, C)]
    rest = (
        zeros if D is None else D.float(),
        None if z is None else z.float(),
        zeros if delta_bias is None else delta_bias.float(),
        begin.float(),
    )
    y, last = told(
        "selective scan", (kernel.forward,), lambda: Scan.apply(*wide, *rest, delta_softplus, reverse)
    )
    return y.to(u.dtype), last
