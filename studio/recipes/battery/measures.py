"""How well lives are foretold: numbers of samples beside what came."""

from collections.abc import Mapping

import numpy as np
from scipy.stats import spearmanr

COVERED = (0.05, 0.95)


def interval(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 90 % interval (...) of draws (..., M): quantiles by p (M + 1), so that of draws of the true law a
    further one lies within it nine times of ten, however few they are."""
    low, high = np.quantile(draws, COVERED, axis=-1, method="weibull")
    return low, high


def foretold(draws: np.ndarray, lives: np.ndarray) -> dict[str, float]:
    """Of lives (N,) and draws of each (N, M): the rank correlation of medians, their root mean square error
    ``rmse`` in cycles beside that of the mean of these very lives, ``rmse_constant``, and ``rmse_share``, the
    one over the other; ``coverage`` of 90 % intervals, ``coverage_plain`` by quantiles of the draws as they
    stand, which miss more the fewer there are; ``crps`` in cycles (its fair estimate)."""
    middle, (low, high) = np.median(draws, -1), interval(draws)
    plain = np.quantile(draws, COVERED, axis=-1)
    rmse, constant = float(np.sqrt(np.square(middle - lives).mean())), float(lives.std())
    return {
        "rank_correlation": float(spearmanr(middle, lives)[0]) if np.ptp(middle) else 0.0,
        "rmse": rmse,
        "rmse_constant": constant,
        "rmse_share": rmse / constant,
        "coverage": float(((low <= lives) & (lives <= high)).mean()),
        "coverage_plain": float(((plain[0] <= lives) & (lives <= plain[1])).mean()),
        "crps": float(crps(draws, lives).mean()),
    }


def crps(draws: np.ndarray, value: np.ndarray) -> np.ndarray:
    """(N,) E|X − y| − E|X − X′|/2 of draws (N, M) and values (N,), without bias in M (Ferro 2014)."""
    count = draws.shape[-1]
    ordered = np.sort(draws, -1)
    rank = 2 * np.arange(1, count + 1) - count - 1
    spread = (ordered * rank).sum(-1) / (count * max(count - 1, 1))
    return np.abs(draws - value[..., None]).mean(-1) - spread


def health_error(draws: np.ndarray, curves: np.ndarray, least: float = 80.0) -> float:
    """The root mean square error of pointwise medians (N, L) of draws (N, M, L), in percent, where both they
    and the curves are above ``least``: below it all that counts is when that was."""
    middle = np.median(draws, 1)
    alive = (middle > least) & (curves > least)
    return float(np.sqrt(np.square(middle - curves)[alive].mean()))


def passed(found: Mapping[str, float], permuted: Mapping[str, float]) -> dict[str, bool]:
    """What is asked of predictions for simulated cells; ``permuted``: those by the matrices of others."""
    return {
        "rank correlation at least .85": found["rank_correlation"] >= 0.85,
        "error at most half the constant's": found["rmse_share"] <= 0.5,
        "coverage from .82 to .96": 0.82 <= found["coverage"] <= 0.96,
        "with permuted matrices at least .9 times the constant's": permuted["rmse_share"] >= 0.9,
    }
