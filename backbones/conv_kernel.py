"""Both short convolutions of a bidirectional Mamba layer with their SiLU, as fused loops for CPUs compiled by numba: one pass over the input, two outputs.

f_l = SiLU(b + Σ_j w_j x_{l−K+1+j})      causal;      b_l the same from the other end, with its own weights
"""

import numpy as np
from numba import njit

from backbones.vectors import LANES, add, fma, load, mul, peek, poke, sigmoid, splat, store, sub

ZERO, ONE = np.float32(0.0), np.float32(1.0)


@njit(nogil=True, cache=True)
def column(flat, strides, b, c0, width, length, tile):  # type: ignore[no-untyped-def]
    """Sixteen channels of a sample, (L, 16), from (B, L, D) values whose channels lie beside each other."""
    for i in range(length):
        place = b * strides[0] + i * strides[1] + c0
        if width == LANES:
            store(tile, i * LANES, load(flat, place))
        else:
            for j in range(LANES):
                poke(tile, i * LANES + j, peek(flat, place + j) if j < width else ZERO)


@njit(nogil=True, cache=True)
def put(flat, b, c0, width, length, channels, i, vector, small):  # type: ignore[no-untyped-def]
    """One step of sixteen channels into (B, L, D), contiguous."""
    place = (b * length + i) * channels + c0
    if width == LANES:
        store(flat, place, vector)
    else:
        store(small, 0, vector)
        for j in range(width):
            poke(flat, place + j, peek(small, j))


@njit(nogil=True, cache=True)
def raw(x, w, side, reach, length, i, backwards):  # type: ignore[no-untyped-def]
    """b + Σ_j w_j x at step i; ``w`` holds K taps and the bias of each direction, 16 numbers each."""
    total = load(w, (side * (reach + 1) + reach) * LANES)
    for j in range(reach):
        at = i + (reach - 1 - j) if backwards else i - (reach - 1) + j
        if 0 <= at < length:
            total = fma(load(w, (side * (reach + 1) + j) * LANES), load(x, at * LANES), total)
    return total


@njit(nogil=True, cache=True)
def weights(w, b, c0, width, reach, table):  # type: ignore[no-untyped-def]
    """Taps (2, D, K) and biases (2, D) of sixteen channels as (2, K + 1, 16)."""
    for side in range(2):
        for j in range(LANES):
            for k in range(reach):
                table[(side * (reach + 1) + k) * LANES + j] = w[side, c0 + j, k] if j < width else ZERO
            table[(side * (reach + 1) + reach) * LANES + j] = b[side, c0 + j] if j < width else ZERO


@njit(nogil=True, cache=True)
def forward(first, last, x, strides, w, bias, ahead, back, shape):  # type: ignore[no-untyped-def]
    """Tasks [first, last) of batch × groups of channels; ``ahead``, ``back`` (B·L·D,)."""
    channels, length, reach = shape
    groups = (channels + LANES - 1) // LANES
    tile, small, table = np.empty(length * LANES, np.float32), np.empty(LANES, np.float32), np.empty(2 * (reach + 1) * LANES, np.float32)
    for task in range(first, last):
        b, c0 = task // groups, (task % groups) * LANES
        width = min(LANES, channels - c0)
        weights(w, bias, c0, width, reach, table)
        column(x, strides, b, c0, width, length, tile)
        for i in range(length):
            p = raw(tile, table, 0, reach, length, i, False)
            put(ahead, b, c0, width, length, channels, i, mul(p, sigmoid(p)), small)
            p = raw(tile, table, 1, reach, length, i, True)
            put(back, b, c0, width, length, channels, i, mul(p, sigmoid(p)), small)


@njit(nogil=True, cache=True)
def backward(first, last, x, strides, w, bias, ga, gas, gb, gbs, gx, gw, gbias, shape):  # type: ignore[no-untyped-def]
    """``ga``, ``gb``: gradients of the two outputs; ``gx`` (B·L·D,); ``gw`` (B, 2, D, K), ``gbias`` (B, 2, D)."""
    channels, length, reach = shape
    groups = (channels + LANES - 1) // LANES
    tile, small, table = np.empty(length * LANES, np.float32), np.empty(LANES, np.float32), np.empty(2 * (reach + 1) * LANES, np.float32)
    grads, sums = np.empty(2 * length * LANES, np.float32), np.empty((reach + 1) * LANES, np.float32)
    one, zero = splat(ONE), splat(ZERO)
    for task in range(first, last):
        b, c0 = task // groups, (task % groups) * LANES
        width = min(LANES, channels - c0)
        weights(w, bias, c0, width, reach, table)
        column(x, strides, b, c0, width, length, tile)
        column(ga, gas, b, c0, width, length, grads)
        column(gb, gbs, b, c0, width, length, grads[length * LANES :])
        for side in range(2):
            for k in range((reach + 1) * LANES):
                sums[k] = ZERO
            for i in range(length):
                p = raw(tile, table, side, reach, length, i, side == 1)
                s = sigmoid(p)
                g = mul(load(grads, (side * length + i) * LANES), mul(s, fma(p, sub(one, s), one)))
                store(grads, (side * length + i) * LANES, g)
                store(sums, reach * LANES, add(load(sums, reach * LANES), g))
                for j in range(reach):
                    at = i + (reach - 1 - j) if side == 1 else i - (reach - 1) + j
                    if 0 <= at < length:
                        store(sums, j * LANES, fma(g, load(tile, at * LANES), load(sums, j * LANES)))
            for j in range(width):
                for k in range(reach):
                    gw[b, side, c0 + j, k] = sums[k * LANES + j]
                gbias[b, side, c0 + j] = sums[reach * LANES + j]
        for i in range(length):
            total = zero
            for j in range(reach):
                at = i + (reach - 1) - j
                if at < length:
                    total = fma(load(table, j * LANES), load(grads, at * LANES), total)
                at = i - (reach - 1) + j
                if at >= 0:
                    total = fma(load(table, (reach + 1 + j) * LANES), load(grads, (length + at) * LANES), total)
            put(gx, b, c0, width, length, channels, i, total, small)
