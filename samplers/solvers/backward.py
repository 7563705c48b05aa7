"""A flow walked from the data to its source, by the samplers that lead both ways.

A step from t to s is the same formula where s < t, so the grid is the sampler's own, from behind. Where the
flow has no slope at the data (`Path.open_end`), the data are taken as the state without noise at the last
time that the network knows, which is off by as much as there is noise.
"""

from collections.abc import Iterator

from torch import Tensor

from backbones.types import Cond, RunContext
from samplers.denoiser import Queryable
from samplers.paths import Path
from samplers.solvers.base import Sampler, Step


def ahead(path: Path, t: float) -> float:
    """How much larger a state is at t than where the path starts: by what a run multiplies its prior that
    begins there."""
    found = path.spread(t) / path.spread(path.t_start)
    return 1.0 if abs(found - 1) < 1e-3 else found


def times_back(sampler: Sampler, path: Path, num_steps: int) -> list[float]:
    """The grid of a sampler from the data, or the last time that the network knows, to the source."""
    times = sampler.times(path, num_steps)
    if path.open_end(times[-1]):
        last = path.last_trained
        times = [*times[:-1], last] if last > times[-2] + 1e-9 else times[:-1]
    if len(times) < 2:
        raise ValueError(f"got {num_steps} steps, which do not reach the data on this path; ask for more")
    return times[::-1]


def check_back(sampler: Sampler, denoiser: Queryable) -> None:
    """Raises ``ValueError`` where `Sampler.check` does, for a sampler that leads to the data only, and for a
    model that has no Gaussian noise to be led to."""
    path = denoiser.path
    if denoiser.starts != "noise" or not path.levels:
        what = "data of its own" if denoiser.starts != "noise" else f"the source of {type(path).__name__}"
        raise ValueError(
            f"got a model of {denoiser.space} that starts from {what}, expected one that starts from "
            "Gaussian noise; try a path such as linear, trig, vp or edm"
        )
    sampler.check(denoiser)
    if not sampler.turns:
        raise ValueError(
            f"the sampler {type(sampler).__name__} with these options leads to the data only; choose heun, "
            "rk4, ab2, midpoint, euler, ddim (without eta) or torchdiffeq"
        )


def steps_back(
    sampler: Sampler,
    denoiser: Queryable,
    data: Tensor,
    cond: Cond | None = None,
    *,
    num_steps: int = 30,
    ctx: RunContext | None = None,
) -> Iterator[Step]:
    """Iterate the steps from data (B, ...) to the source; the last state is on the prior's scale (`ahead` of
    where the grid starts). Raises ``ValueError`` as `check_back`."""
    check_back(sampler, denoiser)
    path, times = denoiser.path, times_back(sampler, denoiser.path, num_steps)
    x = data * float(path.coefficients(times[0]).alpha)
    return sampler.along(denoiser, x, cond or Cond(), None, times, 0, ctx or RunContext())


def latent(
    sampler: Sampler,
    denoiser: Queryable,
    data: Tensor,
    cond: Cond | None = None,
    *,
    num_steps: int = 30,
    ctx: RunContext | None = None,
) -> Tensor:
    """(B, ...) the standard normal noise that a run from it would lead back to data (B, ...): DDIM inversion
    (Song et al. 2010.02502, section 5.4) where the sampler is ddim. Raises ``ValueError`` as `check_back`."""
    x, t = data, 1.0
    for step in steps_back(sampler, denoiser, data, cond, num_steps=num_steps, ctx=ctx):
        x, t = step.x, step.s
    return x / (denoiser.path.prior_scale * ahead(denoiser.path, t))
