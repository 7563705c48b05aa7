"""A linear model with Gaussian noise, whose posterior is known: y = (1, 2t − 1, sin 2πt)·θ + 0.3 ε at random
times, θ ~ N(0, I)."""

import numpy as np

from studio.recipes.posterior.task import PosteriorTask, Reference, there_of

NOISE = 0.3


class LinearGaussian(PosteriorTask):
    name = "posterior"
    parameters = ("level", "slope", "wave")

    def prior(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return rng.standard_normal((count, 3))

    def observe(self, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        t = rng.uniform(0, 1, (len(theta), self.counts[1]))
        y = (design(t) * theta[:, None]).sum(-1) + NOISE * rng.standard_normal(t.shape)
        return np.stack([t, y], -1)

    def reference(self, rows: np.ndarray, draws: int = 0, seed: int = 0) -> Reference:
        """N(C Aᵀy/s², C) with C = (I + AᵀA/s²)⁻¹, A the `design` (K, 3) and s the noise."""
        t, y = there_of(rows).T
        a = design(t)
        covariance = np.linalg.inv(np.eye(3) + a.T @ a / NOISE**2)
        mean = covariance @ a.T @ y / NOISE**2
        rng = np.random.default_rng(seed)
        return Reference(mean, covariance, rng.multivariate_normal(mean, covariance, draws))


def design(t: np.ndarray) -> np.ndarray:
    """(..., 3): 1, 2t − 1, sin 2πt."""
    return np.stack([np.ones_like(t), 2 * t - 1, np.sin(2 * np.pi * t)], -1)
