"""Sixteen numbers at once: the errors of 2^x and log(1 + e), and a block turned round."""

import numpy as np
import pytest
from numba import njit

from backbones.kernels import vectors as V


@njit
def apply(x, y, which):  # type: ignore[no-untyped-def]
    for i in range(0, len(x), 16):
        v = V.load(x, i)
        if which == 0:
            V.store(y, i, V.exp2(v))
        elif which == 1:
            V.store(y, i, V.decay2(v))
        else:
            V.store(y, i, V.log1p(v))


@njit
def turned(x, y):  # type: ignore[no-untyped-def]
    V.turn(x, 3, 40, y, 5, 20)


def run(x: np.ndarray, which: int) -> np.ndarray:
    y = np.empty_like(x)
    apply(x, y, which)
    return y.astype(np.float64)


def test_powers_of_two() -> None:
    x = np.linspace(-126, 127, 160000).astype(np.float32)
    assert np.abs(run(x, 0) / np.exp2(x.astype(np.float64)) - 1).max() < 2.5e-7
    falling = np.concatenate([-np.logspace(-9, 2, 16000), np.zeros(16)]).astype(np.float32)
    error = run(falling, 1) / np.exp2(falling.astype(np.float64)) - 1
    assert (
        np.abs(error).max() < 2.5e-7
        and np.abs(error[falling > -1e-3]).max() < 1e-7
        and run(falling, 1)[-1] == 1.0
    )
    odd = np.array([np.nan, np.inf, -np.inf, -200.0, 200.0, 0.0, 1.0, -1.0] * 2, dtype=np.float32)
    np.testing.assert_allclose(run(odd, 0), [np.nan, np.inf, 0.0, 0.0, np.inf, 1.0, 2.0, 0.5] * 2, rtol=3e-7)


def test_logarithm() -> None:
    e = np.concatenate([np.logspace(-12, 0, 80000), np.linspace(1e-9, 1, 80000)]).astype(np.float32)
    assert np.abs(run(e, 2) / np.log1p(e.astype(np.float64)) - 1).max() < 2.5e-7


def test_a_block_is_turned_round() -> None:
    x, y = np.arange(700, dtype=np.float32), np.zeros(400, np.float32)
    turned(x, y)
    block = x[3 : 3 + 40 * 16].reshape(16, 40)[:, :16]
    np.testing.assert_array_equal(y[5 : 5 + 20 * 16].reshape(16, 20)[:, :16], block.T)
    assert not y[:5].any() and not y[5 + 16 : 5 + 20].any()


@pytest.mark.parametrize("value", [0.0, 1.5, -3.0])
def test_one_number_sixteen_times(value: float) -> None:
    @njit
    def fill(y, number):  # type: ignore[no-untyped-def]
        V.store(y, 0, V.splat(number))
        return V.total(V.splat(number))

    y = np.empty(16, np.float32)
    assert fill(y, np.float32(value)) == 16 * value and (y == value).all()
