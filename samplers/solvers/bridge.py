"""Samplers for bridges, and the view of one from its other end.

    bridge      the bridge's own step: from x_t towards the predicted data D, with r = (m_s − m_t)/(1 − m_t),
                x_s = x_t + r (D − x_t) + sigma √(r (1 − m_s)) z                    (DDPM's posterior; Liu et
                                                                                    al. 2302.05872)
    bridge_sde  Euler–Maruyama on dX = f dt + sigma √m' dW                          (weak order 1)

``euler``, ``heun``, ``midpoint``, ``ab2`` and ``rk4`` solve the probability flow v of models that know it.
"""

from typing import Any

from torch import Tensor

from backbones.types import Cond, Noise, RunContext
from samplers.denoiser import Queryable
from samplers.paths.bridge import BridgePath, turned
from samplers.paths.coefficients import Time
from samplers.solvers.base import Predict, Sampler
from samplers.solvers.stochastic import draw


class BridgeAncestral(Sampler):
    """Ends on the prediction itself, without noise; ``deterministic`` leaves the noise out of every step (the
    OT-ODE of Liu et al.). ``clip`` and ``threshold`` bound the predicted data
    (`samplers.solvers.base.Sampler`)."""

    starts = ("source",)
    needs = "drift"
    resamples = False

    def __init__(
        self, *, deterministic: bool = False, clip: float | None = None, threshold: float | None = None
    ):
        super().__init__(clip=clip, threshold=threshold)
        self.deterministic = deterministic

    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        prediction = predict(x, t)
        path: BridgePath = prediction.path  # type: ignore[assignment]
        here, there = path.coefficients(t).sigma, path.coefficients(s).sigma  # what is left of the way
        if float(there) == 0:
            return prediction.to("data")
        r = 1 - there / here
        mean = x + r * (prediction.to("data") - x)
        if self.deterministic or path.sigma == 0:
            return mean
        return mean + path.sigma * (r * there).sqrt() * draw(self, x, noise)


class BridgeSDE(Sampler):
    """``final_noise=False`` leaves the noise out of the last step, for pictures. ``clip`` and ``threshold``
    bound the predicted data."""

    starts = ("source",)
    needs = "drift"
    resamples = False

    def __init__(
        self, *, final_noise: bool = True, clip: float | None = None, threshold: float | None = None
    ):
        super().__init__(clip=clip, threshold=threshold)
        self.final_noise = final_noise

    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        prediction = predict(x, t)
        path: BridgePath = prediction.path  # type: ignore[assignment]
        spent = path.coefficients(s).alpha - path.coefficients(t).alpha
        x = x + spent / path.coefficients(t).d_alpha * prediction.to("drift")
        if path.sigma == 0 or (s == 1 and not self.final_noise):
            return x
        return x + path.sigma * spent.sqrt() * draw(self, x, noise)


def facing(denoiser: Queryable, needs: str, direction: str = "forward") -> Queryable:
    """What a sampler walks: the model as it is, its view from the other end, or the one network of `two_way`
    that is enough for a drift.

    Raises ``ValueError`` for a way that the model does not know.
    """
    if direction not in ("forward", "backward"):
        raise ValueError(f"got direction {direction!r}, expected forward (source to data) or backward")
    head = getattr(denoiser, "parameterization", None)
    if needs == "drift" and (side := getattr(head, "side", None)) is not None:
        both: Any = denoiser
        return both.with_net(both.net[SIDES[direction]], head=side)
    if direction == "forward":
        return denoiser
    both_ways = getattr(head, "both_ways", None)
    if both_ways is None or not both_ways(denoiser.path):
        raise ValueError(
            "got direction backward, but this model was trained towards its data only; train flow_score "
            "or procedure: {name: dsbm}"
        )
    return Reversed(denoiser)


SIDES = {"forward": "to_data", "backward": "to_source"}


class Reversed:
    """A denoiser walked from its data to its source: the same samplers then run backward. For paths that are
    their own mirror image (brownian)."""

    starts, known_trained = "source", False

    def __init__(self, inner: Queryable):
        self.inner, self.path, self.space = inner, inner.path, inner.space

    def predict(self, x: Tensor, t: Time, cond: Cond, ctx: RunContext | None = None) -> Any:
        return turned(self.inner.predict(x, 1 - t, cond, ctx), x, t)
