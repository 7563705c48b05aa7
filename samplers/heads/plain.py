"""Heads of paths of one's own: the network emits one of the targets that the path names, and the error is the
squared difference."""

from typing import Any

import torch
from torch import Tensor

from backbones.types import Backbone, Cond, RunContext
from samplers.batch import Error, State, squared
from samplers.heads.parameterization import call
from samplers.paths import Path, Time
from samplers.prediction import Prediction


class Target:
    """``space``: the name of the target."""

    variance, channels, cond_source, grad = None, 1, False, "none"

    def __init__(self, space: str):
        self.space = space

    def predict(
        self, net: Backbone, x: Tensor, t: Time, cond: Cond, path: Path, ctx: RunContext | None = None
    ) -> Prediction:
        return Prediction(self.space, call(net, x, t, cond, path, ctx), x, t, path)

    def errors(self, p: Prediction, state: State, space: Any) -> list[Error]:
        target = state.targets[self.space]
        gap = space.difference(p.value, target) if self.space == "data" else p.value - target
        return squared([("error", gap, torch.ones(()))], state, space)


def velocity() -> Target:
    return Target("velocity")


def data() -> Target:
    return Target("data")
