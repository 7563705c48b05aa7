"""The queries of one run of a sampler, and what is put back into its states."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from backbones.types import Cond, Noise, RunContext
from samplers.denoiser import Queryable
from samplers.prediction import Prediction

Predict = Callable[..., Prediction]
Restore = Callable[[Tensor, float], Tensor]


def noised_back(path: Any, x: Tensor, t: float, s: float, noise: Noise | None) -> Tensor:
    """(B, ...) a state at s taken back to t < s: x_t = a x_s + √(sigma_t² − a² sigma_s²) z, a =
    alpha_t/alpha_s, by the stream ``jump``."""
    assert noise is not None  # as known entries that are re-noised need it
    now, then = path.coefficients(t), path.coefficients(s)
    a = now.alpha / then.alpha
    z = noise.normal(x.shape[1:], stream="jump", dtype=x.dtype).to(x.device)
    return a * x + (now.sigma**2 - a**2 * then.sigma**2).clamp_min(0).sqrt() * z


def at_noise(prediction: Prediction) -> bool:
    """Whether all of a prediction was made where there is noise."""
    return bool((prediction.path.coefficients(prediction.t).sigma > 0).all())


class Run:
    """Queries of one run: puts known entries back, bounds the answers, counts them and keeps the first of
    every step."""

    def __init__(
        self,
        sampler: Any,
        denoiser: Queryable,
        cond: Cond,
        ctx: RunContext,
        restore: Restore,
        *,
        grad: bool,
    ):
        self.sampler, self.denoiser, self.cond, self.ctx, self.restore, self.grad = (
            sampler,
            denoiser,
            cond,
            ctx,
            restore,
            grad,
        )
        self.count, self.first = 0, None  # type: int, Prediction | None

    def mode(self) -> Any:
        return torch.set_grad_enabled(self.grad)

    def predict(self, x: Tensor, t: float) -> Prediction:
        self.ctx.accepted = self.first is None  # the first query of a step is where rules commit their state
        self.ctx.time = float(t)
        prediction = self.sampler.bounded(self.denoiser.predict(self.restore(x, t), t, self.cond, self.ctx))
        self.ctx.evaluation += 1
        self.count += 1
        if self.first is None:
            self.first = prediction
        return prediction


def restorer(denoiser: Queryable, cond: Cond, noise: Noise | None, x: Tensor) -> Restore:
    """The function that puts known entries back at a time."""
    if cond.known is None:
        return lambda x, t: x
    if cond.given is None:
        raise ValueError("got known entries without their values; set Cond.given beside Cond.known")
    given, known = cond.given.to(x), cond.known
    if denoiser.known_trained:
        return lambda x, t: torch.where(known, given, x)
    if noise is None:
        raise ValueError(
            "known entries are re-noised for this model, which needs noise; pass noise=NoiseSource(seeds)"
        )
    return denoiser.path.restorer(given.expand_as(x), known, cond, noise)
