"""A simulator and what is asked of it: p(parameters | observations), for any number of observations."""

import copy
import io
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image
from torch import Tensor

from backbones.registry import suggest
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

    fixed: Mapping[str, float] = {}
    nuisance: tuple[str, ...] = ()

    def __init__(self, *, names: Sequence[str] = ()):
        self.parameters = tuple(names) or self.parameters

    def reduced(self, *, fixed: Mapping[str, float] | None = None, nuisance: Sequence[str] = ()) -> Self:
        """The same simulator with parameters that are known, and with others that vary but are not asked for.
        Raises ``ValueError`` for a name that is none, and where no parameter is left."""
        known, left = dict(fixed or {}), [*(fixed or {}), *nuisance]
        for name in left:
            if name not in self.parameters or left.count(name) > 1:
                raise ValueError(
                    f"got the parameter {name!r} to fix or to leave out, expected each once, of "
                    f"{', '.join(self.parameters)}{suggest(name, self.parameters)}"
                )
        if len(left) == len(self.parameters):
            raise ValueError("got every parameter fixed or left out, expected at least one that is asked for")
        other = copy.copy(self)
        other.fixed, other.nuisance = known, tuple(nuisance)
        return other

    @property
    def asked(self) -> list[int]:
        """The places of the parameters that are asked for."""
        gone = {*self.fixed, *self.nuisance}
        return [k for k, name in enumerate(self.parameters) if name not in gone]

    @abstractmethod
    def prior(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count, d) parameters."""

    @abstractmethod
    def observe(self, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(N, K, f) what is seen of parameters (N, d): as many rows as there can be, each where it is drawn
        to lie."""

    def there(self, counts: np.ndarray, most: int) -> np.ndarray:
        """(N, most) bool: which rows of a set are kept, given ``counts`` (N,); by default the first."""
        return np.arange(most) < counts[:, None]

    def simulate(self, n: int, seed: int = 0, *, count: int | None = None) -> dict[str, np.ndarray]:
        """``values`` (n, d) and ``observations`` (n, K, f), absent rows NaN; float32, a function of the seed.
        ``count``: so many rows of every set, by default any number of ``counts``. ``values`` are of the
        parameters that are asked for."""
        rng = np.random.default_rng(seed)
        theta = np.array(self.prior(n, rng))
        for name, value in self.fixed.items():
            theta[:, self.parameters.index(name)] = value
        rows = self.observe(theta, rng)
        counts = rng.integers(self.counts[0], self.counts[1] + 1, n) if count is None else np.full(n, count)
        rows = masked(rows, self.there(counts, rows.shape[1]), self.name)
        values = theta[:, self.asked] if self.fixed or self.nuisance else theta
        return {"observations": rows.astype(np.float32), "values": values.astype(np.float32)}

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
