"""How training times are drawn, one draw a sample (stream ``time``). ``shift`` and ``skew`` bend the clock as `samplers.paths.warp` does."""

from typing import Protocol

import torch
from torch import Tensor

from backbones.types import NoiseSource
from samplers.paths import Path, VPPath, check_warp, warp


class TimeSampler(Protocol):
    def __call__(self, noise: NoiseSource, path: Path) -> Tensor: ...


def on_entries(t: Tensor, path: Path) -> Tensor:
    """On a VP table the next entry towards the noise; elsewhere t itself."""
    if isinstance(path, VPPath):
        return 1 - ((path.size * (1 - t)).ceil().clamp(1, path.size)) / path.size
    return t


class Uniform:
    """Uniform on (0, 1); on a VP table uniform over its entries; on the EDM path uniform over its range of t."""

    def __init__(self, *, shift: float = 1.0, skew: float = 1.0):
        check_warp(shift, skew)
        self.shift, self.skew = shift, skew

    def __call__(self, noise: NoiseSource, path: Path) -> Tensor:
        """(B,) float64 times."""
        u = noise.uniform(stream="time", dtype=torch.float64)
        if isinstance(path, VPPath):  # u counts from the data there
            t = 1 - ((u * path.size).floor() + 1) / path.size
            return t if self.shift == self.skew == 1 else on_entries(warp(path, 1 - u, self.shift, self.skew), path)
        return warp(path, path.t_start + (1 - path.t_start) * u, self.shift, self.skew)


class LogitNormal:
    """t = sigmoid(mean + std·z) (Esser et al. 2403.03206); with t = 1 the data, a negative mean favours noise."""

    def __init__(self, *, mean: float = 0.0, std: float = 1.0, shift: float = 1.0):
        if std <= 0:
            raise ValueError(f"got std={std}, expected a positive number")
        check_warp(shift, 1.0)
        self.mean, self.std, self.shift = mean, std, shift

    def __call__(self, noise: NoiseSource, path: Path) -> Tensor:
        """(B,) float64 times; on a VP table the next entry towards the noise."""
        t = torch.sigmoid(self.mean + self.std * noise.normal(stream="time", dtype=torch.float64))
        return on_entries(warp(path, t, self.shift), path)


class LogNormal:
    """ln(sigma/alpha) ~ N(mean, std²) on any path (Karras et al. 2206.00364, table 1); on a VP table the nearest entry."""

    def __init__(self, *, mean: float = -1.2, std: float = 1.2):
        if std <= 0:
            raise ValueError(f"got std={std}, expected a positive number")
        self.mean, self.std = mean, std

    def __call__(self, noise: NoiseSource, path: Path) -> Tensor:
        """(B,) float64 times."""
        log_snr = -2 * (self.mean + self.std * noise.normal(stream="time", dtype=torch.float64))
        return path.time_of(log_snr, snap=True) if isinstance(path, VPPath) else path.time_of(log_snr)


class Constant:
    """The same time for every sample; ``t`` = 0 on a bridge trains a plain regression from source to data."""

    def __init__(self, *, t: float = 0.0):
        if not 0 <= t <= 1:
            raise ValueError(f"got t={t}, expected a time from 0 (source) to 1 (data)")
        self.t = t

    def __call__(self, noise: NoiseSource, path: Path) -> Tensor:
        """(B,) float64 times."""
        return on_entries(torch.full_like(noise.uniform(stream="time", dtype=torch.float64), self.t), path)


REGISTRY = {
    "uniform": "samplers.times:Uniform",
    "logit_normal": "samplers.times:LogitNormal",
    "log_normal": "samplers.times:LogNormal",
    "constant": "samplers.times:Constant",
}
