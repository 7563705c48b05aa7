"""The log density that a flow gives to data (Song et al. 2011.13456, appendix D.2; Grathwohl et al.
1810.01367).

Along dx/dτ = u(x, τ) the density obeys d log p(x(τ))/dτ = −tr ∂u/∂x, so

    log p(data) = log p(source) − ∫ tr ∂u/∂x dτ        from the source to the data

The state and the integral are one state (B, d + K), which the flow's own samplers step from the data to the
source. The trace is exact, by d products with the Jacobian, or Hutchinson's estimate eᵀ(∂u/∂x)e of K probes
e = ±1, the same along the whole way, which is unbiased.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from backbones.types import Cond, RunContext
from samplers.denoiser import Queryable
from samplers.paths import AnyPath, Path, Time
from samplers.paths.clock import Clock
from samplers.prediction import Prediction
from samplers.solvers.backward import ahead, check_back, times_back
from samplers.solvers.base import Sampler


def divergence(
    field: Callable[[Tensor], Tensor], x: Tensor, probes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The field (B, ...) at x (B, ...), which sees every sample by itself, and its traces (B, K): the exact
    one (K = 1), or e · (∂field/∂x) e of ``probes`` e (K, B, ...)."""
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        found = field(at)
        if probes is None:
            flat = found.flatten(1)
            rows = (_pulled(flat[:, i].sum(), at).flatten(1)[:, i] for i in range(flat.shape[1]))
            return found.detach(), torch.stack([*rows]).sum(0)[:, None]
        traces = [(_pulled((found * e).sum(), at) * e).flatten(1).sum(1) for e in probes]
    return found.detach(), torch.stack(traces, 1)


def _pulled(value: Tensor, at: Tensor) -> Tensor:
    return torch.autograd.grad(value, at, retain_graph=True)[0]


class _Told(Clock):
    """Another clock, of slopes that are there already."""

    def __init__(self, clock: Clock):
        self.clock = clock

    def at(self, t: float) -> float:
        return self.clock.at(t)

    def time(self, tau: float) -> float:
        return self.clock.time(tau)

    def slope(self, prediction: Any) -> Tensor:
        return prediction.value


class _Way(AnyPath):
    """The way of states (B, d + K) beside a path."""

    def __init__(self, path: Path):
        self.path, self.clock = path, _Told(path.clock)

    def open_end(self, s: float) -> bool:
        return self.path.open_end(s)


class Traced:
    """A model as the flow of its states with the integral of the trace behind them, (B, d + K) of states
    (B, *shape)."""

    starts, known_trained, space = "noise", False, "euclid"

    def __init__(self, denoiser: Queryable, shape: torch.Size, probes: Tensor | None):
        self.denoiser, self.shape, self.probes, self.path = denoiser, shape, probes, _Way(denoiser.path)

    def predict(self, x: Tensor, t: Time, cond: Cond, ctx: RunContext | None = None) -> Prediction:
        model = self.denoiser

        def field(state: Tensor) -> Tensor:
            return model.path.clock.slope(model.predict(state, t, cond, ctx))

        slope, traces = divergence(field, x[:, : self.shape.numel()].view(-1, *self.shape), self.probes)
        return Prediction("velocity", torch.cat([slope.flatten(1), traces], 1), x, t, self.path)


def check_density(sampler: Sampler, denoiser: Queryable) -> None:
    """Raises ``ValueError`` as `check_back`, and for a sampler whose steps are no sums of slopes, or bound
    the data."""
    check_back(sampler, denoiser)
    if not sampler.by_slope:
        raise ValueError(
            f"the sampler {type(sampler).__name__} does not follow slopes, expected one that carries a "
            "density along; choose heun, rk4, ab2, midpoint, euler or torchdiffeq"
        )
    if (sampler.clip, sampler.threshold) != (None, None):
        raise ValueError(
            f"got clip={sampler.clip} and threshold={sampler.threshold}, but a flow with bounds has "
            "no smooth density; leave them out"
        )


def log_density(
    sampler: Sampler,
    denoiser: Queryable,
    data: Tensor,
    cond: Cond | None = None,
    *,
    num_steps: int = 30,
    probes: Tensor | None = None,
    ctx: RunContext | None = None,
) -> Tensor:
    """(B, K) natural logarithm of the density that samples of the model have at states data (B, ...): exact,
    or, K estimates, with the ``probes`` (K, B, ...) of ±1. The density is of what the sampler draws in the
    limit of many steps: from its own start on. Raises ``ValueError`` as `check_density`."""
    check_density(sampler, denoiser)
    path, times = denoiser.path, times_back(sampler, denoiser.path, num_steps)
    shrunk, d = float(path.coefficients(times[0]).alpha), data[0].numel()
    beside = data.new_zeros(len(data), 1 if probes is None else len(probes))
    # a head that takes gradients of its network is differentiated once more
    twice = getattr(denoiser, "grad", "none") != "none"
    ctx = ctx or RunContext()
    ctx.double_backward = ctx.double_backward or twice
    state, model = torch.cat([shrunk * data.flatten(1), beside], 1), Traced(denoiser, data.shape[1:], probes)
    for step in sampler.along(model, state, cond or Cond(), None, times, 0, ctx):
        state = step.x
    scale = path.prior_scale * ahead(path, times[-1])
    start, integral = state[:, :d].double(), state[:, d:].double()
    prior = -0.5 * (start / scale).square().sum(1) - d * (math.log(scale) + 0.5 * math.log(2 * math.pi))
    return prior[:, None] + integral + d * math.log(shrunk)
