"""How errors are weighted along the path. Every weight but ``uniform`` is one of squared errors of the
*data*; the objective translates it to the space in which the network's error is measured
(`Parameterization.factor`), so it means the same for noise, v, velocity and EDM outputs.

    uniform    1 in the network's own space
    velocity   the error of the velocity that the data prediction implies, (alpha' − sigma'·alpha/sigma)²
    min_snr    min(SNR, gamma), SNR = alpha²/sigma² (Hang et al. 2303.09556)
    edm        (s² + sigma_data²)/(s·sigma_data)², s = sigma/alpha (Karras et al. 2206.00364)
"""

from typing import Protocol

import torch
from torch import Tensor

from samplers.paths.coefficients import Coefficients


class LossWeight(Protocol):
    """``own``: whether it is meant in the network's own space."""

    own: bool

    def __call__(self, c: Coefficients) -> Tensor: ...


class Uniform:
    own = True

    def __call__(self, c: Coefficients) -> Tensor:
        return torch.ones_like(c.alpha)


class Velocity:
    """sigma is clamped at 0.05, below which the factor would be all of the loss."""

    own = False

    def __call__(self, c: Coefficients) -> Tensor:
        return (c.d_alpha - c.d_sigma * c.alpha / c.sigma.clamp_min(0.05)) ** 2


class MinSNR:
    own = False

    def __init__(self, *, gamma: float = 5.0):
        if gamma <= 0:
            raise ValueError(f"got gamma={gamma}, expected a positive number")
        self.gamma = gamma

    def __call__(self, c: Coefficients) -> Tensor:
        return (c.alpha.clamp_min(1e-8) / c.sigma.clamp_min(1e-8)).square().clamp_max(self.gamma)


class EDM:
    own = False

    def __init__(self, *, sigma_data: float = 0.5):
        if sigma_data <= 0:
            raise ValueError(f"got sigma_data={sigma_data}, expected a positive number")
        self.sigma_data = sigma_data

    def __call__(self, c: Coefficients) -> Tensor:
        sigma = c.sigma / c.alpha.clamp_min(1e-8)
        return (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data).clamp_min(1e-8) ** 2


WEIGHTS = {
    "uniform": "samplers.weights:Uniform",
    "velocity": "samplers.weights:Velocity",
    "min_snr": "samplers.weights:MinSNR",
    "edm": "samplers.weights:EDM",
}
