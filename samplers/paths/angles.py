"""Paths of angles.

    geodesic     the shortest way from source to data at an even pace, x_t = source ⊕ t·(data ⊖ source)
                 (Chen & Lipman 2302.03660); ⊖ is the difference on the circle, in [−π, π)
    wrapped_vp   x_t = wrap(√ᾱ data + √(1 − ᾱ) noise), data and noise as numbers in [−π, π)
                 (Wu et al. 2209.15611)

Of the second only the moments of its steps are known: a state that was wound about the circle no longer tells
how often, so neither its score nor its flow follow from a prediction of the noise. Steps of ddpm and ddim
read it as numbers and wrap what they find, as published.
"""

from typing import Any, Self

import torch
from torch import Tensor

from backbones.types import Cond, Noise
from samplers import spaces
from samplers.batch import Ends, State
from samplers.paths.base import AnyPath, Restore
from samplers.paths.coefficients import as_time, expand
from samplers.paths.vp import VPPath

HEADS = {
    "geodesic": {
        "velocity": "samplers.heads.plain:velocity",
        "data": "samplers.heads.angles:Onward",
    },
    "wrapped_vp": {"noise": "samplers.heads.angles:WrappedNoise"},
}


class GeodesicPath(AnyPath):
    """See the module. A datum lies ahead of x_t by (1 − t) times the way of its pair, so the mean of the ways
    is the velocity whose flow carries the prior to the data."""

    space, sampler, heads = "torus", "ab2", HEADS["geodesic"]
    sums = ("velocity",)  # two angles have no sum

    def way(self, pairs: Ends) -> Tensor:
        """(B, ...) from source to data."""
        return spaces.of(self.space).difference(pairs.data, pairs.source)

    def state(self, space: Any, pairs: Ends, t: Tensor, noise: Noise) -> State:
        """Between the pairs at times (B,)."""
        way = space.difference(pairs.data, pairs.source)
        x = space.step(pairs.source, expand(t, way) * way)
        return State(x, t, pairs.cond, {"velocity": way, "data": pairs.data})

    @torch.no_grad()
    def energy(self, pairs: Any, t: Tensor) -> Tensor | None:
        """(B,) squared norm of the velocity of the pairs."""
        return self.way(pairs).flatten(1).float().square().sum(1)

    def convert(self, prediction: Any, to: str) -> Tensor:
        """Data from a velocity and the other way round. Where x is the data itself, the velocity is the mean
        way from the prior to it."""
        space: Any = spaces.of(self.space)
        x, value = prediction.x, prediction.value
        left = expand(1 - as_time(prediction.t), x).to(x)
        if (prediction.space, to) == ("velocity", "data"):
            return space.step(x, left * value)
        if (prediction.space, to) == ("data", "velocity"):
            ahead = space.difference(value, x) / torch.where(left > 0, left, 1)
            return torch.where(left > 0, ahead, space.mean_way(x))
        return super().convert(prediction, to)


class WrappedVPPath(VPPath):
    """See the module; options are those of the table. Predictions are read as numbers about x. Raises
    ``ValueError`` for another prior than a wrapped normal one of sigma 1, which the table's noise is."""

    space, sampler, view, moments = "torus", "ddpm", "", True
    heads, head = HEADS["wrapped_vp"], "noise"
    weights, weight = dict(AnyPath.weights), AnyPath.weight

    def on(self, space: Any) -> Self:
        found = spaces.of(space)
        if (getattr(found, "prior", ""), getattr(found, "sigma", 1)) != ("wrapped_normal", 1):
            raise ValueError(
                "got another prior on the path wrapped_vp, expected prior=wrapped_normal with sigma=1, which "
                "its noise is; leave it out, or choose the path geodesic"
            )
        return super().on(found)

    def state(self, space: Any, pairs: Ends, t: Tensor, noise: Noise) -> State:
        """Between the pairs at times (B,)."""
        made = super().state(space, pairs, t, noise)
        return State(space.project(made.x, pairs.cond), t, pairs.cond, made.targets)

    def restorer(self, given: Tensor, known: Tensor, cond: Cond, noise: Noise) -> Restore:
        mixed, space = super().restorer(given, known, cond, noise), spaces.of(self.space)

        def restore(x: Tensor, t: float) -> Tensor:
            return mixed(x, t) if t == 1 else torch.where(known, space.project(mixed(x, t), cond), x)

        return restore
