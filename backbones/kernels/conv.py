"""Both short convolutions of a bidirectional Mamba layer with their SiLU, as fused loops for CPUs compiled by
numba: one pass over the input, two outputs.

f_l = SiLU(b + Σ_j w_j x_{l−K+1+j})      causal;      b_l the same from the other end, with its own weights

A task is a block of rows with all its channels, read as they lie in memory (sixteen channels down all rows
would touch another page with every step and take five times as long). Channels are a multiple of sixteen;
``table`` (2, K + 1, D) holds each direction's taps and its bias.
"""

import numpy as np
from numba import njit

from backbones.kernels.vectors import LANES, add, fma, load, mul, sigmoid, splat, store, sub

ROWS = 32
ZERO, ONE = np.float32(0.0), np.float32(1.0)


@njit(nogil=True, cache=True)
def inside(side, i, length, reach, base, row):
    """The first tap whose input exists at row i; and where tap 0's input lies, and how far the next tap's is
    from there."""
    if side == 0:
        return max(0, reach - 1 - i), base + (i - reach + 1) * row, row
    return max(0, i + reach - length), base + (i + reach - 1) * row, -row


@njit(nogil=True, cache=True)
def raw(x, origin, way, table, taps, channels, begin, reach, c):
    """b + Σ_j w_j x of sixteen channels; ``taps``: where a direction's lie in the table."""
    total = load(table, taps + reach * channels + c)
    for j in range(begin, reach):
        total = fma(load(table, taps + j * channels + c), load(x, origin + j * way + c), total)
    return total


@njit(nogil=True, cache=True)
def forward(first, last, x, strides, table, ahead, back, shape):
    """Tasks [first, last) of batch × blocks of rows; ``ahead``, ``back`` (B·L·D,)."""
    channels, length, reach = shape
    blocks = (length + ROWS - 1) // ROWS
    for task in range(first, last):
        b, l0 = task // blocks, (task % blocks) * ROWS
        base = b * strides[0]
        for i in range(l0, min(length, l0 + ROWS)):
            out = (b * length + i) * channels
            begin, origin, way = inside(0, i, length, reach, base, strides[1])
            begin_b, origin_b, way_b = inside(1, i, length, reach, base, strides[1])
            for c in range(0, channels, LANES):
                p = raw(x, origin, way, table, 0, channels, begin, reach, c)
                q = raw(x, origin_b, way_b, table, (reach + 1) * channels, channels, begin_b, reach, c)
                store(ahead, out + c, mul(p, sigmoid(p)))
                store(back, out + c, mul(q, sigmoid(q)))


@njit(nogil=True, cache=True)
def backward(first, last, x, strides, table, ga, gas, gb, gbs, gx, gtable, shape):
    """``ga``, ``gb``: gradients of the two outputs; ``gx`` (B·L·D,); ``gtable`` (tasks · 2 · (K + 1) · D,) of
    zeros, each task's share of the table's gradient."""
    channels, length, reach = shape
    blocks, size = (length + ROWS - 1) // ROWS, 2 * (reach + 1) * channels
    span = ROWS + reach - 1
    # gradients before SiLU: rows l0 … of the first output, rows l0 − K + 1 … of the second
    held = np.empty(2 * span * channels, np.float32)
    one = splat(ONE)
    for task in range(first, last):
        b, l0 = task // blocks, (task % blocks) * ROWS
        l1, base = min(length, l0 + ROWS), b * strides[0]
        for side in range(2):
            low = l0 if side == 0 else max(0, l0 - reach + 1)
            high = min(length, l1 + reach - 1) if side == 0 else l1
            for i in range(low, high):
                begin, origin, way = inside(side, i, length, reach, base, strides[1])
                place = (side * span + i - l0 + (reach - 1) * side) * channels
                own = l0 <= i < l1
                for c in range(0, channels, LANES):
                    p = raw(x, origin, way, table, side * (reach + 1) * channels, channels, begin, reach, c)
                    s = sigmoid(p)
                    g = (
                        load(ga, b * gas[0] + i * gas[1] + c)
                        if side == 0
                        else load(gb, b * gbs[0] + i * gbs[1] + c)
                    )
                    g = mul(g, mul(s, fma(p, sub(one, s), one)))
                    store(held, place + c, g)
                    if own:
                        at = task * size + (side * (reach + 1) + reach) * channels + c
                        store(gtable, at, add(load(gtable, at), g))
                        for j in range(begin, reach):
                            at = task * size + (side * (reach + 1) + j) * channels + c
                            store(gtable, at, fma(g, load(x, origin + j * way + c), load(gtable, at)))
        for i in range(l0, l1):
            for c in range(0, channels, LANES):
                total = splat(ZERO)
                for j in range(max(0, i + reach - length), reach):  # rows i + K − 1 − j that exist
                    total = fma(
                        load(table, j * channels + c),
                        load(held, (i + reach - 1 - j - l0) * channels + c),
                        total,
                    )
                for j in range(max(0, reach - 1 - i), reach):  # rows i − K + 1 + j
                    total = fma(
                        load(table, (reach + 1 + j) * channels + c),
                        load(held, (span + i - l0 + j) * channels + c),
                        total,
                    )
                store(gx, (b * length + i) * channels + c, total)
