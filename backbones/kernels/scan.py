"""The selective scan as fused loops for CPUs, compiled by numba (once, then cached): sixteen channels in the
lanes, their states beside each other.

Forward keeps the states at every 32nd step; backward recomputes a stretch of them from there and runs the
adjoint

    w = ∂s_l + C ∂y_l,   ∂C = w-free: s_l · ∂y_l,   ∂B = w · δu,   ∂s_{l−1} = e^{δA} w,   ∂(δA) = w e^{δA}
                                                                   s_{l−1}

so no tensor of (B, D, L, N) exists. Sums over channels for B and C are kept apart by sample and part of the
channels, a division that does not depend on the threads.
"""

import numpy as np
from numba import njit

from backbones.kernels.vectors import (
    LANES,
    add,
    decay2,
    exp2,
    fetch,
    fma,
    largest,
    load,
    log1p,
    mul,
    peek,
    poke,
    sigmoid,
    splat,
    store,
    sub,
    total,
    turn,
)

CHUNK = 32
LOG2E, LN2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
ONE, ZERO = np.float32(1.0), np.float32(0.0)


@njit(nogil=True, cache=True)
def gather(flat, strides, b, c0, width, l0, steps, length, reverse, tile):
    """``steps`` × 16 numbers of (B, D, L) values of any strides, in the order of the scan."""
    place = b * strides[0] + c0 * strides[1] + (length - 1 - l0 if reverse else l0) * strides[2]
    along = -strides[2] if reverse else strides[2]
    if strides[1] == 1 and width == LANES:
        for i in range(steps):
            store(tile, i * LANES, load(flat, place + i * along))
        return
    whole = steps - steps % LANES if width == LANES and (along == 1 or along == -1) else 0
    for i in range(0, whole, LANES):
        if along == 1:
            turn(flat, place + i, strides[1], tile, i * LANES, LANES)
        else:
            turn(flat, place - i - (LANES - 1), strides[1], tile, (i + LANES - 1) * LANES, -LANES)
    for j in range(width):
        row = place + j * strides[1]
        for i in range(whole, steps):
            poke(tile, i * LANES + j, peek(flat, row + i * along))
    for j in range(width, LANES):
        for i in range(steps):
            poke(tile, i * LANES + j, ZERO)


@njit(nogil=True, cache=True)
def announce(flat, strides, b, c0, width, l0, steps, length, reverse):
    """Ask for what `gather` will read: rows lie a page or more apart, and the processor does not foresee
    them."""
    if l0 >= length:
        return
    steps = min(steps, length - l0)
    if strides[1] == 1:
        for i in range(steps):
            fetch(flat, b * strides[0] + c0 + (length - 1 - l0 - i if reverse else l0 + i) * strides[2])
    else:
        first = length - l0 - steps if reverse else l0
        for j in range(width):
            row = b * strides[0] + (c0 + j) * strides[1] + first * strides[2]
            for i in range(0, steps, LANES):
                fetch(flat, row + i * strides[2])


@njit(nogil=True, cache=True)
def scatter(flat, strides, b, c0, width, l0, steps, length, reverse, tile):
    """The way back."""
    place = b * strides[0] + c0 * strides[1] + (length - 1 - l0 if reverse else l0) * strides[2]
    along = -strides[2] if reverse else strides[2]
    if strides[1] == 1 and width == LANES:
        for i in range(steps):
            store(flat, place + i * along, load(tile, i * LANES))
        return
    whole = steps - steps % LANES if width == LANES and (along == 1 or along == -1) else 0
    for i in range(0, whole, LANES):
        if along == 1:
            turn(tile, i * LANES, LANES, flat, place + i, strides[1])
        else:
            turn(tile, (i + LANES - 1) * LANES, -LANES, flat, place - i - (LANES - 1), strides[1])
    for j in range(width):
        row = place + j * strides[1]
        for i in range(whole, steps):
            poke(flat, row + i * along, peek(tile, i * LANES + j))


@njit(nogil=True, cache=True)
def soften(tile, steps, bias, softplus):
    """δ = softplus(delta + bias) in place: max(x, 0) + log(1 + e^−|x|)."""
    shift, zero, scale = load(bias, 0), splat(ZERO), splat(LOG2E)
    for i in range(steps):
        x = add(load(tile, i * LANES), shift)
        if softplus:
            size = largest(x, sub(zero, x))
            x = add(largest(x, zero), log1p(exp2(mul(sub(zero, size), scale))))
        store(tile, i * LANES, x)


@njit(nogil=True, cache=True)
def settle(A, skip, bias, start, b, c0, width, states, a, own_skip, own_bias, state):
    """What belongs to sixteen channels: A (N, 16), D and bias (16,), and the states (N, 16) that they start
    from; zeros beyond the last channel."""
    for j in range(LANES):
        inside = j < width
        own_skip[j] = skip[c0 + j] if inside else ZERO
        own_bias[j] = bias[c0 + j] if inside else ZERO
        for n in range(states):
            a[n * LANES + j] = A[c0 + j, n] if inside else ZERO
            state[n * LANES + j] = start[b, c0 + j, n] if inside else ZERO


