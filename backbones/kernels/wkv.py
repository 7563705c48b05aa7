"""Bidirectional WKV (paper mode) as fused loops for CPUs, compiled by numba: sixteen channels in the lanes, a
task is one sample and sixteen channels.

A running sum is (numerator, denominator, exponent); one exponential and a choice keep its exponent the
largest, which is the key it came from less its age times w, so that rounding does not pile up along the
sequence. Forward sweeps from the right into a buffer and then from the left, and keeps of each step the
largest exponent M and the denominator Z. Backward needs the same sums of −M as key and of ∂y/Z as value,

    ∂v_i = e^{k_i} Σ_t W_ti ∂y_t/Z_t,   ∂k_i = v_i ∂v_i − e^{k_i} Σ_t W_ti ∂y_t y_t/Z_t,   ∂w = Σ_t ∂y_t/Z_t
                                        (∂N_t/∂w − y_t ∂Z_t/∂w)

with ∂/∂w of a sum carried beside it. Exponents are in base 2.
"""

import numpy as np
from numba import njit

from backbones.kernels.vectors import (
    LANES,
    add,
    choose,
    decay2,
    div,
    exp2,
    fma,
    largest,
    load,
    mul,
    splat,
    store,
    sub,
)

LOG2E = np.float32(1.4426950408889634)
LOW, ZERO, ONE = np.float32(-1e30), np.float32(0.0), np.float32(1.0)


@njit(nogil=True, cache=True)
def advance(key, since, age, fade):
    """A running sum one step on, a term of exponent ``key`` added: the factors of the old sum and of the new
    term, the exponent, and the key it came from and its age."""
    zero, one = splat(ZERO), splat(ONE)
    age = add(age, one)
    m = fma(age, fade, since)
    gap = sub(m, key)
    e = decay2(sub(zero, largest(gap, sub(zero, gap))))
    old, new = choose(gap, zero, e, one), choose(gap, zero, one, e)
    return old, new, largest(m, key), choose(gap, zero, key, since), choose(gap, zero, zero, age)


@njit(nogil=True, cache=True)
def merge(n1, d1, m1, n2, d2, m2):
    """Two sums as one; a single exponential, since one of them keeps its scale."""
    zero, one = splat(ZERO), splat(ONE)
    gap = sub(m1, m2)
    e = decay2(sub(zero, largest(gap, sub(zero, gap))))
    a, c = choose(gap, zero, e, one), choose(gap, zero, one, e)
    return fma(a, n1, mul(c, n2)), fma(a, d1, mul(c, d2)), largest(m1, m2)


@njit(nogil=True, cache=True)
def from_the_right(k, v, start, width, length, fade, buffer):
    """``buffer`` (T, 3, 16): what lies right of every step. ``start``: where the sixteen channels of step 0
    lie, ``width`` further those of step 1."""
    zero, low, scale = splat(ZERO), splat(LOW), splat(LOG2E)
    n, d, m, since, age = zero, zero, low, low, zero
    for t in range(length - 1, -1, -1):
        store(buffer, (3 * t) * LANES, n)
        store(buffer, (3 * t + 1) * LANES, d)
        store(buffer, (3 * t + 2) * LANES, m)
        key, value = mul(load(k, start + t * width), scale), load(v, start + t * width)
        old, new, m, since, age = advance(key, since, age, fade)
        n, d = fma(old, n, mul(new, value)), fma(old, d, new)


@njit(nogil=True, cache=True)
def forward(first, last, w, u, k, v, y, top, below, groups, length):
    """Tasks [first, last) of batch × groups. ``w``, ``u`` (C,); the others (B·T·C,); ``top`` and ``below`` (M
    and Z) or empty."""
    width = groups * LANES
    buffer = np.empty(length * 3 * LANES, np.float32)
    zero, one, low, scale = splat(ZERO), splat(ONE), splat(LOW), splat(LOG2E)
    for task in range(first, last):
        b, c0 = task // groups, (task % groups) * LANES
        fade, own = sub(zero, mul(load(w, c0), scale)), mul(load(u, c0), scale)
        from_the_right(k, v, b * length * width + c0, width, length, fade, buffer)
        n, d, m, since, age = zero, zero, low, low, zero
        for t in range(length):
            at = (b * length + t) * width + c0
            key, value = mul(load(k, at), scale), load(v, at)
            above, under, most = merge(
                n,
                d,
                m,
                load(buffer, (3 * t) * LANES),
                load(buffer, (3 * t + 1) * LANES),
                load(buffer, (3 * t + 2) * LANES),
            )
            above, under, most = merge(above, under, most, value, one, add(own, key))
            store(y, at, div(above, under))
            if top.shape[0]:
                store(top, at, most)
                store(below, at, under)
            old, new, m, since, age = advance(key, since, age, fade)
            n, d = fma(old, n, mul(new, value)), fma(old, d, new)


