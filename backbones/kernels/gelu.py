"""GELU in its tanh form (Hendrycks & Gimpel 1606.08415) and its derivative, as loops for CPUs compiled by
numba.

½ x (1 + tanh u) = x s(2u) with s(a) = 1/(1 + e^−a),  u = √(2/π) (x + 0.044715 x³)
"""

import numpy as np
from numba import njit

from backbones.kernels.vectors import (
    LANES,
    add,
    choose,
    decay2,
    div,
    fma,
    largest,
    load,
    mul,
    splat,
    store,
    sub,
)

CUBE = np.float32(0.044715)
TWICE = np.float32(2.0 * np.sqrt(2.0 / np.pi))
POWER = np.float32(-2.0 * np.sqrt(2.0 / np.pi) * 1.4426950408889634)  # of 2, for −2u
FAR, ONE, THREE = np.float32(9.5), np.float32(1.0), np.float32(3.0)  # beyond ±FAR s is 0 or 1 in float32


@njit(nogil=True, cache=True, inline="always")
def _near(x):
    """x within ±FAR; NaN stays."""
    low = largest(x, splat(-FAR))
    return choose(splat(FAR), low, splat(FAR), low)


@njit(nogil=True, cache=True, inline="always")
def _share(x, squared):
    """s(2u) of x within ±FAR."""
    inner = fma(mul(squared, splat(CUBE)), x, x)
    return div(splat(ONE), add(splat(ONE), decay2(mul(inner, splat(POWER)))))


@njit(nogil=True, cache=True)
def forward(first, last, x, out, count):
    """Blocks [first, last) of sixteen numbers, the last one as far as it goes back; ``x``, ``out``
    (count,)."""
    for block in range(first, last):
        at = min(block * LANES, count - LANES)
        value = load(x, at)
        near = _near(value)
        store(out, at, mul(largest(value, splat(-FAR)), _share(near, mul(near, near))))


@njit(nogil=True, cache=True)
def backward(first, last, x, grad, out, count):
    """The same for the gradient: s + x s (1 − s) 2u'."""
    for block in range(first, last):
        at = min(block * LANES, count - LANES)
        near = _near(load(x, at))
        squared = mul(near, near)
        s = _share(near, squared)
        steep = mul(splat(TWICE), fma(squared, splat(THREE * CUBE), splat(ONE)))
        slope = fma(mul(mul(near, steep), s), sub(splat(ONE), s), s)
        store(out, at, mul(load(grad, at), slope))