@njit(nogil=True, cache=True)
def walk(steps, states, tu, td, a, s, skip, B, b_at, b_way, C, c_at, c_way, ty, t_at, t_way, adding):
    """The recurrence of sixteen channels over a tile: its outputs stored or added, and the states (N, 16)
    moved on. Step i's B, C and output lie ``i · way`` from ``at``."""
    for i in range(steps):
        dt, x, place = load(td, i * LANES), load(tu, i * LANES), (t_at + i * t_way) * LANES
        gain, out = mul(dt, x), mul(load(skip, 0), x)
        if adding:
            out = add(out, load(ty, place))
        for n in range(states):
            state = fma(
                decay2(mul(dt, load(a, n * LANES))),
                load(s, n * LANES),
                mul(gain, splat(peek(B, b_at + i * b_way + n))),
            )
            store(s, n * LANES, state)
            out = fma(state, splat(peek(C, c_at + i * c_way + n)), out)
        store(ty, place, out)


@njit(nogil=True, cache=True)
def gate(steps, tz, ty):
    """y SiLU(z) in place."""
    for i in range(steps):
        z = load(tz, i * LANES)
        store(ty, i * LANES, mul(load(ty, i * LANES), mul(z, sigmoid(z))))


@njit(nogil=True, cache=True)
def forward(
    first,
    last,
    u,
    us,
    delta,
    ds,
    z,
    zs,
    y,
    ys,
    A,
    B,
    C,
    skip,
    bias,
    begin,
    end,
    kept,
    shape,
    softplus,
    gated,
    reverse,
):
    """Tasks [first, last) of batch × groups of channels. ``A`` (D, N) times log₂e; ``B``, ``C`` (B·L·N,);
    ``begin``, ``end`` (B, D, N); ``kept`` (tasks, chunks, N·16) or empty."""
    channels, length, states = shape
    groups = (channels + LANES - 1) // LANES
    a, s = np.empty(states * LANES, np.float32), np.empty(states * LANES, np.float32)
    tu, td, tz, ty = (
        np.empty(CHUNK * LANES, np.float32),
        np.empty(CHUNK * LANES, np.float32),
        np.empty(CHUNK * LANES, np.float32),
        np.empty(CHUNK * LANES, np.float32),
    )
    own_skip, own_bias = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
    for task in range(first, last):
        b, c0 = task // groups, (task % groups) * LANES
        width = min(LANES, channels - c0)
        settle(A, skip, bias, begin, b, c0, width, states, a, own_skip, own_bias, s)
        for chunk in range((length + CHUNK - 1) // CHUNK):
            l0 = chunk * CHUNK
            steps = min(CHUNK, length - l0)
            if kept.shape[0]:
                for n in range(states):
                    store(
                        kept,
                        ((task * ((length + CHUNK - 1) // CHUNK) + chunk) * states + n) * LANES,
                        load(s, n * LANES),
                    )
            gather(u, us, b, c0, width, l0, steps, length, reverse, tu)
            gather(delta, ds, b, c0, width, l0, steps, length, reverse, td)
            soften(td, steps, own_bias, softplus)
            announce(u, us, b, c0, width, l0 + CHUNK, CHUNK, length, reverse)
            announce(delta, ds, b, c0, width, l0 + CHUNK, CHUNK, length, reverse)
            if gated:
                gather(z, zs, b, c0, width, l0, steps, length, reverse, tz)
                announce(z, zs, b, c0, width, l0 + CHUNK, CHUNK, length, reverse)
            row, way = (
                (b * length + (length - 1 - l0 if reverse else l0)) * states,
                -states if reverse else states,
            )
            walk(steps, states, tu, td, a, s, own_skip, B, row, way, C, row, way, ty, 0, 1, False)
            if gated:
                gate(steps, tz, ty)
            scatter(y, ys, b, c0, width, l0, steps, length, reverse, ty)
        for j in range(width):
            for n in range(states):
                end[b, c0 + j, n] = s[n * LANES + j]


@njit(nogil=True, cache=True)
def backward(
    first,
    last,
    parts,
    u,
    us,
    delta,
    ds,
    z,
    zs,
    g,
    gs,
    A,
    B,
    C,
    skip,
    bias,
    kept,
    gu,
    gd,
    gz,
    ga,
    gb,
    gc,
    gskip,
    gbias,
    gbegin,
    gend,
    shape,
    softplus,
    gated,
    reverse,
):
    """Units [first, last) of batch × parts of the channels. ``gu``, ``gd``, ``gz`` (B, L, D) contiguous;
    ``ga`` (B, D, N); ``gb``, ``gc`` (B·parts·L·N,); ``gskip``, ``gbias`` (B, D); ``gbegin``, ``gend`` (B, D,
    N), of the first and last state."""
    channels, length, states = shape
    groups, chunks = (channels + LANES - 1) // LANES, (length + CHUNK - 1) // CHUNK
    size = states * LANES
    a, carry, sum_a = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    made, decays = np.empty((CHUNK + 1) * size, np.float32), np.empty(CHUNK * size, np.float32)
    tu, td, tz, tg, ty = (
        np.empty(CHUNK * LANES, np.float32),
        np.empty(CHUNK * LANES, np.float32),
        np.empty(CHUNK * LANES, np.float32),
        np.empty(CHUNK * LANES, np.float32),
        np.empty(CHUNK * LANES, np.float32),
    )
    own_skip, own_bias = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
    tail = np.empty(2 * LANES, np.float32)
    strides = (length * channels, 1, channels)
    one, zero, scale, ln2 = splat(ONE), splat(ZERO), splat(LOG2E), splat(LN2)
    for unit in range(first, last):
        b, part = unit // parts, unit % parts
        for group in range(groups * part // parts, groups * (part + 1) // parts):
            task, c0 = b * groups + group, group * LANES
            width = min(LANES, channels - c0)
            settle(A, skip, bias, gend, b, c0, width, states, a, own_skip, own_bias, carry)
            sum_a[:] = ZERO
            sum_skip, sum_bias = zero, zero
            for chunk in range(chunks - 1, -1, -1):
                l0 = chunk * CHUNK
                steps = min(CHUNK, length - l0)
                gather(u, us, b, c0, width, l0, steps, length, reverse, tu)
                gather(delta, ds, b, c0, width, l0, steps, length, reverse, td)
                gather(g, gs, b, c0, width, l0, steps, length, reverse, tg)
                soften(td, steps, own_bias, softplus)
                if gated:
                    gather(z, zs, b, c0, width, l0, steps, length, reverse, tz)
                for n in range(states):
                    store(made, n * LANES, load(kept, ((task * chunks + chunk) * states + n) * LANES))
                for i in range(steps):
                    at = length - 1 - l0 - i if reverse else l0 + i
                    row = (b * length + at) * states
                    dt, x = load(td, i * LANES), load(tu, i * LANES)
                    gain, out = mul(dt, x), mul(load(own_skip, 0), x)
                    for n in range(states):
                        decay = decay2(mul(dt, load(a, n * LANES)))
                        state = fma(
                            decay, load(made, i * size + n * LANES), mul(gain, splat(peek(B, row + n)))
                        )
                        store(decays, i * size + n * LANES, decay)
                        store(made, (i + 1) * size + n * LANES, state)
                        out = fma(state, splat(peek(C, row + n)), out)
                    store(ty, i * LANES, out)
                for i in range(steps - 1, -1, -1):
                    at = length - 1 - l0 - i if reverse else l0 + i
                    row = (b * length + at) * states
                    sums = (unit * length + at) * states
                    dt, x, grad = load(td, i * LANES), load(tu, i * LANES), load(tg, i * LANES)
                    if gated:
                        gate = load(tz, i * LANES)
                        open_ = sigmoid(gate)
                        store(
                            tz,
                            i * LANES,
                            mul(mul(grad, load(ty, i * LANES)), mul(open_, fma(gate, sub(one, open_), one))),
                        )
                        grad = mul(grad, mul(gate, open_))
                    sum_skip = fma(grad, x, sum_skip)
                    gain, into, slope = mul(dt, x), zero, zero
                    for n in range(states):
                        w = fma(grad, splat(peek(C, row + n)), load(carry, n * LANES))
                        state, decay = (
                            load(made, (i + 1) * size + n * LANES),
                            load(decays, i * size + n * LANES),
                        )
                        poke(gc, sums + n, peek(gc, sums + n) + total(mul(grad, state)))
                        poke(gb, sums + n, peek(gb, sums + n) + total(mul(w, gain)))
                        into = fma(w, splat(peek(B, row + n)), into)
                        w = mul(w, decay)
                        store(carry, n * LANES, w)
                        w = mul(w, load(made, i * size + n * LANES))
                        slope = fma(w, load(a, n * LANES), slope)
                        store(sum_a, n * LANES, fma(w, dt, load(sum_a, n * LANES)))
                    step = fma(into, x, mul(slope, ln2))
                    if softplus:
                        step = mul(step, sub(one, exp2(mul(sub(zero, dt), scale))))
                    sum_bias = add(sum_bias, step)
                    store(tu, i * LANES, fma(into, dt, mul(grad, load(own_skip, 0))))
                    store(td, i * LANES, step)
                scatter(gu, strides, b, c0, width, l0, steps, length, reverse, tu)
                scatter(gd, strides, b, c0, width, l0, steps, length, reverse, td)
                if gated:
                    scatter(gz, strides, b, c0, width, l0, steps, length, reverse, tz)
            store(tail, 0, sum_skip)
            store(tail, LANES, sum_bias)
            for j in range(width):
                gskip[b, c0 + j] = tail[j]
                gbias[b, c0 + j] = tail[LANES + j]
                for n in range(states):
                    ga[b, c0 + j, n] = sum_a[n * LANES + j]
                    gbegin[b, c0 + j, n] = carry[n * LANES + j]
