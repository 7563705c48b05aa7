"""How well a noisy sample tells its time: what a network loses that is not told (Sun et al. 2502.13129).

Of z = (1 − t) x + t ε with t uniform on (0, 1), the deviation of t given z, averaged over z. In many
dimensions the length of z alone gives t away; where nothing does it is the prior's own, 1/√12 = 0.289.
"""

import numpy as np
import torch

TIMES, FEWER = 1600, 300  # places of t that are compared, of Gaussians and of data
MOST = 2000  # samples of data that stand for its law


def of_gaussian(dim: int, std: float, *, draws: int = 4000, seed: int = 0) -> float:
    """Of x ~ N(0, std² I) in ``dim`` dimensions, exactly but for the draws: z given t is N(0, v I) with
    v = (1 − t)² std² + t²."""
    rng, t = np.random.default_rng(seed), _times(TIMES)
    at = rng.uniform(0, 1, draws)
    square = _variance(at, std) * rng.chisquare(dim, draws)
    v = _variance(t, std)
    return _mean_deviation(-0.5 * (dim * np.log(v) + square[:, None] / v), t)


def of_data(values: np.ndarray, *, draws: int = 500, seed: int = 0) -> float:
    """Of samples (N, ...): half of them, at most `MOST`, stand for their law, noisy ones are made of the
    others. Raises ``ValueError`` for fewer than four."""
    if len(values) < 4:
        raise ValueError(f"got {len(values)} samples, expected at least 4")
    rng, t = np.random.default_rng(seed), _times(FEWER)
    x = values.reshape(len(values), -1).astype(np.float64)[rng.permutation(len(values))]
    law, others = x[: min(len(x) // 2, MOST)], x[len(x) // 2 :]
    at = rng.uniform(0, 1, draws)
    z = (1 - at)[:, None] * others[rng.integers(len(others), size=draws)]
    z += at[:, None] * rng.standard_normal(z.shape)
    square, product, own = (z**2).sum(1), z @ law.T, (law**2).sum(1)
    log = np.empty((draws, len(t)))
    for k, s in enumerate(t):
        off = square[:, None] - 2 * (1 - s) * product + (1 - s) ** 2 * own
        log[:, k] = torch.from_numpy(-off / (2 * s**2)).logsumexp(1) - x.shape[1] * np.log(s)
    return _mean_deviation(log, t)


def _times(count: int) -> np.ndarray:
    return (np.arange(count) + 0.5) / count


def _variance(t: np.ndarray, std: float) -> np.ndarray:
    return (1 - t) ** 2 * std**2 + t**2


def _mean_deviation(log: np.ndarray, t: np.ndarray) -> float:
    """Of laws of t (N, T) given by logarithms without their constants."""
    weight = np.exp(log - log.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    mean = weight @ t
    return float(np.sqrt(np.maximum(weight @ t**2 - mean**2, 0)).mean())
