"""Stochastic solvers beside the ancestral ones.

``edm_heun`` is Algorithm 2 of Karras et al. 2206.00364, in y = x/alpha and the noise level ℓ = sigma/alpha,
which every Gaussian path has:

    γ = min(s_churn/n, √2 − 1) where s_min <= ℓ <= s_max;   ℓ̂ = (1 + γ) ℓ,   ŷ = y + √(ℓ̂² − ℓ²) s_noise z
    y_s = ŷ + (ℓ_s − ℓ̂) ε(ŷ, ℓ̂),   corrected with the mean of ε at both ends unless ℓ_s = 0        (order 2)

``euler_maruyama`` integrates the reverse SDE (Song et al. 2011.13456) on the sampler's own clock,

    dx = (u + ½ g² score) dt + g dW,   g² = scale · 2 (sigma² alpha'/alpha − sigma sigma')            (weak
                                       order 1)

whose marginals are the path's for every ``scale`` >= 0: 1 is the time reversal of the noising process, 0 the
probability flow (euler).
"""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from backbones.types import Noise
from samplers.paths import GaussianPath, sigma_of
from samplers.solvers.ancestral import transition
from samplers.solvers.base import Predict, Sampler

# a fall of the level in one step, far above the data's own scale of about 1, over which a mean of both ends
# says nothing
LEAP = 10


def draw(sampler: Sampler, x: Tensor, noise: Noise | None) -> Tensor:
    """(B, ...) the step's normal draw."""
    if noise is None:
        raise ValueError(f"{type(sampler).__name__} adds noise in its steps; pass noise=NoiseSource(seeds)")
    return noise.normal(x.shape[1:], stream="step", dtype=x.dtype).to(x.device)


@dataclass(kw_only=True, eq=False)
class EDMHeun(Sampler):
    """``s_churn`` spreads that much noise over the run, at levels from ``s_min`` to ``s_max``, with its
    standard deviation times ``s_noise``; 0 is the deterministic solver. Levels are raised no further than
    where the grid may start. 2n − 1 evaluations; on other paths than EDM's a step that lowers ℓ more than
    tenfold from above 10 (the first ones of a coarse grid) goes without its correction."""

    s_churn: float = 0.0
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.s_churn < 0 or self.s_noise < 0 or not 0 <= self.s_min <= self.s_max:
            raise ValueError(
                f"got s_churn={self.s_churn}, s_min={self.s_min}, s_max={self.s_max}, "
                f"s_noise={self.s_noise}, expected s_churn and s_noise of at "
                "least 0 and 0 <= s_min <= s_max"
            )

    def begin(self, path: Any, times: list[float], start: int) -> list[Any]:
        return [(path, len(times) - 1)]

    def evaluations(self, path: Any, times: list[float]) -> tuple[int, ...]:
        begun = [self.raised(t, path, len(times) - 1) for t in times[:-1]]
        return tuple(1 if self.plain(path, t, s) else 2 for t, s in zip(begun, times[1:]))

    def plain(self, path: Any, t: float, s: float) -> bool:
        """Whether a step goes without its correction: at the data there is no noise to predict; where alpha
        is 0 there is no y."""
        level, next_level = float(sigma_of(path, t)), float(sigma_of(path, s))
        far = math.isinf(level) or (level > LEAP * max(next_level, 1.0) and not path.karras)
        return next_level == 0 or far

    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        if self.s_churn > 0:
            x, t = self.churn(x, t, noise, *history[0])
        first = predict(x, t)
        path, eps = first.path, first.to("noise")
        then, level, next_level = path.coefficients(s), float(sigma_of(path, t)), float(sigma_of(path, s))
        out = then.alpha * first.to("data") + then.sigma * eps
        if self.plain(path, t, s):
            return out
        return out + then.alpha * ((next_level - level) / 2) * (predict(out, s).to("noise") - eps)

    def churn(
        self, x: Tensor, t: float, noise: Noise | None, path: GaussianPath, num_steps: int
    ) -> tuple[Tensor, float]:
        """The state with noise added, and the earlier time it now belongs to."""
        level, earlier = float(sigma_of(path, t)), self.raised(t, path, num_steps)
        raised = float(sigma_of(path, earlier))
        if raised <= level:
            return x, t
        added = math.sqrt(raised**2 - level**2) * self.s_noise
        return path.coefficients(earlier).alpha * (
            x / path.coefficients(t).alpha + added * draw(self, x, noise)
        ), earlier

    def raised(self, t: float, path: GaussianPath, num_steps: int) -> float:
        """The earlier time to which a step that begins at t is taken back."""
        level = float(sigma_of(path, t))
        if self.s_churn == 0 or not self.s_min <= level <= self.s_max or math.isinf(level):
            return t
        gamma = min(self.s_churn / num_steps, math.sqrt(2) - 1)
        earlier = float(path.time_of(-2 * math.log(level * (1 + gamma))))
        return min(earlier if self.lambda_min is None else max(earlier, self.begin_time(path)), t)


@dataclass(kw_only=True, eq=False)
class EulerMaruyama(Sampler):
    """``scale`` of the noise. g² is limited to what leaves the noise of a step below that of the path at its
    end, which small steps never reach. The last step takes the data prediction; a first step from pure noise,
    where g is infinite, is DDPM's."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale < 0:
            raise ValueError(f"got scale={self.scale}, expected 0 (no noise) or more")

    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        prediction = predict(x, t)
        path = prediction.path
        clock, c = path.clock, path.coefficients(t)
        if self.scale == 0:
            return x + (clock.at(s) - clock.at(t)) * clock.slope(prediction)
        if s == 1:
            return prediction.to("data")
        if float(c.alpha) == 0:
            c_x, c_data, variance, _, _ = transition(path, t, s)
            return c_x * x + c_data * prediction.to("data") + variance.sqrt() * draw(self, x, noise)
        h = clock.at(s) - clock.at(t)
        rate = self.scale * 2 * (c.sigma**2 * c.d_alpha / c.alpha - c.sigma * c.d_sigma)  # g²
        rate = rate * clock.pace(t)  # dt/dτ
        rate = rate.clamp(0, float(path.coefficients(s).sigma) ** 2 / h)
        return (
            x
            + h * (clock.slope(prediction) + rate / 2 * prediction.to("score"))
            + (rate * h).sqrt() * draw(self, x, noise)
        )
