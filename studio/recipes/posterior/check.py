"""How far a trained posterior is from the exact one, and whether it is calibrated.

Calibration alone certifies nothing: a posterior that knows less than the observations tell is calibrated too,
so it stands beside the divergence from the exact posterior wherever that is known.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from studio.recipes.posterior.data import OBSERVATIONS
from studio.recipes.posterior.task import PosteriorTask, Reference

LEVEL = 0.9  # of the intervals
BINS = 20  # of ranks
SURE = 4.0  # standard errors beyond which a difference is one


def divergence(draws: np.ndarray, exact: Reference) -> float:
    """`apart` of a Gaussian with the mean and covariance of draws (N, d)."""
    return apart(draws.mean(0), np.cov(draws.T), exact)


def apart(mean: np.ndarray, found: np.ndarray, exact: Reference) -> float:
    """KL(N(mean, found) ‖ N(exact mean, exact covariance)) in nats."""
    off = mean - exact.mean
    inverse = np.linalg.inv(exact.covariance)
    logs = np.linalg.slogdet(exact.covariance)[1] - np.linalg.slogdet(found)[1]
    return float((np.trace(inverse @ found) + off @ inverse @ off - len(off) + logs) / 2)


def sampled(model: Any, rows: np.ndarray, draws: int, first: int = 0) -> np.ndarray:
    """(draws, d) float64 of a model's posterior given rows (K, f), from seeds that begin with ``first``."""
    made = model.sample(seeds=range(first, first + draws), conditions={OBSERVATIONS: rows}, batch=draws)
    return made.values.double().numpy()


def accuracy(
    model: Any,
    task: PosteriorTask,
    *,
    count: int | None = None,
    sets: int = 300,
    draws: int = 1000,
    seed: int = 1,
) -> dict[str, float]:
    """Against the exact posterior of new simulations of ``count`` rows: ``kl``, the divergence of a Gaussian
    of the draws from it, with its standard error ``kl_se``; ``kl_floor``, that of as many exact draws;
    ``kl_prior`` and ``kl_ridge``, those of the prior and of `ridge`; ``mean_error``, the root mean square
    error of the mean in standard deviations of the exact posterior, with its floor; ``std_ratio``;
    ``coverage`` of 90 % intervals.

    Raises ``ValueError`` for a task without an exact posterior, and for a result that is better than exact
    draws: then the observations tell what they should not.
    """
    if task.fixed or task.nuisance:
        raise ValueError(
            "got a task with parameters left out, whose exact posterior is not known; ask for all"
        )
    made = task.simulate(sets, seed=_seed(seed, 1), count=count)
    before = task.simulate(20 * draws, seed=_seed(seed, 2))["values"].astype(np.float64)
    regressed, left = ridge(task, made[OBSERVATIONS], seed=_seed(seed, 1))
    table: dict[str, list[Any]] = {}
    for i, (rows, theta) in enumerate(zip(made[OBSERVATIONS], made["values"])):
        exact = task.reference(rows, draws, _seed(seed, 3 + i))
        if exact is None:
            raise ValueError(f"got {task.name}, whose exact posterior is not known, expected another task")
        found = sampled(model, rows, draws, i * draws)
        std = np.sqrt(np.diag(exact.covariance))
        low, high = np.quantile(found, ((1 - LEVEL) / 2, (1 + LEVEL) / 2), 0)
        for key, value in {
            "kl": divergence(found, exact),
            "kl_floor": divergence(exact.draws, exact),
            "kl_prior": divergence(before, exact),
            "kl_ridge": apart(regressed[i], left, exact),
            "mean_error": np.square((found.mean(0) - exact.mean) / std).mean(),
            "mean_error_floor": np.square((exact.draws.mean(0) - exact.mean) / std).mean(),
            "std_ratio": (found.std(0) / std).mean(),
            "coverage": ((low < theta) & (theta < high)).mean(),
        }.items():
            table.setdefault(key, []).append(value)
    means = {k: float(np.mean(v)) for k, v in table.items()}
    means |= {k: means[k] ** 0.5 for k in ("mean_error", "mean_error_floor")}
    means["kl_se"] = float(np.std(np.subtract(table["kl"], table["kl_floor"])) / sets**0.5)
    check_no_leak(means)
    return means


