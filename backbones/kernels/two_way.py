"""Both scans of a bidirectional Mamba layer as one fused loop for CPUs, for runs without gradients
(`backbones.kernels.scan` has the parts).

A task is one sample and sixteen channels, in both directions one after the other: the first one's outputs are
still in the cache when the second adds its own, the gate is applied once, and step sizes are made where they
are used.
"""

import numpy as np
from numba import njit

from backbones.kernels.scan import CHUNK, announce, gate, gather, scatter, settle, soften, walk
from backbones.kernels.vectors import LANES, fma, load, peek, splat, store

ZERO = np.float32(0.0)


@njit(nogil=True, cache=True)
def widen(steps, rank, low, at, way, weight, td):
    """delta = weight · low of sixteen channels, ``weight`` (R, 16); step i's ``low`` lies ``i · way`` from
    ``at``. Four steps at a time read a weight once."""
    for i in range(0, steps, 4):
        p0 = at + i * way
        p1, p2, p3 = (
            at + min(i + 1, steps - 1) * way,
            at + min(i + 2, steps - 1) * way,
            at + min(i + 3, steps - 1) * way,
        )
        d0 = d1 = d2 = d3 = splat(ZERO)
        for r in range(rank):
            w = load(weight, r * LANES)
            d0, d1 = fma(w, splat(peek(low, p0 + r)), d0), fma(w, splat(peek(low, p1 + r)), d1)
            d2, d3 = fma(w, splat(peek(low, p2 + r)), d2), fma(w, splat(peek(low, p3 + r)), d3)
        store(td, i * LANES, d0)
        store(td, (i + 1) * LANES, d1)
        store(td, (i + 2) * LANES, d2)
        store(td, (i + 3) * LANES, d3)


@njit(nogil=True, cache=True)
def sweep(task, way, begin, tile, z, zs, y, ys, shape, reverse):
    """One direction of one task: outputs go to ``tile`` (L, 16); the direction in reverse adds its own,
    applies the gate and writes to ``y``."""
    u, us, low, ls, B, bs, C, cs, A, weight, skip, bias = way
    channels, length, states, rank = shape
    groups = (channels + LANES - 1) // LANES
    a, s, own_weight = (
        np.empty(states * LANES, np.float32),
        np.empty(states * LANES, np.float32),
        np.zeros(rank * LANES, np.float32),
    )
    tu, td, tz = (
        np.empty(CHUNK * LANES, np.float32),
        np.empty(CHUNK * LANES, np.float32),
        np.empty(CHUNK * LANES, np.float32),
    )
    own_skip, own_bias = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
    b, c0 = task // groups, (task % groups) * LANES
    width = min(LANES, channels - c0)
    settle(A, skip, bias, begin, 0, c0, width, states, a, own_skip, own_bias, s)
    for j in range(width):
        for r in range(rank):
            own_weight[r * LANES + j] = weight[c0 + j, r]
    turn = -1 if reverse else 1
    for l0 in range(0, length, CHUNK):
        steps, at = min(CHUNK, length - l0), length - 1 - l0 if reverse else l0
        gather(u, us, b, c0, width, l0, steps, length, reverse, tu)
        announce(u, us, b, c0, width, l0 + CHUNK, CHUNK, length, reverse)
        widen(steps, rank, low, b * ls[0] + at * ls[2], turn * ls[2], own_weight, td)
        soften(td, steps, own_bias, True)
        walk(
            steps,
            states,
            tu,
            td,
            a,
            s,
            own_skip,
            B,
            b * bs[0] + at * bs[2],
            turn * bs[2],
            C,
            b * cs[0] + at * cs[2],
            turn * cs[2],
            tile,
            at,
            turn,
            reverse,
        )
        if reverse:
            done = tile[(at - steps + 1) * LANES : (at + 1) * LANES]
            gather(z, zs, b, c0, width, at - steps + 1, steps, length, False, tz)
            announce(z, zs, b, c0, width, l0 + CHUNK, CHUNK, length, reverse)
            gate(steps, tz, done)
            scatter(y, ys, b, c0, width, at - steps + 1, steps, length, False, done)


@njit(nogil=True, cache=True)
def forward(first, last, ahead, back, begin, z, zs, y, ys, shape):
    """Tasks [first, last) of batch × groups of channels. A direction: u, low, B and C, each flat with its
    strides, A (D, N) times log₂e, weight (D, R), D and bias (D,). ``begin`` (1, D, N): zeros, where both
    start."""
    tile = np.empty(shape[1] * LANES, np.float32)
    for task in range(first, last):
        sweep(task, ahead, begin, tile, z, zs, y, ys, shape, False)
        sweep(task, back, begin, tile, z, zs, y, ys, shape, True)
