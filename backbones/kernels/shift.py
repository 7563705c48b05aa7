"""What Diffusion-RWKV's layers look at, as fused loops for CPUs compiled by numba: the normed and modulated
patch mixed with its shifted neighbours, for several mixes in one pass.

out_m = near + mix_m (x − near),  x = gain (input − mean) / deviation + offset,  near a quarter of the
  channels from each neighbour and zeros from outside

A task is a row of the grid. A quarter of the channels is a multiple of sixteen.
"""

import numpy as np
from numba import njit

from backbones.kernels.modulated import token_moments
from backbones.kernels.vectors import LANES, fma, load, peek, poke, splat, store, sub

ZERO = np.float32(0.0)


@njit(nogil=True, cache=True)
def moments(first, last, x, scale, shift, channels, eps):
    """Of tokens [first, last): 1/deviation in ``scale`` and −mean/deviation in ``shift``, so that x scale +
    shift is normed."""
    for token in range(first, last):
        factor, mean = token_moments(x, token * channels, channels, eps)
        poke(scale, token, factor)
        poke(shift, token, -mean * factor)


@njit(nogil=True, cache=True)
def forward(first, last, x, scale, shift, gain, offset, mixes, outs, shape):
    """Tasks [first, last) of batch × rows. ``x`` (B·H·W·C,); ``scale``, ``shift`` (B·H·W,); ``gain``,
    ``offset`` (B·C,); ``mixes`` (M·C,); ``outs`` (M·B·H·W·C,); ``shape`` (M, B, H, W, C)."""
    count, batch, rows, columns, channels = shape
    quarter, size = channels // 4, batch * rows * columns * channels
    zero = splat(ZERO)
    for task in range(first, last):
        b, i = task // rows, task % rows
        for j in range(columns):
            token = task * columns + j
            at, a, d = token * channels, splat(peek(scale, token)), splat(peek(shift, token))
            for side in range(4):
                if side == 0:
                    there, step = j > 0, -1
                elif side == 1:
                    there, step = j < columns - 1, 1
                elif side == 2:
                    there, step = i > 0, -columns
                else:
                    there, step = i < rows - 1, columns
                other = token + step if there else token
                beside, a_near, d_near = (
                    other * channels,
                    splat(peek(scale, other)),
                    splat(peek(shift, other)),
                )
                for c in range(side * quarter, (side + 1) * quarter, LANES):
                    g, o = load(gain, b * channels + c), load(offset, b * channels + c)
                    value = fma(g, fma(load(x, at + c), a, d), o)
                    near = fma(g, fma(load(x, beside + c), a_near, d_near), o) if there else zero
                    gap = sub(value, near)
                    for m in range(count):
                        store(outs, m * size + at + c, fma(load(mixes, m * channels + c), gap, near))
