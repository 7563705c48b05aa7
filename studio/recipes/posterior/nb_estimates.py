"""What is usual for negative binomial regression, beside the posterior: the method of moments and maximum
likelihood, each an estimate and its standard errors."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from scipy.stats import norm

from studio.recipes.posterior.check import sampled
from studio.recipes.posterior.data import OBSERVATIONS
from studio.recipes.posterior.nb_regression import NBRegression, fitted, log_likelihood
from studio.recipes.posterior.task import there_of

LEAST = 1e-3  # of a dispersion: where the counts vary no more than a Poisson law's
Estimate = tuple[
    np.ndarray, np.ndarray, np.ndarray
]  # (3,) values, and where their 90 % intervals begin and end


def moments(rows: np.ndarray) -> Estimate:
    """Means of count / size in each group, and the dispersion by which their variance exceeds Poisson's;
    errors by the delta method, of the dispersion by that of a variance."""
    count, size, group = there_of(rows).T
    level, error, alphas = np.empty(2), np.empty(2), np.empty(2)
    for g in (0, 1):
        rate, inverse = count[group == g] / size[group == g], (1 / size[group == g]).mean()
        level[g] = max(rate.mean(), 0.5 / len(rate))  # a group without a count has seen less than one
        alphas[g] = (rate.var(ddof=1) - level[g] * inverse) / level[g] ** 2
    alpha = max(alphas.mean(), LEAST)
    each = len(count) / 2
    for g in (0, 1):
        error[g] = (1 / level[g] * (1 / size[group == g]).mean() + alpha) / each
    values = np.array([np.log(level[0]), np.log(level[1] / level[0]), np.log(alpha)])
    freedom = len(count) - 2
    spread = np.sqrt([error[0], error.sum(), 2 / freedom * (1 + (1 / level).mean() / alpha) ** 2])
    return _intervals(values, spread)


def likelihood(rows: np.ndarray) -> Estimate:
    """The most likely parameters, and Wald's intervals."""
    seen = there_of(rows)
    values, covariance = fitted(lambda theta: log_likelihood(theta, seen), moments(rows)[0])
    return _intervals(values, np.sqrt(np.diag(covariance)))


def posterior(model: Any, draws: int = 400) -> Callable[[np.ndarray], Estimate]:
    """The mean of a trained posterior and its quantiles."""

    def of(rows: np.ndarray) -> Estimate:
        return _of_draws(sampled(model, rows, draws))

    return of


def exact(rows: np.ndarray) -> Estimate:
    """The mean and quantiles of the exact posterior."""
    known = NBRegression().reference(rows, draws=2000)
    return known.mean, *_of_draws(known.draws)[1:]


def compared(
    methods: dict[str, Callable[[np.ndarray], Estimate]], *, sets: int = 500, seed: int = 1
) -> list[dict[str, Any]]:
    """A row for each method: of new simulations the root mean square error of each parameter and how often
    its 90 % interval holds it; ``type_1``: how often the interval of a log fold change that is 0 does not
    hold 0 (a tenth, where it is right); ``ms`` a set."""
    task = NBRegression()
    number = np.random.SeedSequence([seed, 7, 1]).generate_state(1, np.uint64)[0]
    made = task.simulate(sets, seed=int(number))
    rng = np.random.default_rng(int(number) + 1)
    theta = task.prior(sets, rng) * [1, 0, 1]
    nothing = task.observe(theta, rng)
    nothing[np.isnan(made[OBSERVATIONS]).any(-1)] = np.nan
    table = []
    for name, method in methods.items():
        began = perf_counter()
        found = np.array([method(rows) for rows in made[OBSERVATIONS]])  # (sets, 3, 3)
        seconds = perf_counter() - began
        none = np.array([method(rows)[1:] for rows in nothing])[:, :, 1]
        error = np.sqrt(np.square(found[:, 0] - made["values"]).mean(0))
        held = ((found[:, 1] < made["values"]) & (made["values"] < found[:, 2])).mean(0)
        row: dict[str, Any] = {"method": name}
        row |= {f"rmse {p}": float(v) for p, v in zip(task.parameters, error)}
        row |= {f"coverage {p}": float(v) for p, v in zip(task.parameters, held)}
        wrong = (none[:, 0] > 0) | (none[:, 1] < 0)
        table.append({**row, "type_1": float(wrong.mean()), "ms": 1000 * seconds / sets})
    return table


def _intervals(values: np.ndarray, errors: np.ndarray) -> Estimate:
    reach = norm.ppf(0.95) * errors
    return values, values - reach, values + reach


def _of_draws(draws: np.ndarray) -> Estimate:
    low, high = np.quantile(draws, (0.05, 0.95), 0)
    return draws.mean(0), low, high
