"""What the flow of a trained model says of data: the noise that it comes from, and its density."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from backbones.registry import whole
from backbones.types import NoiseSource, RunContext
from guidance.rules import Rule
from samplers.denoiser import Denoiser
from samplers.reparameterised import Reparameterised
from samplers.solvers.backward import check_back, latent
from samplers.solvers.base import Sampler
from samplers.solvers.likelihood import check_density, log_density
from studio import sampling
from studio.model.loaded import Loaded
from studio.runtime.finite import check_decoded
from studio.sampling import engine, sampler_spec

FEW = 64  # dimensions, up to which the trace is exact unless asked for otherwise


def check_noise(model: Loaded) -> None:
    """Raises ``ValueError`` for a model that starts from anything but Gaussian noise of one size."""
    if model.denoiser.starts != "noise" or not model.denoiser.path.levels:
        raise ValueError(
            f"{model.name} is a model of {model.denoiser.space} that does not start from Gaussian noise, so "
            "its samples have no noise to be found, no density and no great circles between them; expected "
            "one on a path such as linear, trig, vp or edm"
        )
    if model.codec.settings:
        raise ValueError(
            f"{model.name} makes samples of as many {' and '.join(model.codec.settings)} as its start is "
            "told, so their noise, density and great circles are not of one size; expected a model of "
            "samples of one size"
        )


def solver_of(request: sampling.Request) -> Sampler:
    return request.solver or sampler_spec.build_sampler(request.sampler)


def _piecewise(request: sampling.Request, sampler: Sampler, fn: Callable[[list[int]], Tensor]) -> Tensor:
    """(N, ...) of what ``fn`` makes of the rows of each micro-batch; alone where steps depend on the
    batch."""
    size, n = 1 if sampler.mixes else request.batch, len(request.seeds)
    return torch.cat([fn([*range(i, min(i + size, n))]) for i in range(0, n, size)])


def _check_plan(request: sampling.Request) -> None:
    if request.plan is not None:
        raise ValueError(
            f"got the plan {request.plan_name}, which is for runs from noise; take the model without one, "
            'as model.planned("none")'
        )


def _precise(model: Loaded) -> Denoiser | Reparameterised:
    """Rounding would show the company of a sample, and is not undone on the way back."""
    return model.denoiser.with_net(model.denoiser.net, torch.float32)


def latents(
    model: Loaded, values: Tensor, request: sampling.Request, rules: Sequence[Rule], sampler: Sampler
) -> Tensor:
    """(N, *shape) float32 on the CPU: the standard normal noise that data (N, ...) comes from; in float32,
    whatever the model runs in. Raises ``ValueError`` where the model or the sampler has no way back."""
    _check_plan(request)
    asked = engine.guided(_precise(model), request, rules)
    check_back(sampler, asked)

    def piece(rows: list[int]) -> Tensor:
        states = model.codec.encode(values[rows]).to(model.device)
        cond = engine.cond_of(request, rows, model.device)
        ctx = RunContext(attention=request.attention)
        return latent(sampler, asked, states, cond, num_steps=request.num_steps, ctx=ctx).cpu()

    return check_decoded(_piecewise(request, sampler, piece), "the way back to the noise")


def densities(
    model: Loaded,
    values: Tensor,
    request: sampling.Request,
    *,
    exact: bool | None,
    probes: int,
    seed: int,
    spread: bool = False,
) -> Tensor:
    """(N,) float64 on the CPU: log densities, in nats, of data (N, ...) in its own unit. ``spread``: of
    pictures the density somewhere in what decodes to each number, evenly drawn. In float32, whatever the
    model runs in. Raises ``ValueError`` for what has no density."""
    _check_plan(request)
    sampler, shape = solver_of(request), model.info.shape
    log_det, d, count = model.codec.log_det(shape), math.prod(shape), whole(probes, "probes")
    each = getattr(model.codec, "log_dets", None)  # where it depends on the sample
    asked = _precise(model)
    check_density(sampler, asked)
    if log_det is None and each is None:
        raise ValueError(
            f"{model.name} works on {model.codec.name}, which do not tell a density of the data itself, "
            "expected states that are the data on another scale; ask model.denoiser by "
            "samplers.solvers.likelihood for one of its states"
        )
    if count < 1:
        raise ValueError(f"got probes={probes}, expected 1 or more")
    exact = d <= FEW if exact is None else exact

    def piece(rows: list[int]) -> Tensor:
        noise = NoiseSource([seed] * len(rows), index=rows)
        states = model.codec.encode(values[rows])
        if spread and log_det is not None:
            states = states + (noise.uniform(shape, stream="dequantise") - 0.5) * math.exp(log_det / d)
        signs = [noise.at(k).uniform(shape, stream="probe") < 0.5 for k in range(0 if exact else count)]
        found = log_density(
            sampler,
            asked,
            states.to(model.device),
            engine.cond_of(request, rows, model.device),
            num_steps=request.num_steps,
            probes=None if exact else (torch.stack(signs).float() * 2 - 1).to(model.device),
            ctx=RunContext(attention=request.attention),
        )
        return found.mean(1).cpu()

    larger: Any = log_det if each is None else each(values)
    return check_decoded(_piecewise(request, sampler, piece) + larger, "the density")
