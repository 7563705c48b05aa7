"""Heads of angles (`samplers.paths.angles`)."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.types import Backbone, Cond, RunContext
from samplers import spaces
from samplers.batch import Error, State, squared
from samplers.heads.parameterization import call
from samplers.heads.plain import Target
from samplers.paths import Path, Time
from samplers.prediction import Prediction


class Onward(Target):
    """Data as what lies ahead: the network emits the way from x to it, data = x ⊕ way. The error is that of
    the way, whose mean is what the flow needs; a mean of angles would depend on where the circle is cut."""

    def __init__(self) -> None:
        super().__init__("data")

    def predict(
        self, net: Backbone, x: Tensor, t: Time, cond: Cond, path: Path, ctx: RunContext | None = None
    ) -> Prediction:
        way = call(net, x, t, cond, path, ctx)
        return Prediction("data", spaces.of(path.space).step(x, way), x, t, path, {"way": way})

    def errors(self, p: Prediction, state: State, space: Any) -> list[Error]:
        gap = p.head("way") - space.difference(state.targets["data"], state.x)
        return squared([("error", gap, torch.ones(()))], state, space)


class WrappedNoise(Target):
    """The noise as an angle: the error is the difference on the circle, by the smooth L1 loss that is
    quadratic up to ``beta`` radians (0.1 π, Wu et al. 2209.15611), or squared where beta is 0. Raises
    ``ValueError`` for less."""

    def __init__(self, *, beta: float = 0.1 * math.pi):
        if not 0 <= beta < math.inf:
            raise ValueError(
                f"got beta={beta} of the loss, expected radians from 0 (squared error), such as 0.314"
            )
        super().__init__("noise")
        self.beta = beta

    def errors(self, p: Prediction, state: State, space: Any) -> list[Error]:
        gap = space.difference(p.value, state.targets["noise"])
        if self.beta == 0:
            return squared([("error", gap, torch.ones(()))], state, space)
        value = F.smooth_l1_loss(gap, torch.zeros_like(gap), beta=self.beta, reduction="none")
        return [Error("error", space.reduce(value, state.cond), torch.ones(()))]
