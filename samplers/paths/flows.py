"""Paths of flow matching: x_t = a(t)·data + b(t)·source (+ sigma·eps), regressed on the velocity a'·data +
b'·source.

    linear   a = t,           b = 1 − t                      (I-CFM, rectified flow; Tong et al. 2302.00482)
    lipman   a = t,           b = 1 − (1 − sigma_min)·t      (Lipman et al. 2210.02747)
    trig     a = sin(πt/2),   b = cos(πt/2)                  (variance preserving; Albergo & Vanden-Eijnden
                                                             2209.15571)

``sigma`` adds Gaussian noise of that standard deviation between the ends, independent of t. For a Gaussian
source the noise and the source are one Gaussian of standard deviation s = √(b² + sigma²), and the regressed
field is the path's own: E[a' data + b' source | x] = a' D + s'(x − a D)/s with D = E[data | x]. So sampling
and conversions use (a, s), training uses the ends; sampling ends with that noise still in the samples.
"""

import math
from typing import Any

import torch
from torch import Tensor

from backbones.types import Noise
from samplers.batch import Ends, State
from samplers.paths.coefficients import (
    Coefficients,
    Time,
    as_time,
    check_begin,
    check_steps,
    expand,
    mix,
    no_spacing,
)
from samplers.paths.gaussian import Gaussian


class Flow(Gaussian):
    """Base: a subclass writes ``ends`` and, where it has a closed form, ``_time_of``. The network sees
    time_scale·t: 1000·t unless it was trained elsewhere with another clock (t itself: 1)."""

    def __init__(self, *, sigma: float = 0.0, time_scale: float = 1000.0):
        if sigma < 0:
            raise ValueError(f"got sigma={sigma}, expected 0 or more")
        if not 0 < time_scale < math.inf:
            raise ValueError(
                f"got time_scale={time_scale}, expected a positive number: what the network's clock shows "
                "at the data"
            )
        self.sigma, self.time_scale, self.prior_scale = sigma, time_scale, math.sqrt(1 + sigma**2)

    def ends(self, t: Time) -> Coefficients:
        """Factors of data and source, and their slopes."""
        raise TypeError(f"{type(self).__name__} has no ends: subclass Flow and write them")

    def coefficients(self, t: Time) -> Coefficients:
        c = self.ends(t)
        if self.sigma == 0:
            return c
        total = (c.sigma**2 + self.sigma**2).sqrt()
        return Coefficients(c.alpha, total, c.d_alpha, c.sigma * c.d_sigma / total)

    def state(self, space: Any, pairs: Ends, t: Tensor, noise: Noise) -> State:
        """As `Gaussian.state`. Where the path adds noise, the noise in x is that and the source together, and
        the velocity to learn is the pair's."""
        if self.sigma == 0:
            return super().state(space, pairs, t, noise)
        ends, total = self.ends(t), self.coefficients(t).sigma
        jitter = noise.normal(pairs.data.shape[1:], stream="jitter", dtype=pairs.data.dtype)
        x = mix(ends, pairs.source, pairs.data) + self.sigma * jitter
        mixed = (
            expand(ends.sigma / total, pairs.data) * pairs.source
            + expand(self.sigma / total, pairs.data) * jitter
        )
        targets = {"data": pairs.data, "noise": mixed, "velocity": self.velocity(pairs, t)}
        return State(x, t, pairs.cond, targets)

    def velocity(self, pairs: Any, t: Tensor) -> Tensor:
        """(B, ...) of the way between the pairs."""
        c = self.ends(t)
        return expand(c.d_alpha, pairs.data) * pairs.data + expand(c.d_sigma, pairs.data) * pairs.source

    @torch.no_grad()
    def energy(self, pairs: Any, t: Tensor) -> Tensor | None:
        """(B,) squared norm of the velocity of the pairs."""
        return self.velocity(pairs, t).flatten(1).float().square().sum(1)

    def log_snr(self, t: Time) -> Tensor:
        c = self.coefficients(t)
        return 2 * (c.alpha.log() - c.sigma.log())

    def time_of(self, log_snr: Time) -> Tensor:
        """The inverse of log_snr, kept within 0 and 1."""
        target = as_time(log_snr)
        if self.sigma == 0:
            return self._time_of(target)
        low, high = torch.zeros_like(target), torch.ones_like(target)
        for _ in range(60):
            middle = (low + high) / 2
            below = self.log_snr(middle) < target
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return torch.where(target == -torch.inf, 0.0, high)

    def _time_of(self, log_snr: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} has no inverse of its log SNR: write _time_of")

    def network_time(self, t: Time) -> Tensor:
        return self.time_scale * as_time(t)

    def grid(self, num_steps: int, spacing: str | None = None, *, begin: float | None = None) -> list[float]:
        check_steps(num_steps)
        no_spacing(spacing, type(self).__name__.removesuffix("Path").lower())
        start = check_begin(begin, self.t_start)
        if start == 0:
            return [i / num_steps for i in range(num_steps + 1)]
        return [start + (1 - start) * i / num_steps for i in range(num_steps)] + [1.0]


class LinearPath(Flow):
    """Straight paths."""

    def ends(self, t: Time) -> Coefficients:
        t = as_time(t)
        return Coefficients(t, 1 - t, torch.ones_like(t), -torch.ones_like(t))

    def _time_of(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(log_snr / 2)


class LipmanPath(Flow):
    """Straight paths that end with noise of standard deviation ``sigma_min`` about the data."""

    def __init__(self, *, sigma_min: float = 1e-4, time_scale: float = 1000.0):
        super().__init__(time_scale=time_scale)
        if not 0 <= sigma_min < 1:
            raise ValueError(f"got sigma_min={sigma_min}, expected 0 to below 1")
        self.sigma_min = sigma_min

    def ends(self, t: Time) -> Coefficients:
        t = as_time(t)
        fall = 1 - self.sigma_min
        return Coefficients(t, 1 - fall * t, torch.ones_like(t), torch.full_like(t, -fall))

    def _time_of(self, log_snr: Tensor) -> Tensor:
        inverse = (-log_snr / 2).exp()  # sigma/alpha
        return (1 / (inverse + 1 - self.sigma_min)).clamp(0, 1)


class TrigPath(Flow):
    """A quarter of a circle: variance preserving for data of variance 1."""

    def ends(self, t: Time) -> Coefficients:
        angle = as_time(t) * (math.pi / 2)
        sine, cosine = angle.sin(), (math.pi / 2 - angle).sin()  # so that the cosine is 0 at t = 1
        return Coefficients(sine, cosine, math.pi / 2 * cosine, -math.pi / 2 * sine)

    def _time_of(self, log_snr: Tensor) -> Tensor:
        return (log_snr / 2).exp().atan() * (2 / math.pi)
