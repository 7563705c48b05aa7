"""Simulated cells: capacity over cycles with a knee, and what a cycler sees of them in the first hundred.

A cell has a latent stress s ~ N(0, 1), and numbers that are lognormal given it (`LAW`). Its capacity after n
cycles, in percent of the first, is

    SOH(n) = 100 − a √n − b n − c (exp((n − n_k)/τ) − 1)₊,

0 where that is below. Its early matrix holds, for 20 cycles (5 to 100) and 50 voltages, the charge Q that it
has given down to a voltage, less that of a new cell, in shares of the first capacity. Q is a sigmoid of the
voltage, lowered by the capacity that is lost, shifted and widened with the stress, and seen with noise.
"""

from dataclasses import dataclass

import numpy as np

POINTS, EVERY = 256, 10  # places of a curve, and cycles between them
CYCLES = EVERY * np.arange(POINTS)
LAST = int(CYCLES[-1])  # a cell that lives longer counts as dead there
DEAD = 80.0  # percent
ROWS, VOLTAGES = 20, 50
EARLY = 5.0 * np.arange(1, ROWS + 1)  # cycles of the matrix
NOISE = 0.02  # its deviation, of the first capacity

# median, slope of the logarithm on the stress, deviation of what is left
LAW = {
    "a": (0.18, 0.35, 0.20),
    "b": (0.004, 0.35, 0.20),
    "c": (1.0, 0.20, 0.20),
    "knee": (800.0, -0.38, 0.12),
    "tau": (90.0, -0.20, 0.20),
}


@dataclass(frozen=True)
class Cells:
    """Parameters (N,) of cells."""

    stress: np.ndarray
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    knee: np.ndarray
    tau: np.ndarray


def drawn(count: int, rng: np.random.Generator) -> Cells:
    """Cells of the prior."""
    stress = rng.standard_normal(count)
    return Cells(stress, **{name: lognormal(name, stress, rng) for name in LAW})


def lognormal(name: str, stress: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A parameter of `LAW` given the stress."""
    median, slope, spread = LAW[name]
    return median * np.exp(slope * stress + spread * rng.standard_normal(stress.shape))


def health(cells: Cells, cycles: np.ndarray) -> np.ndarray:
    """SOH in percent at cycles that broadcast with the parameters."""
    past = np.maximum(cycles - cells.knee, 0) / cells.tau
    knee = cells.c * np.expm1(np.minimum(past, 20.0))  # by then it is 0 anyway
    return np.maximum(100 - cells.a * np.sqrt(cycles) - cells.b * cycles - knee, 0)


def curves(cells: Cells) -> np.ndarray:
    """(N, 256) float32 percent, every ten cycles from 0."""
    return health(_column(cells), CYCLES).astype(np.float32)


def lives(cells: Cells) -> np.ndarray:
    """(N,) the first whole cycle with at most 80 percent, `LAST` where there is none before; by bisection, as
    capacity falls."""
    low, high = np.zeros(len(cells.stress)), np.full(len(cells.stress), float(LAST))
    while (high - low > 1).any():
        middle = np.floor((low + high) / 2)
        dead = health(cells, middle) <= DEAD
        low, high = np.where(dead, low, middle), np.where(dead, middle, high)
    return high


def end_of_life(capacity: np.ndarray) -> np.ndarray:
    """(...) cycles of curves (..., 256): where the line between the last point above 80 percent and the first
    one at most there crosses it; 0 for one that begins there, `LAST` for one that never gets there."""
    dead = np.asarray(capacity, dtype=np.float64) <= DEAD
    first = np.where(dead.any(-1), dead.argmax(-1), POINTS - 1)
    after = np.take_along_axis(np.asarray(capacity, dtype=np.float64), first[..., None], -1)[..., 0]
    before = np.take_along_axis(
        np.asarray(capacity, dtype=np.float64), np.maximum(first - 1, 0)[..., None], -1
    )[..., 0]
    share = np.where(before > after, (before - DEAD) / np.where(before > after, before - after, 1), 1)
    crossed = EVERY * (first - 1 + np.clip(share, 0, 1))
    return np.where(dead.any(-1), np.maximum(crossed, 0), LAST)


def features(a: np.ndarray, b: np.ndarray, stress: np.ndarray) -> np.ndarray:
    """(..., 20, 50) the early matrix without its noise."""
    a, b, strain = (np.asarray(v)[..., None, None] for v in (a, b, 0.5 * np.asarray(stress)))
    cycle, voltage = EARLY[:, None], np.linspace(0, 1, VOLTAGES)
    left = 1 - (a * np.sqrt(cycle) + b * cycle) / 100
    moved = np.exp(strain) * cycle / 100
    place, width = 0.5 + 0.01 * moved, 0.08 * (1 + 0.1 * moved)
    return left * _sigmoid((voltage - place) / width) - _sigmoid((voltage - 0.5) / 0.08)


def simulate(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """``matrix`` (N, 20, 50) float32, ``curve`` (N, 256) float32 percent and ``end_of_life`` (N,) cycles of
    new cells. Raises ``ValueError`` for less than one."""
    if count < 1:
        raise ValueError(f"got {count} cells, expected one or more")
    rng = np.random.default_rng(seed)
    cells = drawn(count, rng)
    matrix = np.empty((count, ROWS, VOLTAGES), np.float32)
    for start in range(0, count, 1000):
        part = slice(start, start + 1000)
        seen = features(cells.a[part], cells.b[part], cells.stress[part])
        matrix[part] = seen + NOISE * rng.standard_normal(seen.shape)
    return {"matrix": matrix, "curve": curves(cells), "end_of_life": lives(cells)}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(x / 2))


def _column(cells: Cells) -> Cells:
    return Cells(**{name: value[:, None] for name, value in vars(cells).items()})