def ridge(
    task: PosteriorTask, rows: np.ndarray, *, count: int = 8192, seed: int = 1, weight: float = 1e-3
) -> tuple[np.ndarray, np.ndarray]:
    """What little can be had without a network: means (N, d) for sets (N, K, f) by ridge regression of the
    parameters on a few statistics of a set and their products, and the covariance (d, d) of what is left."""
    made = task.simulate(count, seed=_seed(seed, 9))
    x, y = _statistics(made[OBSERVATIONS]), made["values"].astype(np.float64)
    middle, scale = x.mean(0), np.where(x.std(0) > 0, x.std(0), 1.0)
    x = (x - middle) / scale
    found = np.linalg.solve(x.T @ x + weight * len(x) * np.eye(x.shape[1]), x.T @ (y - y.mean(0)))
    off = y - y.mean(0) - x @ found
    return y.mean(0) + (_statistics(rows) - middle) / scale @ found, np.atleast_2d(np.cov(off.T))


def _statistics(rows: np.ndarray) -> np.ndarray:
    """(N, s) of sets (N, K, f): their size, means of columns and of products of two; and products of two of
    these."""
    there = ~np.isnan(rows).any(-1)
    seen = np.where(there[..., None], rows, 0.0).astype(np.float64)
    f, counts = rows.shape[-1], there.sum(1, keepdims=True)
    pairs = [seen[..., i] * seen[..., j] for i in range(f) for j in range(i, f)]
    told = [np.log1p(counts), seen.sum(1) / counts, np.stack([p.sum(1) for p in pairs], 1) / counts]
    first = np.concatenate(told, 1)
    second = [first[:, i] * first[:, j] for i in range(first.shape[1]) for j in range(i, first.shape[1])]
    return np.concatenate([first, np.stack(second, 1)], 1)


def check_no_leak(found: Mapping[str, float]) -> None:
    """Raises ``ValueError`` for a divergence that is surely below that of exact draws."""
    if found["kl"] < found["kl_floor"] - SURE * found["kl_se"]:
        raise ValueError(
            f"got a divergence of {found['kl']:.4f}, expected at least that of exact draws, "
            f"{found['kl_floor']:.4f}: leak? do the observations tell the parameters?"
        )


def calibration(
    model: Any, task: PosteriorTask, *, sets: int = 1000, draws: int = 99, seed: int = 1
) -> dict[str, Any]:
    """Simulation-based calibration (Talts et al. 1804.06788): of every parameter the rank of the true value
    among draws, whose law is uniform where the posterior is calibrated. ``p``: of a chi-square test of each
    parameter's ranks in `BINS` bins; ``coverage`` of 90 % intervals; ``ranks`` (sets, d). Raises
    ``ValueError`` for ranks that do not fill bins evenly."""
    if (draws + 1) % BINS:
        raise ValueError(f"got draws={draws}, expected one less than a multiple of {BINS}")
    made = task.simulate(sets, seed=_seed(seed, 0))
    ranks = []
    for i, (rows, theta) in enumerate(zip(made[OBSERVATIONS], made["values"])):
        ranks.append((sampled(model, rows, draws, i * draws) < theta).sum(0))
    each = np.array(ranks)
    inside = np.abs((each + 0.5) / (draws + 1) - 0.5) < LEVEL / 2  # what few draws tell of, without a bias
    counts = [np.bincount(r * BINS // (draws + 1), minlength=BINS) for r in each.T]
    return {
        "p": [float(stats.chisquare(c).pvalue) for c in counts],
        "coverage": np.mean(inside, 0).tolist(),
        "ranks": each,
    }


def _seed(seed: int, part: int) -> int:
    """Apart from all that was trained on: those have seeds of two numbers."""
    return int(np.random.SeedSequence([seed, part, 1]).generate_state(1, np.uint64)[0])
