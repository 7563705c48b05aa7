"""A simulator and what is asked of it: p(parameters | observations), for any number of observations."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from studio.data.arrays import Data
from studio.data.condition_files import masked
from studio.recipes.posterior import shown
from studio.recipes.posterior.data import data_of
from studio.tasks.points import VectorsTask
from studio.tasks.views import View


@dataclass(frozen=True)
class Reference:
    """A posterior that is known: its mean (d,), its covariance (d, d), and draws of it (N, d), equally likely
    each."""

    mean: np.ndarray
    covariance: np.ndarray
    draws: np.ndarray


class PosteriorTask(VectorsTask):
    """Parameters (B, d) given a set of observations, of which each is a row. A simulator of one's own says
    ``parameters``, ``columns``, ``counts``, and writes `prior` and `observe`.

    ``counts``: of the rows, at least and at most. ``along``: the columns that say where something was
    observed, whose waves the network sees, times the other columns; ``logs``: columns of counts. ``bounds``:
    the ends of each parameter (None: there is none), beyond which no sample lies. ``names``: of the
    parameters that a model has, where they are not all of them.
    """

    name, says = "posterior", "parameters"
    listing = ("posterior.csv",)
    unguided = "guidance narrows a posterior, whose intervals would then hold too seldom"
    parameters: tuple[str, ...] = ()
    columns: tuple[str, ...] = ("t", "y")
    counts: tuple[int, int] = (2, 20)
    along: tuple[int, ...] = (0,)
    logs: tuple[int, ...] = ()
    bounds: tuple[tuple[float | None, float | None], ...] = ()

    def __init__(self, *, names: Sequence[str] = ()):
        self.parameters = tuple(names) or self.parameters

    def prior(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count, d) parameters."""
        raise NotImplementedError

    def observe(self, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(N, K, f) what is seen of parameters (N, d): as many rows as there can be, each where it is drawn
        to lie."""
        raise NotImplementedError

    def there(self, counts: np.ndarray, most: int) -> np.ndarray:
        """(N, most) bool: which rows of a set are kept, given ``counts`` (N,); by default the first."""
        return np.arange(most) < counts[:, None]

    def simulate(self, n: int, seed: int = 0, *, count: int | None = None) -> dict[str, np.ndarray]:
        """``values`` (n, d) and ``observations`` (n, K, f), absent rows NaN; float32, a function of the seed.
        ``count``: so many rows of every set, by default any number of ``counts``."""
        rng = np.random.default_rng(seed)
        theta = self.prior(n, rng)
        rows = self.observe(theta, rng)
        counts = rng.integers(self.counts[0], self.counts[1] + 1, n) if count is None else np.full(n, count)
        rows = masked(rows, self.there(counts, rows.shape[1]), self.name)
        return {"observations": rows.astype(np.float32), "values": theta.astype(np.float32)}

    def reference(self, rows: np.ndarray, draws: int = 0, seed: int = 0) -> Reference | None:
        """The exact posterior given rows (K, f), those of NaN absent, with so many draws of it; None where it
        is not known."""
        return None

    def data(self, **options: Any) -> Data:
        """Simulations without an end, to train on: ``studio.train("posterior", data=TASK.data(),
        task=TASK)``. Options as in `studio.recipes.posterior.data.data_of`."""
        return data_of(self, **options)

    def sheet(
        self, values: Tensor, *, columns: int | None = None, captions: Sequence[str] = ()
    ) -> Image.Image:
        """A corner plot of all."""
        buffer = io.BytesIO()
        shown.corner(values.numpy(), self.parameters).savefig(buffer, format="png")
        return Image.open(buffer).convert("RGB")

    def views(self, shape: Sequence[int]) -> tuple[View, ...]:
        """A corner plot, means and intervals, and every draw."""
        return (*shown.views(self.parameters), *super().views(shape)[-1:])

    def write(self, folder: Path, values: Tensor, recipes: Sequence[Mapping[str, Any]]) -> None:
        """Means and intervals for each set of observations."""
        shown.summary(folder / self.listing[0], shown.grouped(values.numpy(), recipes), self.parameters)


def there_of(rows: np.ndarray) -> np.ndarray:
    """(k, f) float64: the rows (K, f) that are there."""
    return rows[~np.isnan(rows).any(1)].astype(np.float64)
