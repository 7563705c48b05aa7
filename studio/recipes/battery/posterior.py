"""What the early matrix of a simulated cell says of its life, exactly: importance sampling.

The matrix depends on (log a, log b, s), which are jointly Gaussian, and on noise; the rest of a cell's
parameters are drawn given s. Proposals are Gaussian about the most likely values, found by Gauss-Newton, with
the curvature there; their weights are those of the exact posterior.
"""

from dataclasses import dataclass

import numpy as np

from studio.recipes.battery.cells import LAW, NOISE, Cells, features, lives, lognormal

WIDER = 1.2  # deviations of proposals, so that no weight is large
STEPS = 8  # of Gauss-Newton


@dataclass(frozen=True)
class Posterior:
    """Lives (M,) in cycles with their ``weights``, which sum to 1."""

    lives: np.ndarray
    weights: np.ndarray

    @property
    def effective(self) -> float:
        """As many equal draws tell as much: 1/Σw²."""
        return float(1 / np.square(self.weights).sum())

    def draws(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return rng.choice(self.lives, count, p=self.weights)


def prior() -> tuple[np.ndarray, np.ndarray]:
    """Mean (3,) and covariance (3, 3) of (log a, log b, s)."""
    slopes = np.array([LAW["a"][1], LAW["b"][1], 1.0])
    spreads = np.array([LAW["a"][2], LAW["b"][2], 0.0])
    mean = np.array([np.log(LAW["a"][0]), np.log(LAW["b"][0]), 0.0])
    return mean, np.outer(slopes, slopes) + np.diag(spreads**2)


def laplace(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the posterior of (log a, log b, s) is highest, and the inverse of its curvature there (of the
    linearised features)."""
    mean, covariance = prior()
    precision, u = np.linalg.inv(covariance), mean.copy()
    hessian = precision
    for _ in range(STEPS):
        slope = _jacobian(u)
        hessian = precision + slope @ slope.T / NOISE**2
        off = (np.asarray(matrix, dtype=np.float64) - _seen(u)).ravel()
        u = u + np.linalg.solve(hessian, slope @ off / NOISE**2 - precision @ (u - mean))
    return u, np.linalg.inv(hessian)


def posterior(matrix: np.ndarray, count: int = 2000, seed: int = 0) -> Posterior:
    """Of the life given a matrix (20, 50)."""
    rng = np.random.default_rng(seed)
    centre, covariance = laplace(matrix)
    root = np.linalg.cholesky(covariance) * WIDER
    z = rng.standard_normal((count, 3))
    u = centre + z @ root.T
    mean, spread = prior()
    away = u - mean
    logs = -0.5 * np.einsum("ni,ij,nj->n", away, np.linalg.inv(spread), away) + 0.5 * np.square(z).sum(1)
    for start in range(0, count, 500):
        part = slice(start, start + 500)
        off = _seen(u[part]) - matrix
        logs[part] -= 0.5 * np.square(off).sum((-1, -2)) / NOISE**2
    weights = np.exp(logs - logs.max())
    stress = u[:, 2]
    rest = {name: lognormal(name, stress, rng) for name in ("c", "knee", "tau")}
    cells = Cells(stress, np.exp(u[:, 0]), np.exp(u[:, 1]), **rest)
    return Posterior(lives(cells), weights / weights.sum())


def _seen(u: np.ndarray) -> np.ndarray:
    return features(np.exp(u[..., 0]), np.exp(u[..., 1]), u[..., 2])


def _jacobian(u: np.ndarray, h: float = 1e-5) -> np.ndarray:
    """(3, 1000) by central differences."""
    steps = h * np.eye(3)
    return ((_seen(u + steps) - _seen(u - steps)) / (2 * h)).reshape(3, -1)
