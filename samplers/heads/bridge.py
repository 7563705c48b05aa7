"""What a network on a bridge emits, and its regression target (`samplers.paths.bridge` has the notation).

    data          the data itself
    displacement  (x_t − data) / (sigma √(1 − m))             I²SB (Liu et al. 2302.05872)
    drift         m'(data − x_t)/(1 − m)                      bridge matching, one side of DSBM (Shi et al.
                                                              2303.16852)
    velocity      m'(data − source + sigma (1 − 2m)/(2√(m(1 − m))) z)        SB-CFM (Tong et al. 2302.00482)
    flow_score    that and (sigma² m'/2) ∇ log p_t, whose target is −(sigma m'/(2√(m(1 − m)))) z      [SF]²M
                  (Tong et al. 2307.03672)

Every squared error is divided by the variance that its target would have between ends of unit variance
(weight ``inverse_variance``), which keeps the ends from taking over; ``uniform`` does not, and ``sf2m`` is
the weighting of the last line's paper. With ``cond_source`` the network reads x_t and the source side by side
(channels).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from backbones.registry import build
from backbones.types import Backbone, Cond, RunContext
from samplers.batch import Error, State, squared
from samplers.heads.parameterization import call, is_timed
from samplers.paths.bridge import HEADS as REGISTRY
from samplers.paths.bridge import BridgePath
from samplers.paths.coefficients import Time, expand
from samplers.prediction import Prediction


class BridgeHead(Protocol):
    """``channels`` is how many channels the network emits for each of the sample's."""

    channels: int
    cond_source: bool

    def predict(
        self, net: Backbone, x: Tensor, t: Time, cond: Cond, path: BridgePath, ctx: RunContext | None = None
    ) -> Prediction: ...
    def errors(self, p: Prediction, state: State, space: Any) -> list[Error]: ...
    def both_ways(self, path: BridgePath) -> bool: ...


class OneHead:
    """``space``: data, displacement, drift or velocity."""

    channels = 1

    def __init__(self, space: str, *, conditioning: str = "time", cond_source: bool = False):
        self.space, self.timed, self.cond_source = space, is_timed(conditioning), cond_source

    def predict(
        self, net: Backbone, x: Tensor, t: Time, cond: Cond, path: BridgePath, ctx: RunContext | None = None
    ) -> Prediction:
        out = query(net, x, t, cond, path, ctx, timed=self.timed, cond_source=self.cond_source)
        if self.space != "displacement":
            return Prediction(self.space, out, x, t, path)
        return Prediction("data", x - self._reach(path, t, x) * out, x, t, path)

    def both_ways(self, path: BridgePath) -> bool:
        """Whether it knows the way back too: of a velocity without noise it is the same."""
        return self.space == "velocity" and path.sigma == 0

    def _reach(self, path: Any, t: Time, x: Tensor) -> Tensor:
        """Standard deviation of what lies between x_t and the data; that of the clock alone where the path
        has no noise."""
        return expand((path.sigma or path.unit) * path.coefficients(t).sigma.clamp_min(0).sqrt(), x)

    def errors(self, p: Prediction, state: State, space: Any) -> list[Error]:
        """The squared difference, with the variance () or (B,) of its target."""
        return squared(self.differences(p, state), state, space)

    def differences(self, p: Prediction, state: State) -> list[tuple[str, Tensor, Tensor]]:
        """(B, ...) of prediction and target, in the network's own units, and the variance of that target."""
        data, source, z = (state.targets[k] for k in ("data", "source", "z"))
        path: Any = p.path
        c, sigma = path.coefficients(p.t), path.sigma
        m, rest, slope = c.alpha, c.sigma, c.d_alpha
        one = torch.ones_like(m)
        if self.space == "data":
            return [("error", p.value - data, one)]
        if self.space == "displacement":
            return [("error", (p.value - data) / self._reach(path, p.t, data), one)]
        if self.space == "drift":
            target = expand(slope / rest, data) * (data - p.x)
            return [("error", p.value - target, slope**2 * (2 + sigma**2 * m / rest))]
        bend = sigma**2 * (1 - 2 * m) ** 2 / (4 * m * rest)
        return [("error", p.value - flow(path, m, slope, data, source, z), slope**2 * (2 + bend))]


