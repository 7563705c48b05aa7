"""How paths between Gaussian noise and data are trained on: the state between a pair, and what is learned
there."""

import math
from typing import Any

import torch
from torch import Tensor

from backbones.types import Cond, Noise
from samplers.batch import Ends, State
from samplers.paths.base import AnyPath, Restore
from samplers.paths.coefficients import Coefficients, Time, mix
from samplers.paths.conversions import convert

HEADS = {
    name: f"samplers.heads.parameterization:{name}" for name in ("noise", "data", "v", "velocity", "score")
} | {"edm": "samplers.heads.parameterization:EDM"}
WEIGHTS = {
    "uniform": "samplers.weights:Uniform",
    "velocity": "samplers.weights:Velocity",
    "min_snr": "samplers.weights:MinSNR",
    "edm": "samplers.weights:EDM",
}


def mixed(path: Any, given: Tensor, known: Tensor, noise: Noise) -> Restore:
    """Known entries with the noise of a time, always the same (stream ``known``)."""
    fixed = noise.normal(given.shape[1:], stream="known", dtype=given.dtype)

    def restore(x: Tensor, t: float) -> Tensor:
        c = path.coefficients(t)
        return torch.where(known, c.alpha * given + c.sigma * fixed, x)

    return restore


class Gaussian(AnyPath):
    """Base of such paths. A subclass writes ``coefficients``, ``log_snr``, ``time_of`` and ``network_time``;
    what its users may choose beside it lies in ``heads`` and ``weights``, by name."""

    heads, head, weights, weight = HEADS, "velocity", WEIGHTS, "uniform"
    levels, view = True, "samplers.reparameterised:Reparameterised"

    def coefficients(self, t: Time) -> Coefficients:
        raise TypeError(f"{type(self).__name__} has no coefficients: subclass Gaussian and write them")

    def time_of(self, log_snr: Time) -> Tensor:
        raise TypeError(f"{type(self).__name__} has no inverse of its log SNR: write time_of")

    def convert(self, prediction: Any, to: str) -> Tensor:
        return convert(prediction, to)

    def restorer(self, given: Tensor, known: Tensor, cond: Cond, noise: Noise) -> Restore:
        return mixed(self, given, known, noise)

    def open_end(self, s: float) -> bool:
        return not math.isfinite(float(self.coefficients(s).d_sigma))

    def nearest(self, log_snr: Time) -> Tensor:
        """The time of a level where training may look."""
        return self.time_of(log_snr)

    def first(self, begin: float) -> float:
        """The first time of a grid that begins there."""
        return begin

    def same_as(self, other: Any) -> bool:
        if type(other) is not type(self) or other.t_start != self.t_start:
            return False
        times = torch.linspace(self.t_start, 1, 1001, dtype=torch.float64)
        ours, theirs = self.coefficients(times), other.coefficients(times)
        return (
            torch.equal(ours.alpha, theirs.alpha)
            and torch.equal(ours.sigma, theirs.sigma)
            and torch.equal(self.network_time(times), other.network_time(times))
        )

    def spread(self, t: Time) -> float:
        c = self.coefficients(t)
        return float(torch.hypot(c.alpha, c.sigma))

    def state(self, space: Any, pairs: Ends, t: Tensor, noise: Noise) -> State:
        """Between the pairs at times (B,)."""
        x = mix(self.coefficients(t), pairs.source, pairs.data)
        return State(x, t, pairs.cond, {"data": pairs.data, "noise": pairs.source})
