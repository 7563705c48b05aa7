"""An epidemic: of a town of a thousand some are susceptible, exposed, infectious, recovered, and those that
are infectious are counted on a few days."""

import numpy as np

from studio.recipes.posterior.task import PosteriorTask

TOWN, DAYS, EACH = 1000, 100, 2  # people; days that are simulated, and steps of a day
LOG_MEANS = np.log([0.5, 0.25, 0.15, 2.0])
LOG_STDS = np.array([0.5, 0.3, 0.3, 0.7])


class SEIR(PosteriorTask):
    """Rows (day, count): counts are Poisson's of the number that is infectious. Parameters are rates a day of
    infection, of becoming infectious and of recovery, and how many are infectious at first; their logarithms
    are Gaussian."""

    name = "seir"
    parameters = ("infection", "onset", "recovery", "first cases")
    columns = ("day", "count")
    counts, logs = (5, 30), (1,)
    bounds = ((0.0, None),) * 4

    def prior(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return np.exp(LOG_MEANS + LOG_STDS * rng.standard_normal((count, 4)))

    def observe(self, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        day = rng.integers(0, DAYS + 1, (len(theta), self.counts[1]))
        expected = np.take_along_axis(infectious(theta), day, 1)
        return np.stack([day, rng.poisson(expected)], -1).astype(np.float64)


def infectious(theta: np.ndarray) -> np.ndarray:
    """(N, DAYS + 1) people that are infectious on each day, by Runge and Kutta's method of order four."""
    infection, onset, recovery, first = theta.T
    state = np.stack([TOWN - first, 0 * first, first])  # (3, N): susceptible, exposed, infectious

    def change(state: np.ndarray) -> np.ndarray:
        new, begun = infection * state[0] * state[2] / TOWN, onset * state[1]
        return np.stack([-new, new - begun, begun - recovery * state[2]])

    days, h = [state[2]], 1 / EACH
    for _ in range(DAYS):
        for _ in range(EACH):
            a = change(state)
            b = change(state + h / 2 * a)
            c = change(state + h / 2 * b)
            d = change(state + h * c)
            state = state + h / 6 * (a + 2 * b + 2 * c + d)
        days.append(state[2])
    return np.maximum(np.stack(days, 1), 0)
