"""Bridges between two data sets, and what can be predicted on them.

All are Brownian bridges in a clock of their own. With m(t) the share of the reference's variance that is
spent by t, from 0 to 1, and sigma² the whole,

    x_t = m·data + (1 − m)·source + sigma √(m(1 − m)) z

    brownian   m = t                                        (Schrödinger bridges; Tong et al. 2307.03672, Shi
                                                            et al. 2303.16852)
    i2sb       m from the cumulated table of Liu et al. 2302.05872, whose betas rise to the middle and fall
               again

A mixture of such bridges has two drifts, f towards the data and g towards the source (in reversed time); with
score = ∇ log p_t they obey

    f = m'(E[data|x] − x)/(1 − m),   g = m'(E[source|x] − x)/m,   f + g = sigma² m' score,   (f − g)/2 = v,
                                                                  the probability flow.

So a prediction of one end gives one drift, and flow and score together give everything.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from backbones.types import Cond, Noise
from samplers.batch import Ends, State
from samplers.paths.base import AnyPath, Restore
from samplers.paths.coefficients import Coefficients, Time, as_time, check_steps, expand, no_spacing
from samplers.paths.conversions import ratio
from samplers.paths.gaussian import mixed

HEADS = {name: f"samplers.heads.bridge:{name}" for name in ("data", "displacement", "drift", "velocity")} | {
    "flow_score": "samplers.heads.bridge:FlowScore"
}
WEIGHTS = {
    "inverse_variance": "samplers.weights:InverseVariance",
    "uniform": "samplers.weights:Even",
    "sf2m": "samplers.weights:SF2M",
}
SPACES = ("data", "source", "drift", "backward", "velocity", "score")
EDGE = 1e-3  # training keeps this far from both ends, where targets have infinite variance


class BridgePath(AnyPath):
    """Base: a subclass writes ``share`` and ``rate``. ``sigma`` is the reference's standard deviation over
    the whole way, 0 for straight lines; ``unit`` the scale of the way itself, which a path without noise
    keeps."""

    unit = 1.0
    heads, weights, weight = HEADS, WEIGHTS, "inverse_variance"
    starts = "source"
    fixed = ("bound_weight", "space")
    sigma: float

    def share(self, t: Time) -> Tensor:
        """m(t)."""
        raise TypeError(f"{type(self).__name__} has no share: subclass BridgePath and write it")

    def rate(self, t: Time) -> Tensor:
        """m'(t)."""
        raise TypeError(f"{type(self).__name__} has no rate: subclass BridgePath and write it")

    def coefficients(self, t: Time) -> Coefficients:
        """Factors of data and source, and their slopes."""
        m, slope = self.share(t), self.rate(t)
        return Coefficients(m, 1 - m, slope, -slope)

    def marginal(self, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """Factors of data, source and z at t."""
        m = self.share(t)
        return m, 1 - m, self.sigma * (m * (1 - m)).clamp_min(0).sqrt()

    def trained_time(self, t: Tensor) -> Tensor:
        """Times in (0, 1) moved to where training may look."""
        return t.clamp(EDGE if self.sigma > 0 else 0.0, 1 - EDGE)

    def coupling(self, spec: str | Mapping[str, Any]) -> str | Mapping[str, Any] | None:
        """Entropic pairs belong to their reference: without a temperature of its own ``sinkhorn`` gets reg =
        2 sigma² on squared distances."""
        options: dict[str, Any] = {"name": spec} if isinstance(spec, str) else dict(spec)
        own = {"reg", "relative"} & set(options) or options.get("cost", "l2sq") != "l2sq"
        if options.get("name") == "sinkhorn" and self.sigma > 0 and not own:
            options["reg"] = 2 * self.sigma**2
        return options

    def state(self, space: Any, pairs: Ends, t: Tensor, noise: Noise) -> State:
        """Between the pairs at times (B,). ``z`` is the normal draw in x."""
        a, b, s = (expand(v, pairs.data) for v in self.marginal(t))
        z = noise.normal(pairs.data.shape[1:], stream="jitter", dtype=pairs.data.dtype)
        return State(
            a * pairs.data + b * pairs.source + s * z,
            t,
            pairs.cond,
            {"data": pairs.data, "source": pairs.source, "z": z},
        )

    @torch.no_grad()
    def energy(self, pairs: Ends, t: Tensor) -> Tensor | None:
        """(B,) squared distance of the pairs."""
        return (pairs.data - pairs.source).flatten(1).float().square().sum(1)

    def restorer(self, given: Tensor, known: Tensor, cond: Cond, noise: Noise) -> Restore:
        """As if the source were noise."""
        return mixed(self, given, known, noise)

    def log_snr(self, t: Time) -> Tensor:
        raise ValueError(
            "a bridge starts from data, not from noise: it has no signal-to-noise ratio; choose a "
            "sampler for bridges"
        )

    def time_of(self, log_snr: Time) -> Tensor:
        return self.log_snr(log_snr)

    def grid(self, num_steps: int, spacing: str | None = None, *, begin: float | None = None) -> list[float]:
        """Evenly spaced times. ``begin``: none but the source."""
        no_spacing(spacing, "bridge")
        return super().grid(num_steps)

    def convert(self, prediction: Any, to: str) -> Tensor:
        """A prediction as data, source, drift (towards the data), backward (towards the source, in reversed
        time), velocity or score."""
        if to not in SPACES:
            raise ValueError(f"got space {to!r}, expected one of {', '.join(SPACES)} or native")
        c, x = self.coefficients(prediction.t), prediction.x
        m, rest, slope = (expand(v, x) for v in (c.alpha, c.sigma, c.d_alpha))
        ahead, behind = self._drifts(prediction, m, rest, slope)
        if to in ("drift", "data") and ahead is not None:
            return ahead if to == "drift" else x + rest / slope * ahead
        if to in ("backward", "source") and behind is not None:
            return behind if to == "backward" else x + m / slope * behind
        if ahead is not None and behind is not None:
            if to == "velocity":
                return (ahead - behind) / 2
            if to == "score" and self.sigma > 0:
                return (ahead + behind) / (self.sigma**2 * slope)
        raise ValueError(
            f"this bridge predicts {prediction.space} only, from which {to} does not follow; choose the "
            "sampler bridge or bridge_sde, or train flow_score"
        )

    def _drifts(self, p: Any, m: Tensor, rest: Tensor, slope: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """f and g, None where the prediction does not know them."""
        if p.space == "velocity":
            half = p.heads.get("half_score", torch.zeros_like(p.value) if self.sigma == 0 else None)
            return (None, None) if half is None else (p.value + half, half - p.value)
        towards = {
            "drift": lambda: p.value,
            "data": lambda: ratio(slope * (p.value - p.x), rest),
            "backward": lambda: p.value,
            "source": lambda: ratio(slope * (p.value - p.x), m),
        }.get(p.space)
        if towards is None:
            raise ValueError(f"got a prediction in the unknown space {p.space!r}")
        return (towards(), None) if p.space in ("drift", "data") else (None, towards())


class BrownianBridge(BridgePath):
    """m = t; ``sigma`` = 0 is flow matching between two data sets."""

    def __init__(self, *, sigma: float = 1.0):
        if not sigma >= 0:
            raise ValueError(f"got sigma={sigma}, expected 0 or more")
        self.sigma = sigma

    def share(self, t: Time) -> Tensor:
        return as_time(t)

    def rate(self, t: Time) -> Tensor:
        return torch.ones_like(as_time(t))


class I2SBPath(BridgePath):
    """``steps`` entries with betas (linspace(√beta_min, √beta_max, steps)/√steps)², the first half mirrored,
    so that the variance is spent mostly in the middle. Entry n of the table stands at t = 1 − (n + 1)/steps
    and the network sees n. ``stochastic=False`` is the straight (OT-ODE) variant, with the same clock and no
    noise."""

    def __init__(
        self, *, beta_max: float = 0.3, beta_min: float = 0.1, steps: int = 1000, stochastic: bool = True
    ):
        if steps < 2 or steps % 2 or not 0 < beta_min <= beta_max:
            raise ValueError(
                f"got steps={steps}, beta_min={beta_min}, beta_max={beta_max}, expected an even number of "
                "steps and 0 < beta_min <= beta_max"
            )
        root = torch.linspace(
            (beta_min / steps) ** 0.5, (beta_max / steps) ** 0.5, steps, dtype=torch.float64
        )
        half = root.square()[: steps // 2]
        self.betas = torch.cat([half, half.flip(0)])
        # variance between entry n and the data, at n + 1
        self.ahead = torch.cat([self.betas.new_zeros(1), self.betas.cumsum(0)])
        self.size, self.stochastic = steps, stochastic
        self.total = float(self.ahead[-1])
        self.unit = self.total**0.5
        self.sigma = self.unit if stochastic else 0.0

    def _entry(self, t: Time) -> Tensor:
        """n + 1 as a float, 0 at the data."""
        return (self.size * (1 - as_time(t))).clamp(0, self.size)

    def share(self, t: Time) -> Tensor:
        place, table = self._entry(t), self.ahead.to(as_time(t))
        low = place.floor().long().clamp_max(self.size - 1)
        ahead = torch.lerp(table[low], table[low + 1], place - low)
        return 1 - ahead / self.total

    def rate(self, t: Time) -> Tensor:
        place = (self._entry(t).ceil().long() - 1).clamp(0, self.size - 1)
        return self.betas.to(as_time(t))[place] * self.size / self.total

    def marginal(self, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """As published: the entry's own beta counts on both sides."""
        n = (self._entry(t).round().long() - 1).clamp_min(0)
        ahead, betas = self.ahead.to(as_time(t)), self.betas.to(as_time(t))
        forward = ahead[n + 1]
        backward = self.total - forward + betas[n]
        std = (
            (forward * backward / (forward + backward)).sqrt()
            if self.stochastic
            else torch.zeros_like(forward)
        )
        return backward / (forward + backward), forward / (forward + backward), std

    def trained_time(self, t: Tensor) -> Tensor:
        return 1 - (self.size * (1 - t)).ceil().clamp(1, self.size) / self.size

    def network_time(self, t: Time) -> Tensor:
        return (self._entry(t) - 1).clamp_min(0)

    def grid(self, num_steps: int, spacing: str | None = None, *, begin: float | None = None) -> list[float]:
        """Evenly spaced entries, whole numbers, then the data. ``begin``: none but the source."""
        check_steps(num_steps)
        no_spacing(spacing, "bridge")
        if num_steps > self.size:
            raise ValueError(f"got {num_steps} steps, expected at most the table's {self.size}")
        entries = torch.linspace(self.size - 1, 0, num_steps + 1, dtype=torch.float64).round()[:-1]
        return [*(1 - (entries + 1) / self.size).tolist(), 1.0]


TURNED = {
    "data": "source",
    "source": "data",
    "drift": "backward",
    "backward": "drift",
    "velocity": "velocity",
    "score": "score",
}


def turned(p: Any, x: Tensor, t: Time) -> Any:
    """A prediction as someone sees it who walks from the data to the source."""
    space = TURNED[p.space]
    return replace(p, space=space, value=-p.value if space == "velocity" else p.value, x=x, t=t)
