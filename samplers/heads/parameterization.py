"""What a network emits and how it becomes a `Prediction`.

``noise``, ``data``, ``v``, ``velocity`` and ``score`` read the output as it is (of a score the error is
measured on sigma·score, which is −noise); ``edm`` wraps it in the preconditioning of Karras et al.
2206.00364, table 1. With ``variance="learned_range"`` the output has twice the channels and its second half
is the head ``variance`` (Nichol & Dhariwal 2102.09672). With ``conditioning="none"`` the network is not told
t (its clock stays at 0) and reads the noise level off its input (Sun et al. 2502.13129); scales such as
EDM's, and the sampler, keep using t.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from backbones.types import Backbone, Cond, RunContext
from samplers.batch import Error, State, squared
from samplers.heads.variational import bound
from samplers.paths import Path, Time
from samplers.paths.coefficients import Coefficients, expand
from samplers.paths.conversions import expanded, ratio
from samplers.prediction import Prediction


class Parameterization(Protocol):
    variance: str | None

    def predict(
        self, net: Backbone, x: Tensor, t: Time, cond: Cond, path: Path, ctx: RunContext | None = None
    ) -> Prediction: ...
    def errors(self, p: Prediction, state: State, space: Any) -> list[Error]: ...


class OnNoise:
    """What heads on paths from noise share: a subclass says the ``error`` of a prediction in the network's
    own space, and by what ``factor`` squares of it are larger than those of the data's."""

    space, variance, channels, cond_source = "data", None, 1, False  # type: str, str | None, int, bool

    def error(self, prediction: Prediction, data: Tensor, noise: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} has no error: subclass OnNoise and write it")

    def factor(self, c: Coefficients) -> Tensor:
        raise TypeError(f"{type(self).__name__} has no factor: subclass OnNoise and write it")

    def differences(self, p: Prediction, state: State) -> list[tuple[str, Tensor, Tensor]]:
        """(B, ...) of prediction and target in the network's own space, with its factor."""
        made_of = state.targets
        if self.space == "velocity" and "velocity" in made_of:
            gap = p.value - made_of["velocity"]
        else:
            gap = self.error(p, made_of["data"], made_of["noise"])
        return [("error", gap, self.factor(p.path.coefficients(state.t)))]

    def errors(self, p: Prediction, state: State, space: Any) -> list[Error]:
        """The squared error, and of a learned variance its variational term, ``bound``."""
        found = squared(self.differences(p, state), state, space)
        if self.variance is None:
            return found
        variational = bound(p.with_(p.space, p.value.detach()), state.targets["data"])
        return [*found, Error("bound", variational, None)]


def call(
    net: Backbone, x: Tensor, t: Time, cond: Cond, path: Path, ctx: RunContext | None, *, timed: bool = True
) -> Tensor:
    """The network at the path's own clock, or at 0 throughout; the output in x's dtype."""
    clock = path.network_time(t).to(x.device, torch.float32)
    return net(x, (clock if timed else torch.zeros_like(clock)).expand(len(x)), cond, ctx).to(x.dtype)


def is_timed(conditioning: str) -> bool:
    if conditioning not in ("time", "none"):
        raise ValueError(f"got conditioning {conditioning!r}, expected 'time' or 'none'")
    return conditioning == "time"


