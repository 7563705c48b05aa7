"""How training times are drawn, one uniform draw a sample (stream ``time``), and how errors are weighted along the path."""

from typing import Protocol

import torch
from torch import Tensor

from backbones.types import NoiseSource
from samplers.paths import Coefficients, Path, VPPath


class TimeSampler(Protocol):
    def __call__(self, noise: NoiseSource, path: Path) -> Tensor: ...


class Uniform:
    """Uniform on (0, 1); on a VP table uniform over its entries; on the EDM path uniform over its range of t."""

    def __call__(self, noise: NoiseSource, path: Path) -> Tensor:
        """(B,) float64 times."""
        u = noise.uniform(stream="time", dtype=torch.float64)
        if isinstance(path, VPPath):
            return 1 - ((u * path.size).floor() + 1) / path.size
        return path.t_start + (1 - path.t_start) * u


class LogitNormal:
    """t = sigmoid(mean + std·z) (Esser et al. 2403.03206); with t = 1 the data, a negative mean favours noise."""

    def __init__(self, *, mean: float = 0.0, std: float = 1.0):
        if std <= 0:
            raise ValueError(f"got std={std}, expected a positive number")
        self.mean, self.std = mean, std

    def __call__(self, noise: NoiseSource, path: Path) -> Tensor:
        """(B,) float64 times; on a VP table the next entry towards the noise."""
        t = torch.sigmoid(self.mean + self.std * noise.normal(stream="time", dtype=torch.float64))
        if isinstance(path, VPPath):
            return 1 - ((path.size * (1 - t)).ceil().clamp(1, path.size)) / path.size
        return t


def uniform_weight(c: Coefficients) -> Tensor:
    return torch.ones_like(c.alpha)


def velocity_weight(c: Coefficients) -> Tensor:
    """Turns an error of the data into the error of the velocity it implies: (alpha' − sigma'·alpha/sigma)², sigma clamped at 0.05."""
    return (c.d_alpha - c.d_sigma * c.alpha / c.sigma.clamp_min(0.05)) ** 2


REGISTRY = {"uniform": "samplers.times:Uniform", "logit_normal": "samplers.times:LogitNormal"}
WEIGHTS = {"uniform": "samplers.times:uniform_weight", "velocity": "samplers.times:velocity_weight"}
