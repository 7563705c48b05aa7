"""Two simulators that methods are usually compared by (Lueckmann et al. 2101.04653): two moons, and simple
likelihoods with a complex posterior."""

import numpy as np

from studio.recipes.posterior.task import PosteriorTask, Reference, there_of


class TwoMoons(PosteriorTask):
    """One observation (x₁, x₂), a half moon that is moved by the parameters; the posterior is two of them."""

    name = "two-moons"
    parameters, columns = ("theta 1", "theta 2"), ("x1", "x2")
    counts, along = (1, 1), ()
    bounds = ((-1.0, 1.0), (-1.0, 1.0))

    def prior(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(-1, 1, (count, 2))

    def observe(self, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        moved = np.stack([-np.abs(theta.sum(1)), theta[:, 1] - theta[:, 0]], 1) / np.sqrt(2)
        return (_moon(len(theta), rng) + moved)[:, None]

    def reference(self, rows: np.ndarray, draws: int = 0, seed: int = 0) -> Reference:
        """Points of the moon for which there are parameters, by rejection; the sum of the parameters has
        either sign."""
        seen, rng, kept = there_of(rows)[0], np.random.default_rng(seed), np.zeros((0, 2))
        while len(kept) < max(draws, 1000):
            off = np.sqrt(2) * (seen - _moon(4 * max(draws, 1000), rng))
            total = np.where(rng.random(len(off)) < 0.5, 1, -1) * -off[:, 0]
            theta = np.stack([total - off[:, 1], total + off[:, 1]], 1) / 2
            kept = np.concatenate([kept, theta[(off[:, 0] <= 0) & (np.abs(theta) < 1).all(1)]])
        return Reference(kept.mean(0), np.cov(kept.T), kept[:draws])


class SLCP(PosteriorTask):
    """Four points of a Gaussian in the plane, whose mean, deviations and correlation are θ₁ and θ₂, θ₃² and
    θ₄², tanh θ₅."""

    name = "slcp"
    parameters, columns = tuple(f"theta {k}" for k in range(1, 6)), ("x1", "x2")
    counts, along = (4, 4), ()
    bounds = ((-3.0, 3.0),) * 5

    def prior(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(-3, 3, (count, 5))

    def observe(self, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        first, second, tilt = theta[:, 2:3] ** 2, theta[:, 3:4] ** 2, np.tanh(theta[:, 4:5])
        a, b = rng.standard_normal((2, len(theta), 4))
        x = theta[:, :1] + first * a
        y = theta[:, 1:2] + second * (tilt * a + np.sqrt(1 - tilt**2) * b)
        return np.stack([x, y], -1)


def _moon(count: int, rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(-np.pi / 2, np.pi / 2, count)
    radius = 0.1 + 0.01 * rng.standard_normal(count)
    return np.stack([radius * np.cos(angle) + 0.25, radius * np.sin(angle)], 1)