class Direct(OnNoise):
    """The output is the prediction in ``space``; the error is measured there."""

    def __init__(self, space: str, *, variance: str | None = None, conditioning: str = "time"):
        if variance not in (None, "learned_range"):
            raise ValueError(f"got variance {variance!r}, expected null or 'learned_range'")
        self.space, self.variance, self.timed = space, variance, is_timed(conditioning)

    def predict(
        self, net: Backbone, x: Tensor, t: Time, cond: Cond, path: Path, ctx: RunContext | None = None
    ) -> Prediction:
        out, heads = call(net, x, t, cond, path, ctx, timed=self.timed), {}
        if self.variance is not None:
            out, heads["variance"] = out.chunk(2, dim=1)
        return Prediction(self.space, out, x, t, path, heads)

    def error(self, prediction: Prediction, data: Tensor, noise: Tensor) -> Tensor:
        """(B, ...) difference between prediction and target in the network's own space."""
        if self.space == "data":
            return prediction.value - data
        if self.space == "noise":
            return prediction.value - noise
        c = expanded(prediction)
        if self.space == "score":
            return c.sigma * prediction.value + noise
        target = (
            c.d_alpha * data + c.d_sigma * noise
            if self.space == "velocity"
            else c.alpha * noise - c.sigma * data
        )
        return prediction.value - target

    def factor(self, c: Coefficients) -> Tensor:
        """Squared error in this space that goes with a squared error of 1 of the data, at the same x."""
        alpha, sigma = c.alpha.clamp_min(1e-8), c.sigma.clamp_min(1e-8)
        slope = {
            "data": torch.ones_like(alpha),
            "noise": alpha / sigma,
            "v": (alpha**2 + sigma**2) / sigma,
            "velocity": c.d_alpha - c.d_sigma * alpha / sigma,
            "score": alpha / sigma,
        }
        return slope[self.space] ** 2


class EDM(OnNoise):
    """D = c_skip·x + c_out·F(c_in·x, clock) on data of standard deviation ``sigma_data``; the error is
    measured on F. With T = sigma² + sigma_data²·alpha²

        c_skip = sigma_data²·alpha/T      c_out = sigma·sigma_data/√T      c_in = 1/√T

    which is theirs at alpha = 1 and finite on every path, where there is nothing but noise (alpha = 0) and at
    the data (sigma = 0) too. Raises ``ValueError`` for a deviation that is not positive."""

    def __init__(self, *, sigma_data: float = 0.5, conditioning: str = "time"):
        if not sigma_data > 0:
            raise ValueError(
                f"got sigma_data={sigma_data}, expected a positive number, the standard deviation of the data"
            )
        self.sigma_data, self.timed = sigma_data, is_timed(conditioning)

    def _scales(self, x: Tensor, t: Time, path: Path) -> tuple[Tensor, Tensor, Tensor]:
        """(c_skip, c_out, c_in), each made to multiply (B, ...)."""
        c, d = path.coefficients(t), self.sigma_data
        total = c.sigma**2 + d**2 * c.alpha**2
        return (
            expand(d**2 * c.alpha / total, x),
            expand(c.sigma * d / total.sqrt(), x),
            expand(total.rsqrt(), x),
        )

    def predict(
        self, net: Backbone, x: Tensor, t: Time, cond: Cond, path: Path, ctx: RunContext | None = None
    ) -> Prediction:
        skip, out, inp = self._scales(x, t, path)
        return Prediction(
            "data", skip * x + out * call(net, inp * x, t, cond, path, ctx, timed=self.timed), x, t, path
        )

    def error(self, prediction: Prediction, data: Tensor, noise: Tensor) -> Tensor:
        """(B, ...) error of F; 0 where there is no noise in x, so that nothing depends on F."""
        _, out, _ = self._scales(data, prediction.t, prediction.path)
        return ratio(prediction.value - data, out + torch.zeros_like(data))

    def factor(self, c: Coefficients) -> Tensor:
        """1/c_out², which is the weight of the data's error in Karras et al."""
        return (c.sigma**2 + self.sigma_data**2 * c.alpha**2) / (c.sigma * self.sigma_data).clamp_min(
            1e-8
        ) ** 2


def noise(*, variance: str | None = None, conditioning: str = "time") -> Direct:
    return Direct("noise", variance=variance, conditioning=conditioning)


def data(*, variance: str | None = None, conditioning: str = "time") -> Direct:
    return Direct("data", variance=variance, conditioning=conditioning)


def v(*, variance: str | None = None, conditioning: str = "time") -> Direct:
    return Direct("v", variance=variance, conditioning=conditioning)


def velocity(*, conditioning: str = "time") -> Direct:
    return Direct("velocity", conditioning=conditioning)


def score(*, conditioning: str = "time") -> Direct:
    return Direct("score", conditioning=conditioning)
