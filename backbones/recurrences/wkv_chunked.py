"""The bidirectional WKV of `backbones.recurrences.wkv` with chunks of steps side by side, in torch alone, for
devices where a short step costs as much as a long one.

A sum that decays, S_t = e^{−w} S_{t−1} + e^{k_t} (v_t, 1), is kept as s_t = S_t e^{−m_t} with its largest
exponent m_t = max_{i≤t} k_i − (t − i) w, which one running maximum gives for all steps. What is left is a
linear recurrence whose factors are at most one, whatever the keys and decays are,

    s_t = e^{(m_{t−1} − m_t) − w} s_{t−1} + e^{k_t − m_t} (v_t, 1)
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.recurrences.wkv_plain import EPS, NOTHING, SEGMENTS, Sum, ratio, scaled, shift

CHUNK = 16  # steps


def wkv_chunked(w: Tensor, u: Tensor, k: Tensor, v: Tensor, mode: str = "paper") -> Tensor:
    """As `backbones.recurrences.wkv_plain.wkv_reference`: float64, differentiable twice, under ``vmap``, on
    any device."""
    kind = torch.float64 if v.dtype == torch.float64 else torch.float32
    decay, first, keys, values = w.to(kind), u.to(kind), k.to(kind), v.to(kind)
    # the largest exponents are a constant to autograd, except beside the constant of the kernel's mode
    live = mode == "kernel"
    # both directions as samples of one scan: over i < t and over i > t, weights e^{−(|t−i|−1) w}
    both = _after(_decayed(decay, *(torch.cat([x, x.flip(1)])[:, :-1] for x in (keys, values)), live=live))
    behind, turned = zip(*(x.chunk(2) for x in both))
    ahead, own = tuple(x.flip(1) for x in turned), (values, torch.ones_like(values), first + keys)
    if mode == "paper":
        return ratio([behind, ahead, own]).to(v.dtype)
    length = k.shape[1]
    size = -(-length // SEGMENTS)
    segments = [
        F.pad(x, (0, 0, 0, -length % size)).unflatten(1, (-1, size)).flatten(0, 1) for x in (keys, values)
    ]
    inside = _after(_decayed(decay, *(x[:, :-1] for x in segments), live=live))
    extra = _after(_decayed(-decay, *(x[:, 1:] for x in segments), live=live))
    inside, extra = (
        tuple(x.unflatten(0, (len(k), -1)).flatten(1, 2)[:, :length] for x in s) for s in (inside, extra)
    )
    place = torch.arange(length, device=k.device) % size  # in its segment
    start = torch.arange(length, device=k.device) - place
    before, below, top = (x[:, start] for x in behind)  # what lies before the segment
    outside = before, below, top - place[:, None] * decay
    sums = [inside, shift(outside, -decay), shift(ahead, -decay), scaled(extra, decay), own]
    return ratio(sums, eps=EPS).to(v.dtype)


def _decayed(w: Tensor, keys: Tensor, values: Tensor, *, live: bool) -> Sum:
    """(B, T, C): the sums over i ≤ t of e^{−(t−i) w + k_i} (v_i, 1). ``live``: gradients flow through their
    exponents, too."""
    with torch.set_grad_enabled(live and torch.is_grad_enabled()):
        along = torch.arange(keys.shape[1], device=keys.device)[:, None] * w
        top = torch.maximum((keys + along).cummax(1).values - along, keys)
    scale = torch.exp(keys - top)
    # the first step has nothing before it
    logs = F.pad(top[:, :-1] - top[:, 1:] - w, (0, 0, 1, 0))
    sums = linear_scan(logs, torch.stack([scale * values, scale]))
    return sums[0], sums[1], top


def _after(total: Sum) -> Sum:
    """Every sum one step later, and nothing at the first."""
    first, second = (F.pad(x, (0, 0, 1, 0)) for x in total[:2])
    return first, second, F.pad(total[2], (0, 0, 1, 0), value=NOTHING)


def linear_scan(logs: Tensor, x: Tensor) -> Tensor:
    """s_t = e^{logs_t} s_{t−1} + x_t from zeros: ``logs`` (B, T, C), not above 0 by more than rounding;
    ``x`` (M, B, T, C), of which all M have the same factors → (M, B, T, C)."""
    if x.shape[2] == 0:
        return x
    return (_scanned if torch._C._are_functorch_transforms_active() else _scan)(logs, x)


def _scanned(logs: Tensor, x: Tensor) -> Tensor:
    """All chunks at once from zeros, what is handed from chunk to chunk, and its share in every step."""
    length = x.shape[2]
    logs, x = (F.pad(v, (0, 0, 0, -length % CHUNK)).unflatten(-2, (-1, CHUNK)) for v in (logs, x))
    factors, lasting = torch.exp(logs), torch.exp(logs.cumsum(2))  # (B, K, CHUNK, C)
    rows = [x[:, :, :, 0]]  # (M, B, K, C)
    for i in range(1, CHUNK):
        rows.append(torch.addcmul(x[:, :, :, i], factors[:, :, i], rows[-1]))
    entering = [torch.zeros_like(rows[0][:, :, 0])]
    for own, kept in zip(rows[-1].unbind(2)[:-1], lasting[:, :, -1].unbind(1)):
        entering.append(torch.addcmul(own, kept, entering[-1]))
    s = torch.addcmul(torch.stack(rows, 3), lasting, torch.stack(entering, 2)[:, :, :, None])
    return s.flatten(2, 3)[:, :, :length].contiguous()


@torch.library.custom_op("drift_studio::linear_scan", mutates_args=())
def _scan(logs: Tensor, x: Tensor) -> Tensor:
    """`_scanned` as one operator, which torch.compile takes as it is, with a gradient that is another one."""
    return _scanned(logs, x)


@_scan.register_fake
def _(logs: Tensor, x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], output)


def _grads(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    logs, s = ctx.saved_tensors
    # g_t = grad_t + e^{logs_{t+1}} g_{t+1}
    turned = F.pad(logs[:, 1:].flip(1), (0, 0, 1, 0))
    g = _scan(turned, grad.flip(2)).flip(2)
    return torch.exp(logs) * (g * F.pad(s[:, :, :-1], (0, 0, 1, 0))).sum(0), g


_scan.register_autograd(_grads, setup_context=_keep)
