"""A wrapped normal law on the circle, (B, d) entries independent of one another, whose velocity on the
geodesic path and whose noise on the wrapped one are known by quadrature; float64.

Of a pair of independent ends with the way w = data ⊖ source, w in [−π, π), source = x − t w and data = x +
(1 − t) w, so p(w | x_t = x) ∝ p_source(x − t w) p_data(x + (1 − t) w), and the velocity is its mean.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones import Cond
from samplers import FunctionDenoiser, Prediction
from samplers.paths import as_time
from samplers.paths.angles import GeodesicPath, WrappedVPPath
from samplers.spaces.torus import TAU, Torus, wrap

NODES = 64
PLACES, SHARES = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(NODES))
TURNS = torch.arange(-3, 4, dtype=torch.float64)


def density(x: Tensor, mean: float, std: float) -> Tensor:
    """(...) of a wrapped normal law, up to a factor."""
    return (-((wrap(x - mean)[..., None] + TAU * TURNS) ** 2) / (2 * std**2)).exp().sum(-1)


@dataclass(frozen=True)
class Wrapped:
    """``mean`` and ``std`` in radians, of the normal law that is wound about the circle."""

    mean: float = 2.6
    std: float = 1.2

    @property
    def moment(self) -> complex:
        """The mean of exp(i·angle): its angle is the mean direction, its modulus the resultant length."""
        return complex(np.exp(1j * self.mean - self.std**2 / 2))

    def velocity(self, x: Tensor, t: Any, space: Torus) -> Tensor:
        t = as_time(t).reshape(-1, *[1] * x.ndim)
        w = math.pi * PLACES  # (NODES,)
        p = density(x[..., None] + (1 - t) * w, self.mean, self.std) * SHARES
        if space.prior != "uniform":
            p = p * density(x[..., None] - t * w, 0.0, space.sigma)
        return (p * w).sum(-1) / p.sum(-1)

    def flow(self, path: GeodesicPath, says: str = "velocity") -> FunctionDenoiser:
        """The exact model on the geodesic path, emitting velocity or data."""

        def predict(x: Tensor, t: Any, cond: Cond) -> Prediction:
            space: Any = path.space if isinstance(path.space, Torus) else Torus()
            made = Prediction("velocity", self.velocity(x.double(), t, space).to(x), x, t, path)
            return made if says == "velocity" else made.with_(says, made.to(says))

        return FunctionDenoiser(path, predict)

    def noise(self, path: WrappedVPPath) -> FunctionDenoiser:
        """E[noise | x] on the wrapped path of a law that lies in [−π, π), over how often the state was wound
        about the circle."""

        def predict(x: Tensor, t: Any, cond: Cond) -> Prediction:
            c = path.coefficients(t)
            at = x.double()[..., None] + TAU * TURNS - c.alpha * self.mean
            var = c.alpha**2 * self.std**2 + c.sigma**2
            share = (-(at**2) / (2 * var)).softmax(-1)
            return Prediction("noise", (share * c.sigma / var * at).sum(-1).to(x), x, t, path)

        return FunctionDenoiser(path, predict)


def moment(x: Tensor) -> complex:
    return complex(torch.exp(1j * x.double()).mean())
