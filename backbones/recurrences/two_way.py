"""Both selective scans of a bidirectional Mamba layer with the gate that they share, out = (y_ahead + y_back)
SiLU(z); see `backbones.recurrences.scan`."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.kernels.threads import flat, share
from backbones.recurrences.forms import compiled, pick, told
from backbones.recurrences.scan import selective_scan
from backbones.recurrences.scan_chunked import chunked_states

LOG2E = 1.4426950408889634


class Way(NamedTuple):
    """One direction's inputs: ``u`` (B, L, D); ``low`` (B, L, R), of which ``weight`` (D, R) and ``bias``
    (D,) make the step sizes; ``B``, ``C`` (B, L, N); ``A`` (D, N), negative; ``D`` (D,)."""

    u: Tensor
    low: Tensor
    B: Tensor
    C: Tensor
    A: Tensor
    weight: Tensor
    D: Tensor
    bias: Tensor


def two_way_scan(ahead: Way, back: Way, z: Tensor, *, form: str = "auto") -> Tensor:
    """``back`` runs from the last step to the first; ``z`` (B, L, D) → (B, L, D) in z's dtype. ``form`` as in
    `backbones.recurrences.forms`. Where nothing needs a gradient, one fused loop does it all; in chunks both
    directions are one scan; otherwise two `selective_scan` do. Any memory layout. Raises ``ValueError`` for
    shapes that do not fit."""
    check_ways(ahead, back, z)
    inputs = (z, *ahead, *back)
    tracing = torch.compiler.is_compiling()
    chosen = "" if tracing and compiled(form, *inputs) else pick(form, ("fused", "mamba", "chunked"), *inputs)
    if chosen == "chunked":
        return two_way_chunked(ahead, back, z)
    watched = tracing or torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    if chosen == "fused" and not watched and all(bool((way.A <= 0).all()) for way in (ahead, back)):
        return two_way_fused(ahead, back, z)
    return _one_way(ahead, z, form, reverse=False) + _one_way(back, z, form, reverse=True)


def _one_way(way: Way, z: Tensor, form: str, *, reverse: bool) -> Tensor:
    delta = F.linear(way.low.to(way.weight.dtype), way.weight)  # (B, L, D)
    u, delta, b, c, gate = (x.transpose(1, 2) for x in (way.u, delta, way.B, way.C, z))
    y = selective_scan(u, delta, way.A, b, c, way.D, gate, way.bias, reverse=reverse, form=form)
    assert isinstance(y, Tensor)
    return y.transpose(1, 2).contiguous()


def two_way_chunked(ahead: Way, back: Way, z: Tensor) -> Tensor:
    """Both directions as samples of one scan (`backbones.recurrences.scan_chunked`), the second one turned
    round."""
    kind = torch.float64 if z.dtype == torch.float64 else torch.float32
    ways, rows = [Way(*(x.to(kind) for x in way)) for way in (ahead, back)], []
    for way in ways:
        step = F.softplus(F.linear(way.low, way.weight) + way.bias)  # (B, L, D)
        rows.append([step, step * way.u, way.B, way.C])
    step, gained, into, out_of = (torch.cat([x, y.flip(1)]) for x, y in zip(*rows))  # (2B, L, ...)
    a = torch.cat([way.A.expand(len(z), -1, -1) for way in ways])  # (2B, D, N)
    y, _ = chunked_states(step, gained, a, into, out_of, torch.zeros_like(a))
    first, second = y.chunk(2)
    y = torch.addcmul(first, ways[0].D, ways[0].u) + torch.addcmul(second.flip(1), ways[1].D, ways[1].u)
    return (y * F.silu(z.to(kind))).to(z.dtype)


def two_way_fused(ahead: Way, back: Way, z: Tensor) -> Tensor:
    """`backbones.kernels.two_way` on tensors."""
    from backbones.kernels import two_way as two_way_kernel

    kernel: Any = two_way_kernel  # numba's functions have no types of their own
    batch, length, channels = z.shape
    y, ways = torch.empty(batch, length, channels), [_arrays(way) for way in (ahead, back)]
    (flat_z, strides_z), (flat_y, strides_y) = _rows(z), _rows(y)
    begin = torch.zeros(1, channels, ahead.A.shape[1]).numpy()
    shape = (channels, length, ahead.A.shape[1], ahead.weight.shape[1])

    def work(first: int, last: int) -> None:
        kernel.forward(first, last, *ways, begin, flat_z, strides_z, flat_y, strides_y, shape)

    told("two-way scan", (kernel.forward,), lambda: share(batch * -(-channels // kernel.LANES), work))
    return y.to(z.dtype)


def _rows(x: Tensor) -> tuple[Any, tuple[int, int, int]]:
    """(B, L, K) as a flat float32 array with the strides of samples, numbers and steps."""
    x = x.detach().float()
    if x.stride(2) != 1 or any(s < 0 for s in x.stride()):
        x = x.contiguous()
    return flat(x), (x.stride(0), 1, x.stride(1))


def _arrays(way: Way) -> tuple[Any, ...]:
    """A direction as the kernel takes it."""
    own = (way.A * LOG2E, way.weight, way.D, way.bias)
    return (
        *(part for x in (way.u, way.low, way.B, way.C) for part in _rows(x)),
        *(x.detach().float().contiguous().numpy() for x in own),
    )


def check_ways(ahead: Way, back: Way, z: Tensor) -> None:
    """Raises ``ValueError`` naming the first tensor that does not fit."""
    if z.ndim != 3 or any(way.A.ndim != 2 or way.weight.ndim != 2 for way in (ahead, back)):
        raise ValueError(
            f"got z of shape {tuple(z.shape)}, expected (batch, length, channels), and A and weight with "
            "two dimensions"
        )
    (batch, length, channels), states, rank = z.shape, ahead.A.shape[1], ahead.weight.shape[1]
    long = [(batch, length, n) for n in (channels, rank, states, states)]
    shapes = [*long, (channels, states), (channels, rank), (channels,), (channels,)]
    for way in (ahead, back):
        for name, value, shape in zip(Way._fields, way, shapes):
            if tuple(value.shape) != shape:
                raise ValueError(
                    f"got {name} of shape {tuple(value.shape)}, expected {shape} beside z of {tuple(z.shape)}"
                )
    if length == 0:
        raise ValueError("got a sequence of length 0, expected at least one step")
