"""How paths between Gaussian noise and data are trained on: the state between a pair, and what is learned
there."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from backbones.types import Noise
from samplers.batch import State, with_known
from samplers.paths.coefficients import Coefficients, Time

HEADS = {
    name: f"samplers.heads.parameterization:{name}" for name in ("noise", "data", "v", "velocity", "score")
} | {"edm": "samplers.heads.parameterization:EDM"}
WEIGHTS = {
    "uniform": "samplers.weights:Uniform",
    "velocity": "samplers.weights:Velocity",
    "min_snr": "samplers.weights:MinSNR",
    "edm": "samplers.weights:EDM",
}


class Gaussian:
    """Base of such paths. A subclass writes ``coefficients`` and the clock; what its users may choose beside
    it lies in ``heads`` and ``weights``, by name."""

    space, heads, head, weights, weight = "euclid", HEADS, "velocity", WEIGHTS, "uniform"
    starts = "noise"  # what its runs start from
    sampler = ""  # where there is but one for it
    fixed: tuple[str, ...] = ()  # of an objective's options, those that it does not have

    def coefficients(self, t: Time) -> Coefficients:
        raise TypeError(f"{type(self).__name__} has no coefficients: subclass Gaussian and write them")

    def spread(self, t: Time) -> float:
        """How large a state is, data of deviation 1: a run that begins further down the path is given a
        smaller one."""
        c = self.coefficients(t)
        return float(torch.hypot(c.alpha, c.sigma))

    def trained_time(self, t: Tensor) -> Tensor:
        """Drawn times moved to where training may look: everywhere."""
        return t

    def coupling(self, spec: str | Mapping[str, Any]) -> str | Mapping[str, Any] | None:
        """What pairs its ends where a config says ``spec``; None: data alone."""
        return spec

    def state(self, space: Any, pairs: Any, t: Tensor, noise: Noise) -> State:
        """Between the pairs at times (B,); known entries are in their clean place."""
        x = with_known(
            space.interpolate(pairs.source, pairs.data, self.coefficients(t)), pairs.data, pairs.cond
        )
        return State(x, t, pairs.cond, {"data": pairs.data, "noise": pairs.source})

    @torch.no_grad()
    def energy(self, pairs: Any, t: Tensor) -> Tensor | None:
        """(B,) squared norm of the velocity of the pairs, where that is what is learned."""
        return None
