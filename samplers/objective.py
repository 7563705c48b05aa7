"""One training objective for every Gaussian path: path + coupling + parameterisation + time sampling + loss weight.

DDPM, EDM, flow matching and its couplings are configs of this class. Known entries are put in place before the network sees x and are left
out of the loss; a learned variance adds its variational term.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from backbones.registry import build, check_options, resolve
from backbones.types import Backbone, Cond, NoiseSource, RunContext
from samplers import coupling as couplings
from samplers import parameterization as parameterizations
from samplers import space as spaces
from samplers import times as time_samplers
from samplers.coupling import Coupling
from samplers.parameterization import Parameterization
from samplers.paths import Path
from samplers.prediction import Prediction, expand
from samplers.space import Space
from samplers.variational import bound

PATHS = {"linear": "samplers.paths:LinearPath", "vp": "samplers.paths:VPPath", "edm": "samplers.paths:EDMPath"}


@dataclass(frozen=True)
class Batch:
    """Data (B, ...) as the network sees it, its conditions, and a source where the data brings one."""

    data: Tensor
    cond: Cond = field(default_factory=Cond)
    source: Tensor | None = None


@dataclass(frozen=True)
class Loss:
    """``per_sample`` (B,), weights included; ``logs`` are detached scalars; ``t`` (B,) the times."""

    per_sample: Tensor
    logs: dict[str, Tensor]
    t: Tensor


class Objectives(Protocol):
    def loss(self, net: Backbone, batch: Batch, noise: NoiseSource, ctx: RunContext | None = None) -> Loss: ...


def _entry(registry: Mapping[str, str], spec: str | Mapping[str, Any], kind: str) -> Any:
    """Build from ``"name"`` or ``{"name": ..., options}``."""
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    if "name" not in options:
        raise ValueError(f"got a {kind} without a name: {dict(options)}, expected e.g. {{name: {next(iter(registry))}}}")
    return build(registry, options.pop("name"), kind, options)


class Objective:
    """See the module. ``cond_drop`` is the probability that a sample loses its conditions; ``bound_weight`` scales the variational term of a
    learned variance (1 = sum to the squared error as in ADM's MSE mode, T/1000 = its rescaled mode)."""

    def __init__(
        self, path: Path, parameterization: Parameterization, *, coupling: Coupling | None = None, times: time_samplers.TimeSampler | None = None,
        weight: str = "uniform", cond_drop: float = 0.0, space: Space | None = None, bound_weight: float = 1.0,
    ):  # fmt: skip
        if not 0 <= cond_drop <= 1:
            raise ValueError(f"got cond_drop={cond_drop}, expected a probability between 0 and 1")
        self.path, self.parameterization = path, parameterization
        self.coupling, self.times = coupling or couplings.Independent(), times or time_samplers.Uniform()
        self.weight, self.cond_drop, self.bound_weight = resolve(time_samplers.WEIGHTS, weight, "loss weight"), cond_drop, bound_weight
        self.space = space or spaces.Euclid()

    def sample_pairs(self, batch: Batch, noise: NoiseSource) -> couplings.Coupled:
        source = batch.source if batch.source is not None else self.space.prior(noise, batch.data.shape[1:], dtype=batch.data.dtype)
        return self.coupling(source, batch.data, batch.cond, noise)

    def predict(self, net: Backbone, pairs: couplings.Coupled, t: Tensor, ctx: RunContext | None = None) -> Prediction:
        """The network's prediction on the path between the pairs at times t (B,)."""
        x = self.space.interpolate(pairs.source, pairs.data, self.path.coefficients(t))
        known = pairs.cond.known
        if known is not None:
            x = torch.where(known, pairs.data if pairs.cond.given is None else pairs.cond.given, x)
        return self.parameterization.predict(net, x, t, pairs.cond, self.path, ctx)

    def loss(self, net: Backbone, batch: Batch, noise: NoiseSource, ctx: RunContext | None = None, *, t: Tensor | None = None) -> Loss:
        """Per-sample loss of one batch; all randomness comes from ``noise`` (streams prior, time, drop). ``t`` (B,) overrides the draw."""
        pairs = self.sample_pairs(batch, noise)
        t = self.times(noise, self.path) if t is None else t
        pairs = couplings.Coupled(pairs.source, pairs.data, pairs.cond.drop(self.cond_drop, noise), pairs.weight)
        prediction = self.predict(net, pairs, t, ctx)
        squared = self.parameterization.error(prediction, pairs.data, pairs.source).square()
        known = pairs.cond.known
        if known is None:
            error = squared.flatten(1).mean(1)
        else:
            free = (~known).expand_as(squared).to(squared.dtype)
            error = (squared * free).flatten(1).sum(1) / free.flatten(1).sum(1).clamp_min(1)
        weighted = error * self.weight(self.path.coefficients(t)).to(error)
        logs = {"error": error.detach().mean()}
        if self.parameterization.variance is not None:
            variational = bound(prediction.with_(prediction.space, prediction.value.detach()), pairs.data)
            weighted = weighted + self.bound_weight * variational
            logs["bound"] = variational.detach().mean()
        if pairs.weight is not None:
            weighted = weighted * expand(pairs.weight, weighted)
        return Loss(weighted, logs, t)


def build_objective(
    path: str | dict[str, Any] = "linear", parameterization: str | dict[str, Any] = "velocity", coupling: str | dict[str, Any] = "independent",
    times: str | dict[str, Any] = "uniform", weight: str = "uniform", cond_drop: float = 0.0, bound_weight: float = 1.0, space: str = "euclid",
) -> Objective:  # fmt: skip
    """An objective from names or ``{name: ..., options}`` trees, as configs write them."""
    return Objective(
        _entry(PATHS, path, "path"), _entry(parameterizations.REGISTRY, parameterization, "parameterization"),
        coupling=_entry(couplings.REGISTRY, coupling, "coupling"), times=_entry(time_samplers.REGISTRY, times, "time sampler"),
        weight=weight, cond_drop=cond_drop, bound_weight=bound_weight, space=_entry(spaces.REGISTRY, space, "space"),
    )  # fmt: skip


def objective_options(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A config's ``objective`` section, checked."""
    return check_options(build_objective, tree, "objective")
