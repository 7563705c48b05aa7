"""How errors are weighted along the path. Every weight but ``uniform`` is one of squared errors of the
*data*; the objective translates it to the space in which the network's error is measured
(`Parameterization.factor`), so it means the same for noise, v, velocity and EDM outputs.

    uniform    1 in the network's own space
    velocity   the error of the velocity that the data prediction implies, (alpha' − sigma'·alpha/sigma)²
    min_snr    min(SNR, gamma), SNR = alpha²/sigma² (Hang et al. 2303.09556)
    edm        (s² + sigma_data²)/(s·sigma_data)², s = sigma/alpha (Karras et al. 2206.00364)
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from samplers.batch import Error
from samplers.paths.coefficients import Coefficients
from samplers.paths.gaussian import WEIGHTS as WEIGHTS


class LossWeight(Protocol):
    def __call__(self, error: Error, path: Any, t: Tensor) -> Tensor:
        """(B,) of an error at times (B,) of a path, weighted."""
        ...


class OfData:
    """A weight of squared errors of the data, ``at`` given coefficients; ``own``: it is meant in the
    network's own space."""

    own = False

    def at(self, c: Coefficients) -> Tensor:
        raise TypeError(f"{type(self).__name__} has no weight: subclass OfData and write at")

    def __call__(self, error: Error, path: Any, t: Tensor) -> Tensor:
        c = path.coefficients(t)
        weight = self.at(c)
        if not self.own:
            assert error.scale is not None
            weight = weight / error.scale.clamp_min(1e-30)
        return error.value * weight.to(error.value)


class Uniform(OfData):
    own = True

    def at(self, c: Coefficients) -> Tensor:
        return torch.ones_like(c.alpha)


class Velocity(OfData):
    """sigma is clamped at 0.05, below which the factor would be all of the loss."""

    def at(self, c: Coefficients) -> Tensor:
        return (c.d_alpha - c.d_sigma * c.alpha / c.sigma.clamp_min(0.05)) ** 2


class MinSNR(OfData):
    def __init__(self, *, gamma: float = 5.0):
        if gamma <= 0:
            raise ValueError(f"got gamma={gamma}, expected a positive number")
        self.gamma = gamma

    def at(self, c: Coefficients) -> Tensor:
        return (c.alpha.clamp_min(1e-8) / c.sigma.clamp_min(1e-8)).square().clamp_max(self.gamma)


class EDM(OfData):
    def __init__(self, *, sigma_data: float = 0.5):
        if sigma_data <= 0:
            raise ValueError(f"got sigma_data={sigma_data}, expected a positive number")
        self.sigma_data = sigma_data

    def at(self, c: Coefficients) -> Tensor:
        sigma = c.sigma / c.alpha.clamp_min(1e-8)
        return (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data).clamp_min(1e-8) ** 2


class InverseVariance:
    """Of bridges: errors over the variance of their targets."""

    def __call__(self, error: Error, path: Any, t: Tensor) -> Tensor:
        assert error.scale is not None
        return error.value / error.scale.to(error.value).clamp_min(1e-12)


class Even:
    """Errors as they are."""

    def __call__(self, error: Error, path: Any, t: Tensor) -> Tensor:
        return error.value


class SF2M(InverseVariance):
    """Of a flow and its score (Tong et al. 2307.03672): 1 for the flow, and λ² for the score, which is to
    predict the draw z by λ half_score, λ = 2σ_t/(σ² m')."""

    needs = "flow"

    def __call__(self, error: Error, path: Any, t: Tensor) -> Tensor:
        return error.value if error.name == "flow" else super().__call__(error, path, t)


class Shares:
    """Of graphs: each kind of entry by its share in the loss, which its head has."""

    def __call__(self, error: Error, path: Any, t: Tensor) -> Tensor:
        assert error.scale is not None
        return error.value * error.scale.to(error.value)