class FlowScore:
    """Two heads side by side in the channels: the flow, and half the score in units of sigma² m'."""

    channels, emits = 2, ("flow", "score")

    def __init__(self, *, conditioning: str = "time", cond_source: bool = False):
        self.timed, self.cond_source = is_timed(conditioning), cond_source

    def predict(
        self, net: Backbone, x: Tensor, t: Time, cond: Cond, path: BridgePath, ctx: RunContext | None = None
    ) -> Prediction:
        if path.sigma == 0:
            raise ValueError(
                "got flow_score on a bridge without noise, which has no score; set sigma above 0 or "
                "predict the velocity"
            )
        out = query(net, x, t, cond, path, ctx, timed=self.timed, cond_source=self.cond_source)
        velocity, half = out.chunk(2, dim=1)
        return Prediction("velocity", velocity, x, t, path, {"half_score": half})

    def both_ways(self, path: BridgePath) -> bool:
        return True

    def errors(self, p: Prediction, state: State, space: Any) -> list[Error]:
        """As in `OneHead`, the flow's and the score's."""
        return squared(self.differences(p, state), state, space)

    def differences(self, p: Prediction, state: State) -> list[tuple[str, Tensor, Tensor]]:
        """As in `OneHead`."""
        data, source, z = (state.targets[k] for k in ("data", "source", "z"))
        path: Any = p.path
        c, sigma = path.coefficients(p.t), path.sigma
        m, rest, slope = c.alpha, c.sigma, c.d_alpha
        spread = sigma**2 / (4 * m * rest)
        half = expand(-slope * spread.sqrt(), data) * z
        bent = p.value - flow(path, m, slope, data, source, z)
        return [
            ("flow", bent, slope**2 * (2 + (1 - 2 * m) ** 2 * spread)),
            ("score", p.heads["half_score"] - half, slope**2 * spread),
        ]


class TwoWay:
    """What the two networks of DSBM say together. ``net``: a module dict with ``to_data`` and ``to_source``,
    each trained on ``side`` (a drift) in its own direction of time. It is queried, never trained."""

    def __init__(self, side: OneHead):
        self.side = side

    def both_ways(self, path: BridgePath) -> bool:
        return True

    def predict(
        self, net: Any, x: Tensor, t: Time, cond: Cond, path: BridgePath, ctx: RunContext | None = None
    ) -> Prediction:
        ahead = self.side.predict(net["to_data"], x, t, cond, path, ctx).value
        behind = self.side.predict(net["to_source"], x, 1 - t, cond, path, ctx).value
        return Prediction("velocity", (ahead - behind) / 2, x, t, path, {"half_score": (ahead + behind) / 2})


def flow(path: Any, m: Tensor, slope: Tensor, data: Tensor, source: Tensor, z: Tensor) -> Tensor:
    """(B, ...) velocity of one bridge."""
    if path.sigma == 0:
        return expand(slope, data) * (data - source)
    bend = path.sigma * (1 - 2 * m) / (2 * (m * (1 - m)).sqrt())
    return expand(slope, data) * (data - source + expand(bend, data) * z)


def query(
    net: Backbone,
    x: Tensor,
    t: Time,
    cond: Cond,
    path: BridgePath,
    ctx: RunContext | None,
    *,
    timed: bool,
    cond_source: bool,
) -> Tensor:
    """The network at the path's clock, in x's dtype. ``cond.image`` is the source where the network reads
    it."""
    inside = x
    if cond_source:
        if not isinstance(cond.image, Tensor) or cond.image.shape != x.shape:
            raise ValueError(
                f"this model reads the source beside x, expected Cond(image=source) of shape {tuple(x.shape)}"
            )
        inside, cond = torch.cat([x, cond.image.to(x)], 1), replace(cond, image=None)
    return call(net, inside, t, cond, path, ctx, timed=timed)


def data(*, conditioning: str = "time", cond_source: bool = False) -> OneHead:
    return OneHead("data", conditioning=conditioning, cond_source=cond_source)


def displacement(*, conditioning: str = "time", cond_source: bool = False) -> OneHead:
    return OneHead("displacement", conditioning=conditioning, cond_source=cond_source)


def drift(*, conditioning: str = "time", cond_source: bool = False) -> OneHead:
    return OneHead("drift", conditioning=conditioning, cond_source=cond_source)


def velocity(*, conditioning: str = "time", cond_source: bool = False) -> OneHead:
    return OneHead("velocity", conditioning=conditioning, cond_source=cond_source)


def build_head(spec: str | Mapping[str, Any]) -> BridgeHead:
    """From ``"drift"`` or ``{name: ..., options}``."""
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    return build(REGISTRY, options.pop("name", "velocity"), "parameterization of a bridge", options)
