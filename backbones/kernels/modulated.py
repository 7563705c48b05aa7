"""What lies between the products of a transformer's block, as loops for CPUs compiled by numba: a norm with
its modulation, and a gate with its residual. Arrays are float32 or bfloat16 (in int16), the channels a
multiple of sixteen.

    y = n (1 + scale) + shift,  n = (x − mean) / √(variance + ε) over the channels        (adaLN)
    z = h + gate · x

A task is a stretch of tokens of one sample; sums over tokens are made in one place for each task.
"""

import numpy as np
from numba import njit

from backbones.kernels.vectors import LANES, add, fma, load, mul, splat, store, sub, total

ZERO, ONE = np.float32(0.0), np.float32(1.0)


@njit(nogil=True, cache=True, inline="always")
def token_moments(x, at, channels, eps):
    """1/deviation and mean of one token."""
    count = np.float32(channels)
    summed = splat(ZERO)
    for c in range(0, channels, LANES):
        summed = add(summed, load(x, at + c))
    mean = total(summed) / count
    middle, squares = splat(mean), splat(ZERO)
    for c in range(0, channels, LANES):
        off = sub(load(x, at + c), middle)
        squares = fma(off, off, squares)
    return ONE / np.sqrt(total(squares) / count + eps), mean


@njit(nogil=True, cache=True)
def norm_forward(first, last, x, shift, scale, y, tokens, channels, apart, eps):
    """Tokens [first, last) of all samples; ``shift`` and ``scale`` of a sample lie ``apart`` numbers from
    those of the next."""
    for token in range(first, last):
        at, of = token * channels, token // tokens * apart
        factor, mean = token_moments(x, at, channels, eps)
        rise, middle = splat(factor), splat(mean)
        for c in range(0, channels, LANES):
            normed = mul(sub(load(x, at + c), middle), rise)
            store(y, at + c, fma(normed, add(splat(ONE), load(scale, of + c)), load(shift, of + c)))


@njit(nogil=True, cache=True)
def norm_backward(first, last, grad, x, scale, dx, dshift, dscale, tokens, stretches, channels, apart, eps):
    """Tasks [first, last) of samples × stretches; ``dshift``, ``dscale`` (tasks, channels) start at zero."""
    size = -(-tokens // stretches)
    share = ONE / np.float32(channels)
    for task in range(first, last):
        sample, part = task // stretches, task % stretches
        of, sums = sample * apart, task * channels
        for i in range(part * size, min(tokens, (part + 1) * size)):
            at = (sample * tokens + i) * channels
            factor, mean = token_moments(x, at, channels, eps)
            rise, middle = splat(factor), splat(mean)
            through, along = splat(ZERO), splat(ZERO)
            for c in range(0, channels, LANES):
                g = load(grad, at + c)
                normed = mul(sub(load(x, at + c), middle), rise)
                inner = mul(g, add(splat(ONE), load(scale, of + c)))
                through, along = add(through, inner), fma(inner, normed, along)
                store(dshift, sums + c, add(load(dshift, sums + c), g))
                store(dscale, sums + c, fma(g, normed, load(dscale, sums + c)))
            plain, tilted = splat(total(through) * share), splat(total(along) * share)
            for c in range(0, channels, LANES):
                normed = mul(sub(load(x, at + c), middle), rise)
                inner = mul(load(grad, at + c), add(splat(ONE), load(scale, of + c)))
                store(dx, at + c, mul(rise, sub(sub(inner, plain), mul(normed, tilted))))


@njit(nogil=True, cache=True)
def gate_forward(first, last, h, gate, x, z, tokens, channels, apart):
    """Tokens [first, last) of all samples."""
    for token in range(first, last):
        at, of = token * channels, token // tokens * apart
        for c in range(0, channels, LANES):
            store(z, at + c, fma(load(gate, of + c), load(x, at + c), load(h, at + c)))


@njit(nogil=True, cache=True)
def gate_backward(first, last, grad, gate, x, dx, dgate, tokens, stretches, channels, apart):
    """Tasks [first, last) of samples × stretches; ``dgate`` (tasks, channels) starts at zero."""
    size = -(-tokens // stretches)
    for task in range(first, last):
        sample, part = task // stretches, task % stretches
        of, sums = sample * apart, task * channels
        for i in range(part * size, min(tokens, (part + 1) * size)):
            at = (sample * tokens + i) * channels
            for c in range(0, channels, LANES):
                g = load(grad, at + c)
                store(dx, at + c, mul(g, load(gate, of + c)))
                store(dgate, sums + c, fma(g, load(x, at + c), load(dgate, sums + c)))