@njit(nogil=True, cache=True)
def released(first, last, w, u, k, v, y, groups, length, size, small):
    """The released kernel's formula (``mode="kernel"`` in `backbones.recurrences.wkv`), with segments of
    ``size`` steps and ``small`` times the largest term in the denominator."""
    width = groups * LANES
    buffer = np.empty(length * 3 * LANES, np.float32)
    zero, one, low, scale = splat(ZERO), splat(ONE), splat(LOW), splat(LOG2E)
    for task in range(first, last):
        b, c0 = task // groups, (task % groups) * LANES
        grow, own = mul(load(w, c0), scale), mul(load(u, c0), scale)
        fade, over = sub(zero, grow), largest(grow, zero)
        factor = sub(exp2(sub(zero, over)), exp2(sub(grow, over)))  # (1 − e^w), less the exponent ``over``
        from_the_right(k, v, b * length * width + c0, width, length, fade, buffer)
        # all before t; before t in its segment; before that; what the kernel adds, by e^w
        n, d, m, since, age = zero, zero, low, low, zero
        ni, di, mi, since_i, age_i = zero, zero, low, low, zero
        no, do, mo = zero, zero, low
        nx, dx, mx, since_x, age_x = zero, zero, low, low, zero
        for t in range(length):
            at = (b * length + t) * width + c0
            key, value = mul(load(k, at), scale), load(v, at)
            if t % size == 0:
                no, do, mo = n, d, m
                ni, di, mi, since_i, age_i = zero, zero, low, low, zero
                nx, dx, mx, since_x, age_x = zero, zero, low, low, zero
            else:
                mo = add(mo, fade)
                old, new, mx, since_x, age_x = advance(key, since_x, age_x, grow)
                nx, dx = fma(old, nx, mul(new, value)), fma(old, dx, new)
            right = load(buffer, (3 * t + 2) * LANES)
            above, under, most = merge(
                no, do, mo, load(buffer, (3 * t) * LANES), load(buffer, (3 * t + 1) * LANES), right
            )
            above, under, most = merge(above, under, add(most, fade), ni, di, mi)
            above, under, most = merge(above, under, most, mul(factor, nx), mul(factor, dx), add(mx, over))
            above, under, most = merge(above, under, most, value, one, add(own, key))
            store(y, at, div(above, add(under, splat(small))))
            old, new, mi, since_i, age_i = advance(key, since_i, age_i, fade)
            ni, di = fma(old, ni, mul(new, value)), fma(old, di, new)
            old, new, m, since, age = advance(key, since, age, fade)
            n, d = fma(old, n, mul(new, value)), fma(old, d, new)


@njit(nogil=True, cache=True)
def backward(first, last, w, u, k, v, y, top, below, g, gw, gu, gk, gv, groups, length):
    """``gw``, ``gu`` (B·C,), ``gk``, ``gv`` (B·T·C,)."""
    width = groups * LANES
    zero, low, scale = splat(ZERO), splat(LOW), splat(LOG2E)
    for task in range(first, last):
        b, c0 = task // groups, (task % groups) * LANES
        fade, own = sub(zero, mul(load(w, c0), scale)), mul(load(u, c0), scale)
        sum_w, sum_u = zero, zero
        for side in range(2):
            # what lies on this side of t, and its derivatives in w
            n, d, dn, dd, m, since, age = zero, zero, zero, zero, low, low, zero
            # ∂y/Z and ∂y y/Z of the steps on this side, by −M
            h, p, r, seen, past = zero, zero, low, low, zero
            for i in range(length):
                t = i if side else length - 1 - i
                at = (b * length + t) * width + c0
                key, value, out, most = mul(load(k, at), scale), load(v, at), load(y, at), load(top, at)
                share = div(load(g, at), load(below, at))
                reach = mul(share, decay2(sub(m, most)))
                sum_w = fma(reach, sub(dn, mul(out, dd)), sum_w)
                back = decay2(add(key, r))
                to_v, to_k = mul(back, h), mul(back, p)
                if side:
                    itself = mul(share, decay2(sub(add(own, key), most)))
                    sum_u = fma(itself, sub(value, out), sum_u)
                    whole = add(add(load(gv, at), to_v), itself)
                    store(gv, at, whole)
                    store(gk, at, sub(mul(value, whole), add(add(load(gk, at), to_k), mul(itself, out))))
                else:
                    store(gv, at, to_v)
                    store(gk, at, to_k)
                old, new, m, since, age = advance(key, since, age, fade)
                dn, dd = mul(old, sub(dn, n)), mul(old, sub(dd, d))
                n, d = fma(old, n, mul(new, value)), fma(old, d, new)
                old, new, r, seen, past = advance(sub(zero, most), seen, past, fade)
                h, p = fma(old, h, mul(new, share)), fma(old, p, mul(new, mul(share, out)))
        store(gw, b * width + c0, sum_w)
        store(gu, b * width + c0, sum_u)
