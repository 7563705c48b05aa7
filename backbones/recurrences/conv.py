"""The two short depthwise convolutions of a bidirectional Mamba layer with their SiLU
(`backbones.kernels.conv`), and their plain form."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.kernels.threads import flat, share
from backbones.recurrences.forms import once, pick, told


def two_way_conv(x: Tensor, w: Tensor, bias: Tensor, *, form: str = "auto") -> tuple[Tensor, Tensor]:
    """``x`` (B, L, D); ``w`` (2, D, K) and ``bias`` (2, D) of the causal direction and of the one from the
    other end → two (B, L, D)."""
    if not torch.compiler.is_compiling() and pick(form, ("fused",), x, w) == "fused":
        from backbones.kernels import conv as conv_kernel

        channels = x.shape[2]
        pad = -channels % conv_kernel.LANES
        wide = (
            (F.pad(x.float(), (0, pad)), F.pad(w.float(), (0, 0, 0, pad)), F.pad(bias.float(), (0, pad)))
            if pad
            else (x.float(), w.float(), bias.float())
        )
        ahead, back = told("convolution", (conv_kernel.forward,), lambda: _Conv.apply(*wide))
        return ahead[..., :channels].to(x.dtype), back[..., :channels].to(x.dtype)
    return conv_reference(x, w, bias)


def conv_reference(x: Tensor, w: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """In torch alone."""
    channels, reach, columns = x.shape[2], w.shape[2], x.transpose(1, 2)
    w, bias = w.to(x.dtype), bias.to(x.dtype)
    ahead = F.conv1d(F.pad(columns, (reach - 1, 0)), w[0][:, None], bias[0], groups=channels)
    back = F.conv1d(F.pad(columns, (0, reach - 1)), w[1].flip(1)[:, None], bias[1], groups=channels)
    return F.silu(ahead).transpose(1, 2).contiguous(), F.silu(back).transpose(1, 2).contiguous()


def _columns(x: Tensor) -> tuple[Tensor, Any, tuple[int, int]]:
    """(B, L, D) as a flat array with the strides of samples and steps; made contiguous where channels do not
    lie beside each other."""
    x = x.detach()
    if x.stride(2) != 1 or any(s < 0 for s in x.stride()):
        x = x.contiguous()
    return x, flat(x), (x.stride(0), x.stride(1))


def _table(w: Tensor, bias: Tensor) -> Tensor:
    """(2, K + 1, D): taps and bias of each direction."""
    return torch.cat([w.detach().transpose(1, 2), bias.detach()[:, None]], dim=1).contiguous()


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        from backbones.kernels import conv as conv_kernel

        kernel: Any = conv_kernel
        batch, length, channels = x.shape
        held, values, strides = _columns(x)
        ahead, back = torch.empty(batch, length, channels), torch.empty(batch, length, channels)
        table, outputs = _table(w, bias).view(-1).numpy(), [v.view(-1).numpy() for v in (ahead, back)]
        shape = (channels, length, w.shape[2])
        share(
            batch * -(-length // kernel.ROWS),
            lambda first, last: kernel.forward(first, last, values, strides, table, *outputs, shape),
        )
        del held
        ctx.save_for_backward(x, w, bias)
        return ahead, back

    @staticmethod
    @once("convolution")
    def backward(ctx: Any, grad_ahead: Tensor, grad_back: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        from backbones.kernels import conv as conv_kernel

        kernel: Any = conv_kernel
        x, w, bias = ctx.saved_tensors
        batch, length, channels = x.shape
        reach, tasks = w.shape[2], batch * -(-length // kernel.ROWS)
        (held, values, strides), (g1, flat1, strides1), (g2, flat2, strides2) = (
            _columns(v) for v in (x, grad_ahead.float(), grad_back.float())
        )
        gx, shares = torch.empty(batch, length, channels), torch.zeros(tasks, 2, reach + 1, channels)
        table, outputs = _table(w, bias).view(-1).numpy(), [v.view(-1).numpy() for v in (gx, shares)]
        shape = (channels, length, reach)
        share(
            tasks,
            lambda first, last: kernel.backward(
                first, last, values, strides, table, flat1, strides1, flat2, strides2, *outputs, shape
            ),
        )
        del held, g1, g2
        total = shares.sum(0)
        return gx, total[:, :reach].transpose(1, 2), total[:, reach]
