"""The bidirectional WKV of `backbones.recurrences.wkv` step by step, in torch alone."""

import torch
from torch import Tensor

SEGMENTS, EPS = 32, 1e-6  # of the released kernel
NOTHING = -1e30  # the exponent of an empty sum: finite, so that differences of exponents are
Sum = tuple[Tensor, Tensor, Tensor]  # numerator, denominator, exponent: their values times e^exponent


def wkv_reference(w: Tensor, u: Tensor, k: Tensor, v: Tensor, mode: str = "paper") -> Tensor:
    """Two scans in torch alone: differentiable twice, under ``vmap``, on any device."""
    kind = torch.float64 if v.dtype == torch.float64 else torch.float32
    decay, first, keys, values = w.to(kind), u.to(kind), k.to(kind), v.to(kind)
    ks, vs = keys.unbind(1), values.unbind(1)
    size = -(-len(ks) // SEGMENTS) if mode == "kernel" else 0
    right, ahead = [_empty(keys)], _empty(keys)
    for i in range(len(ks) - 1, 0, -1):  # over i > t, weights e^{−(i−t−1) w}
        ahead = _add(shift(ahead, -decay), ks[i], vs[i])
        right.append(ahead)
    right.reverse()
    made = []
    behind = inside = extra = _empty(keys)
    for t, (key, value) in enumerate(zip(ks, vs)):
        own = (value, torch.ones_like(value), first + key)
        if mode == "paper":
            made.append(ratio([behind, right[t], own]))
        else:
            if t % size == 0:
                # what lies before this segment, and nothing of it yet
                outside, inside, extra = behind, _empty(keys), _empty(keys)
            else:
                outside = shift(outside, -decay)
                extra = _add(shift(extra, decay), key, value)
            made.append(
                ratio(
                    [inside, shift(outside, -decay), shift(right[t], -decay), scaled(extra, decay), own],
                    eps=EPS,
                )
            )
            inside = _add(shift(inside, -decay), key, value)
        behind = _add(shift(behind, -decay), key, value)
    return torch.stack(made, dim=1).to(v.dtype)


def _empty(keys: Tensor) -> Sum:
    zero = torch.zeros_like(keys[:, 0])
    return zero, zero, torch.full_like(zero, NOTHING)


def shift(total: Sum, by: Tensor) -> Sum:
    return total[0], total[1], total[2] + by


def _add(total: Sum, key: Tensor, value: Tensor) -> Sum:
    top = torch.maximum(total[2], key)
    old, new = torch.exp(total[2] - top), torch.exp(key - top)
    return old * total[0] + new * value, old * total[1] + new, top


def scaled(total: Sum, w: Tensor) -> Sum:
    """(1 − e^w) times a sum, e^w kept out of the range of overflow."""
    top = w.clamp_min(0)
    factor = torch.exp(-top) - torch.exp(w - top)
    return factor * total[0], factor * total[1], total[2] + top


def ratio(sums: list[Sum], eps: float = 0.0) -> Tensor:
    top = torch.stack([s[2] for s in sums]).amax(0)
    scales = [torch.exp(s[2] - top) for s in sums]
    above, below = (torch.stack([scale * s[i] for scale, s in zip(scales, sums)]).sum(0) for i in (0, 1))
    return above / (below + eps)
