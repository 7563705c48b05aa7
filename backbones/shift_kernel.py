"""What Diffusion-RWKV's layers look at, as a fused loop for CPUs compiled by numba: the modulated patch mixed with its shifted neighbours, for several mixes in one pass.

out_m = near + mix_m (x − near),  x = gain · input + offset,  near a quarter of the channels from each neighbour and zeros from outside

A task is a row of the grid. A quarter of the channels is a multiple of sixteen.
"""

import numpy as np
from numba import njit

from backbones.vectors import LANES, fma, load, splat, store, sub

ZERO = np.float32(0.0)


@njit(nogil=True, cache=True)
def forward(first, last, x, gain, offset, mixes, outs, shape):  # type: ignore[no-untyped-def]
    """Tasks [first, last) of batch × rows. ``x`` (B·H·W·C,); ``gain``, ``offset`` (B·C,); ``mixes`` (M·C,); ``outs`` (M·B·H·W·C,); ``shape`` (M, B, H, W, C)."""
    count, batch, rows, columns, channels = shape
    quarter, size = channels // 4, batch * rows * columns * channels
    zero = splat(ZERO)
    for task in range(first, last):
        b, i = task // rows, task % rows
        for j in range(columns):
            at = (task * columns + j) * channels
            for side in range(4):
                if side == 0:
                    there, step = j > 0, -channels
                elif side == 1:
                    there, step = j < columns - 1, channels
                elif side == 2:
                    there, step = i > 0, -channels * columns
                else:
                    there, step = i < rows - 1, channels * columns
                for c in range(side * quarter, (side + 1) * quarter, LANES):
                    g, o = load(gain, b * channels + c), load(offset, b * channels + c)
                    value = fma(g, load(x, at + c), o)
                    near = fma(g, load(x, at + step + c), o) if there else zero
                    gap = sub(value, near)
                    for m in range(count):
                        store(outs, m * size + at + c, fma(load(mixes, m * channels + c), gap, near))
