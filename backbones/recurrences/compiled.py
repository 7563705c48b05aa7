"""The fused recurrences as operators of torch, for torch.compile, which cannot look into loops that numba has
compiled and would unroll those of torch.

In a compiled graph each is one call with gradients of its own; what it computes is what
`backbones.recurrences.scan_fused` and `backbones.recurrences.wkv_fused` compute.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.recurrences import scan_fused, wkv_fused
from backbones.recurrences.scan_plain import scan_reference

LANES: int = wkv_fused.kernel.LANES
Nine = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def _wide(batch: int, length: int, channels: int, like: Tensor) -> Tensor:
    """(B, D, L), channels beside each other."""
    return like.new_empty(batch, length, channels).transpose(1, 2)


@torch.library.custom_op("drift_studio::selective_scan", mutates_args=(), device_types="cpu")
def _scan(
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
) -> tuple[Tensor, Tensor, Tensor]:
    batch, channels, length = u.shape
    y = _wide(batch, length, channels, u)
    if bool((A <= 0).all()):
        return scan_fused.forward(u, delta, A, B, C, D, z, bias, begin, softplus, reverse, training=True, y=y)
    # the loops know decays only
    made, end = scan_reference(u, delta, A, B, C, D, z, bias, softplus, reverse=reverse, state=begin)
    return y.copy_(made), end.clone(), u.new_zeros(scan_fused.kept_size(batch, channels, length, A.shape[1]))


@_scan.register_fake
def _(
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
) -> tuple[Tensor, Tensor, Tensor]:
    batch, channels, length = u.shape
    kept = u.new_empty(scan_fused.kept_size(batch, channels, length, A.shape[1]))
    return _wide(batch, length, channels, u), u.new_empty(batch, channels, A.shape[1]), kept


@torch.library.custom_op("drift_studio::selective_scan_backward", mutates_args=(), device_types="cpu")
def _scan_back(
    grad: Tensor,
    grad_end: Tensor,
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
) -> Nine:
    given = (u, delta, A, B, C, D, z, bias, begin)
    if bool((A <= 0).all()):
        made: Any = scan_fused.backward(grad, grad_end, *given, kept, softplus, reverse)
        return tuple(v.contiguous() for v in made)
    raise ValueError(
        "got a positive A in a compiled scan that is differentiated, expected decays; try form='reference'"
    )


@_scan_back.register_fake
def _(
    grad: Tensor,
    grad_end: Tensor,
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
) -> Nine:
    given = (u, delta, A, B, C, D, z, bias, begin)
    made: Any = [u.new_empty(len(u), 0, u.shape[2]) if v is None else v.new_empty(v.shape) for v in given]
    return tuple(made)


def _keep_scan(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:9], output[2])
    ctx.options = inputs[9:]


def _scan_grads(ctx: Any, grad: Tensor, grad_end: Tensor, _: Any) -> tuple[Any, ...]:
    made: list[Any] = list(_scan_back(grad, grad_end, *ctx.saved_tensors, *ctx.options))
    made[6] = None if ctx.saved_tensors[6] is None else made[6]
    return (*made, None, None)


_scan.register_autograd(_scan_grads, setup_context=_keep_scan)


def scan(
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
    rest = (
        zeros if D is None else D.float(),
        None if z is None else z.float(),
        zeros if delta_bias is None else delta_bias.float(),
    )
    begin = torch.zeros(batch, channels, A.shape[1]) if state is None else state.float()
    y, last, _kept = _scan(*(x.float() for x in (u, delta, A, B, C)), *rest, begin, delta_softplus, reverse)
    return y.to(u.dtype), last


@torch.library.custom_op("drift_studio::bi_wkv", mutates_args=(), device_types="cpu")
def _wkv(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return wkv_fused.forward(w, u, k.contiguous(), v.contiguous(), training=True)


@_wkv.register_fake
def _(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return k.new_empty(k.shape), k.new_empty(k.shape), k.new_empty(k.shape)


@torch.library.custom_op("drift_studio::bi_wkv_backward", mutates_args=(), device_types="cpu")
def _wkv_back(
    grad: Tensor, w: Tensor, u: Tensor, k: Tensor, v: Tensor, y: Tensor, top: Tensor, below: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return wkv_fused.backward(grad, w, u, k.contiguous(), v.contiguous(), y, top, below)


@_wkv_back.register_fake
def _(
    grad: Tensor, w: Tensor, u: Tensor, k: Tensor, v: Tensor, y: Tensor, top: Tensor, below: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return tuple(x.new_empty(x.shape) for x in (w, u, k, v))  # type: ignore[return-value]


def _keep_wkv(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output)


def _wkv_grads(ctx: Any, grad: Tensor, *_: Any) -> tuple[Any, ...]:
    return _wkv_back(grad, *ctx.saved_tensors)


_wkv.register_autograd(_wkv_grads, setup_context=_keep_wkv)


@torch.library.custom_op("drift_studio::bi_wkv_released", mutates_args=(), device_types="cpu")
def _released(w: Tensor, u: Tensor, k: Tensor, v: Tensor, segments: int, eps: float) -> Tensor:
    return wkv_fused.released([w, u, k, v], segments, eps)


@_released.register_fake
def _(w: Tensor, u: Tensor, k: Tensor, v: Tensor, segments: int, eps: float) -> Tensor:
    return k.new_empty(k.shape)


def wkv(w: Tensor, u: Tensor, k: Tensor, v: Tensor, as_released: tuple[int, float] | None = None) -> Tensor:
    """As `backbones.recurrences.wkv_fused.fused_wkv`."""
    channels = k.shape[2]
    more = -channels % LANES
    wide = [F.pad(x.float(), (0, more)) if more else x.float() for x in (w, u, k, v)]
    made = _wkv(*wide)[0] if as_released is None else _released(*wide, *as_released)
    return made[..., :channels].to(v.dtype)
