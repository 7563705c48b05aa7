"""Negative binomial regression of counts in two groups (Negative binomial regression and inference using a
pre-trained transformer): μ = size · exp(log mean + group · log fold change), variance μ + αμ²."""

import numpy as np
from scipy import optimize
from scipy.special import gammaln

from studio.recipes.posterior.task import PosteriorTask, Reference, there_of

MEANS, STDS = np.array([1.0, 0.0, -2.0]), np.array([2.0, 1.0, 1.0])  # of the prior
SPREAD = 0.3  # of log size factors
PROPOSED, TAILS = 8000, 5.0  # draws that are weighed, and the degrees of freedom of their law
FEWEST = 200.0  # draws that the weighed ones must be worth


class NBRegression(PosteriorTask):
    """Rows (count, size factor, group 0 or 1), as many in both groups, ``counts`` of each."""

    name = "nb-regression"
    parameters = ("log mean", "log fold change", "log dispersion")
    columns = ("count", "size", "group")
    counts = (2, 12)
    along = (2,)
    logs = (0,)

    def prior(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return MEANS + STDS * rng.standard_normal((count, 3))

    def observe(self, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        shape = (len(theta), 2 * self.counts[1])
        group = np.broadcast_to(np.repeat([0.0, 1.0], self.counts[1]), shape)
        size = np.exp(SPREAD * rng.standard_normal(shape))
        mu = size * np.exp(theta[:, :1] + theta[:, 1:2] * group)
        shape_of = np.exp(-theta[:, 2:])  # 1/α
        count = rng.poisson(np.minimum(mu * rng.gamma(shape_of, 1 / shape_of, shape), 1e15))
        return np.stack([count, size, group], -1)

    def there(self, counts: np.ndarray, most: int) -> np.ndarray:
        """The first of each group."""
        return np.tile(np.arange(most // 2) < counts[:, None], 2)

    def reference(self, rows: np.ndarray, draws: int = 0, seed: int = 0) -> Reference:
        """By importance sampling from a Student law at the mode, as wide as the curvature there tells. Raises
        ``ValueError`` where the weighed draws are worth too few."""
        seen, rng = there_of(rows), np.random.default_rng(seed)
        mode, covariance = fitted(lambda theta: log_prior(theta) + log_likelihood(theta, seen), MEANS)
        root = np.linalg.cholesky(covariance)
        z = rng.standard_normal((PROPOSED, 3)) / np.sqrt(rng.chisquare(TAILS, PROPOSED) / TAILS)[:, None]
        theta = mode + 1.2 * z @ root.T
        log = log_prior(theta) + log_likelihood(theta, seen)
        log += (TAILS + 3) / 2 * np.log1p((z**2).sum(1) / TAILS)
        weight = np.exp(log - log.max())
        weight /= weight.sum()
        if (worth := 1 / (weight**2).sum()) < FEWEST:
            raise ValueError(f"got importance weights worth {worth:.0f} draws, expected {FEWEST:.0f} or more")
        mean = weight @ theta
        spread = (theta - mean).T * weight @ (theta - mean)
        return Reference(mean, spread, theta[rng.choice(PROPOSED, draws, p=weight)])


def log_prior(theta: np.ndarray) -> np.ndarray:
    """(...) of parameters (..., 3), without its constant."""
    return -0.5 * (((theta - MEANS) / STDS) ** 2).sum(-1)


def log_likelihood(theta: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(...) of parameters (..., 3) given rows (K, 3), without what does not depend on them."""
    count, size, group = seen.T
    log_mu = np.log(size) + theta[..., :1] + theta[..., 1:2] * group
    r = np.exp(-theta[..., 2:])  # 1/α
    log_total = np.logaddexp(np.log(r), log_mu)
    log = gammaln(count + r) - gammaln(r) + r * (np.log(r) - log_total) + count * (log_mu - log_total)
    return log.sum(-1)


def fitted(log, start: np.ndarray, reach: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
    """Where a log density of three parameters is greatest, and the inverse of its curvature there, in which
    directions that nothing tells of are as wide as they may be."""
    found = optimize.minimize(
        lambda theta: -float(log(theta)), start, method="L-BFGS-B", bounds=[(-reach, reach)] * 3
    )
    values, vectors = np.linalg.eigh(curvature(log, found.x))
    return found.x, vectors / np.clip(values, 1 / reach**2, None) @ vectors.T


def curvature(log, at: np.ndarray, step: float = 1e-3) -> np.ndarray:
    """(d, d) of −log, by central differences."""
    eye, d = step * np.eye(len(at)), len(at)
    out = np.empty((d, d))
    for i in range(d):
        for j in range(i, d):
            corners = np.array([at + a * eye[i] + b * eye[j] for a in (1, -1) for b in (1, -1)])
            pp, pm, mp, mm = log(corners)
            out[i, j] = out[j, i] = -(pp - pm - mp + mm) / (4 * step**2)
    return out
