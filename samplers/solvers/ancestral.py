"""DDPM (Ho et al. 2006.11239) and DDIM (Song et al. 2010.02502), written for any Gaussian path.

From t to s (closer to data), a = alpha_t/alpha_s, β = sigma_t² − a² sigma_s²:

    q(x_s | x_t, data) = N( a sigma_s²/sigma_t² x_t + alpha_s β/sigma_t² data,  β sigma_s²/sigma_t² )

On a VP table this is the usual strided step. DDIM keeps the predicted noise: x_s = alpha_s data + √(sigma_s²
− η² v) noise + η √v z with v the variance above; η = 1 is DDPM with the small variance.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from backbones.types import Noise
from samplers.paths import check_steps
from samplers.prediction import Prediction
from samplers.solvers.base import Predict, Sampler

VARIANCES = ("fixed_small", "fixed_small_log", "fixed_large", "learned_range")


@dataclass(kw_only=True, eq=False)
class Ancestral(Sampler):
    """What DDPM and DDIM share: respaced tables, and that they ask for moments only."""

    by_moments = True

    respacing: str | None = None

    def grid(self, path: Any, num_steps: int) -> list[float]:
        check_steps(num_steps)
        if self.respacing is None:
            return super().grid(path, num_steps)
        if not path.tabled:
            raise ValueError(
                f"got respacing={self.respacing!r}, which needs a VP table; leave it out for this model"
            )
        begin = None if self.lambda_min is None else self.begin_time(path)
        return [path.time(k) for k in path.respaced(self.respacing, begin=begin)] + [1.0]

    def data(self, prediction: Prediction) -> Tensor:
        return self.bound(prediction.to("data"))

    def draw(self, x: Tensor, noise: Noise | None) -> Tensor:
        if noise is None:
            raise ValueError(f"{type(self).__name__} adds noise in its steps; pass noise=NoiseSource(seeds)")
        return noise.normal(x.shape[1:], stream="step", dtype=x.dtype).to(x.device)


def transition(path: Any, t: float, s: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(factor of x, factor of data, small variance, large variance β, sigma_s), float64 scalars."""
    now, then = path.coefficients(t), path.coefficients(s)
    a = now.alpha / then.alpha
    beta = now.sigma**2 - a**2 * then.sigma**2
    ratio = then.sigma**2 / now.sigma**2
    return a * ratio, then.alpha * beta / now.sigma**2, (beta * ratio).clamp_min(1e-20), beta, then.sigma


@dataclass(kw_only=True, eq=False)
class DDPM(Ancestral):
    """``variance``: fixed_small (the posterior's; fixed_small_log is the same, through its logarithm),
    fixed_large (β), learned_range (needs the model's variance head). No noise is added in the last step."""

    variance: str = "fixed_small"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variance not in VARIANCES:
            raise ValueError(f"got variance {self.variance!r}, expected one of {', '.join(VARIANCES)}")

    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        prediction = predict(x, t)
        c_x, c_data, small, large, _ = transition(prediction.path, t, s)
        mean = c_x * x + c_data * self.data(prediction)
        if self.variance == "learned_range":
            f = (prediction.head("variance") + 1) / 2
            std: Tensor = torch.exp(0.5 * (f * large.log() + (1 - f) * small.log()))
        else:
            std = (large if self.variance == "fixed_large" else small).sqrt()
        return mean if s == 1 else mean + std * self.draw(x, noise)


@dataclass(kw_only=True, eq=False)
class DDIM(Ancestral):
    """``eta`` scales the noise. ``recompute_noise``: after clipping, derive the noise again from the clipped
    data (ADM does, diffusers does not). A head ``renoise`` (CFG++'s) takes the place of the predicted noise
    on the way back."""

    follows = frozenset({"renoise"})

    eta: float = 0.0
    recompute_noise: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise ValueError(f"got eta={self.eta}, expected 0 (deterministic) to 1 (DDPM)")

    @property
    def turns(self) -> bool:
        return self.eta == 0

    def bounded(self, prediction: Prediction) -> Prediction:
        """With the network's own noise the step bounds the data alone."""
        return super().bounded(prediction) if self.recompute_noise else prediction

    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        prediction = predict(x, t)
        data = self.data(prediction)
        eps = prediction.with_("data", data).to("noise") if self.recompute_noise else prediction.to("noise")
        eps = prediction.heads.get("renoise", eps)
        _, _, small, _, sigma = transition(prediction.path, t, s)
        # without noise its size does not count, which is no number at the ends
        variance = self.eta**2 * small if self.eta > 0 else torch.zeros_like(sigma)
        out = prediction.path.coefficients(s).alpha * data + (sigma**2 - variance).clamp_min(0).sqrt() * eps
        return out if s == 1 or self.eta == 0 else out + variance.sqrt() * self.draw(x, noise)
