"""One training objective for every Gaussian path: path + coupling + parameterisation + time sampling + loss
weight.

DDPM, EDM, flow matching and its couplings are configs of this class. Known entries are put in place before
the network sees x and are left out of the loss; a learned variance adds its variational term.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from backbones.registry import build, check_options
from backbones.types import Backbone, NoiseSource, RunContext
from samplers import bridge_objective, graph
from samplers import times as time_samplers
from samplers.batch import Batch, Loss, check_drop, mean_unknown, with_known
from samplers.couplings import coupling as couplings
from samplers.couplings.coupling import Coupled, Coupling
from samplers.heads import bridge as bridge_heads
from samplers.heads import parameterization as parameterizations
from samplers.heads.parameterization import Parameterization
from samplers.heads.variational import bound
from samplers.names import canonical
from samplers.paths import PATHS, Flow, Path, bridge
from samplers.paths.coefficients import Coefficients
from samplers.prediction import Prediction, expand
from samplers.spaces import euclid as spaces
from samplers.spaces.euclid import Space
from samplers.weights import WEIGHTS, LossWeight


class Objectives(Protocol):
    def sample_pairs(self, batch: Batch, noise: NoiseSource, ctx: RunContext | None = None) -> Coupled: ...
    def loss(
        self,
        net: Backbone,
        batch: Batch,
        noise: NoiseSource,
        ctx: RunContext | None = None,
        *,
        t: Tensor | None = None,
        pairs: Coupled | None = None,
    ) -> Loss: ...


def _entry(registry: Mapping[str, str], spec: str | Mapping[str, Any], kind: str) -> Any:
    """Build from ``"name"`` or ``{"name": ..., options}``."""
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    if "name" not in options:
        raise ValueError(
            f"got a {kind} without a name: {dict(options)}, expected e.g. {{name: {next(iter(registry))}}}"
        )
    return build(registry, options.pop("name"), kind, options)


class Objective:
    """See the module. ``cond_drop`` is the probability that a sample loses its conditions, ``drop_each`` that
    it loses one of its numbers; ``bound_weight`` scales the variational term of a learned variance (1 = sum
    to the squared error as in ADM's MSE mode, T/1000 = its rescaled mode)."""

    def __init__(
        self,
        path: Path,
        parameterization: Parameterization,
        *,
        coupling: Coupling | None = None,
        times: time_samplers.TimeSampler | None = None,
        weight: str | Mapping[str, Any] | LossWeight = "uniform",
        cond_drop: float = 0.0,
        space: Space | None = None,
        bound_weight: float = 1.0,
        drop_each: float = 0.0,
    ):
        check_drop(cond_drop, drop_each)
        self.path, self.parameterization = path, parameterization
        self.coupling, self.times = coupling or couplings.Independent(), times or time_samplers.Uniform()
        self.cond_drop, self.drop_each, self.bound_weight = cond_drop, drop_each, bound_weight
        self.weight: LossWeight = (
            _entry(WEIGHTS, weight, "loss weight") if isinstance(weight, str | Mapping) else weight
        )
        self.space = space or spaces.Euclid()

    def sample_pairs(
        self, batch: Batch, noise: NoiseSource, ctx: RunContext | None = None
    ) -> couplings.Coupled:
        """The batch with its sources, paired. Raises ``ValueError`` when the coupling needs sources and the
        batch brings none."""
        pairs = couplings.pair(self.coupling, self.space, batch.source, batch.data, batch.cond, noise, ctx)
        if isinstance(self.path, Flow) and self.path.sigma > 0:
            pairs = replace(
                pairs, jitter=noise.normal(pairs.data.shape[1:], stream="jitter", dtype=pairs.data.dtype)
            )
        return pairs

    def predict(
        self, net: Backbone, pairs: couplings.Coupled, t: Tensor, ctx: RunContext | None = None
    ) -> Prediction:
        """The network's prediction on the path between the pairs at times t (B,)."""
        x = self.space.interpolate(pairs.source, pairs.data, self._ends(t))
        if pairs.jitter is not None:
            assert isinstance(self.path, Flow)
            x = x + self.path.sigma * pairs.jitter
        x = with_known(x, pairs.data, pairs.cond)
        return self.parameterization.predict(net, x, t, pairs.cond, self.path, ctx)

    def loss(
        self,
        net: Backbone,
        batch: Batch,
        noise: NoiseSource,
        ctx: RunContext | None = None,
        *,
        t: Tensor | None = None,
        pairs: couplings.Coupled | None = None,
    ) -> Loss:
        """Per-sample loss of one batch; all randomness comes from ``noise`` (streams prior, time, drop and
        the coupling's). ``t`` (B,) and ``pairs`` (of `sample_pairs`) override the draws. ``ctx.states`` keeps
        what a coupling remembers from batch to batch. ``logs``: error, bound, those of the coupling, and on
        flows path_energy, the mean squared norm of the velocity that is learned."""
        pairs = self.sample_pairs(batch, noise, ctx) if pairs is None else pairs
        drawn, state = t is None, couplings.memory(ctx, "times")
        remembers = getattr(self.times, "remembers", False)
        if t is None:
            t = self.times(noise, self.path, **({"state": state} if remembers else {}))
        pairs = replace(pairs, cond=pairs.cond.drop(self.cond_drop, noise, each=self.drop_each))
        prediction = self.predict(net, pairs, t, ctx)
        error = mean_unknown(self._error(prediction, pairs, t).square(), pairs.cond.known)
        weighted = error * self._weight(t).to(error)
        logs = {"error": error.detach().mean(), **pairs.logs}
        if self.path.native == "velocity":
            logs["path_energy"] = self._energy(pairs, t)
        if self.parameterization.variance is not None:
            variational = bound(prediction.with_(prediction.space, prediction.value.detach()), pairs.data)
            weighted = weighted + self.bound_weight * variational
            logs["bound"] = variational.detach().mean()
        if pairs.weight is not None:
            weighted = weighted * expand(pairs.weight, weighted)
        if remembers and drawn:
            weighted = self.times.balance(self.path, t, weighted, state)  # type: ignore[attr-defined]
        return Loss(weighted, logs, t)

    def _ends(self, t: Tensor) -> Coefficients:
        """Factors of data and source: the path's, but for noise that it adds between them."""
        return self.path.ends(t) if isinstance(self.path, Flow) else self.path.coefficients(t)

    def _velocity(self, pairs: couplings.Coupled, t: Tensor) -> Tensor:
        c = self._ends(t)
        return expand(c.d_alpha, pairs.data) * pairs.data + expand(c.d_sigma, pairs.data) * pairs.source

    def _error(self, prediction: Prediction, pairs: couplings.Coupled, t: Tensor) -> Tensor:
        """(B, ...) in the network's own space. Where the path adds noise, its noise is that and the source
        together, its velocity the pair's."""
        if pairs.jitter is None or not isinstance(self.path, Flow):
            return self.parameterization.error(prediction, pairs.data, pairs.source)
        if getattr(self.parameterization, "space", None) == "velocity":
            return prediction.value - self._velocity(pairs, t)
        ends, total = self._ends(t), self.path.coefficients(t).sigma
        noise = (
            expand(ends.sigma / total, pairs.data) * pairs.source
            + expand(self.path.sigma / total, pairs.data) * pairs.jitter
        )
        return self.parameterization.error(prediction, pairs.data, noise)

    def _weight(self, t: Tensor) -> Tensor:
        """(B,) factors of the squared error in the network's own space."""
        c = self.path.coefficients(t)
        return (
            self.weight(c)
            if self.weight.own
            else self.weight(c) / self.parameterization.factor(c).clamp_min(1e-30)
        )

    @torch.no_grad()
    def _energy(self, pairs: couplings.Coupled, t: Tensor) -> Tensor:
        """E|x'|² over the pairs, weighted as the loss weighs them."""
        energy = self._velocity(pairs, t).flatten(1).float().square().sum(1)
        return (
            energy.mean()
            if pairs.weight is None
            else (energy * pairs.weight.to(energy)).sum() / pairs.weight.to(energy).sum()
        )


def build_objective(
    path: str | dict[str, Any] = "linear",
    parameterization: str | dict[str, Any] = "velocity",
    coupling: str | dict[str, Any] = "independent",
    times: str | dict[str, Any] = "uniform",
    weight: str | dict[str, Any] = "",
    cond_drop: float = 0.0,
    bound_weight: float = 1.0,
    space: str = "euclid",
    drop_each: float = 0.0,
) -> Any:
    """An objective from names or ``{name: ..., options}`` trees, as configs write them: an `Objective`, a
    `BridgeObjective` on a bridge's path, a `GraphObjective` on a graph's."""
    path, parameterization, coupling = (
        canonical(kind, spec)
        for kind, spec in (("path", path), ("parameterization", parameterization), ("coupling", coupling))
    )
    name = path if isinstance(path, str) else path.get("name")
    drawn = _entry(time_samplers.REGISTRY, times, "time sampler")
    if name in bridge.PATHS:
        if bound_weight != 1.0 or space != "euclid":
            raise ValueError(
                f"got bound_weight={bound_weight}, space={space!r} on the bridge {name}, which has "
                "neither; leave them out"
            )
        between = _entry(bridge.PATHS, path, "path")
        return bridge_objective.BridgeObjective(
            between,
            bridge_heads.build_head(parameterization),
            coupling=_entry(
                couplings.REGISTRY, bridge_objective.default_coupling(between, coupling), "coupling"
            ),
            times=drawn,
            weight=str(weight or "inverse_variance"),
            cond_drop=cond_drop,
            drop_each=drop_each,
        )
    if name in graph.PATHS:
        others = {
            "coupling": (coupling, "independent"),
            "weight": (weight, ""),
            "bound_weight": (bound_weight, 1.0),
            "space": (space, "euclid"),
        }
        for key, (value, plain) in others.items():
            if value != plain:
                raise ValueError(
                    f"got {key}={value!r} on the path {name}, which has no such choice; leave it out"
                )
        head = "logits" if parameterization == "velocity" else parameterization  # the signature's default
        return graph.GraphObjective(
            _entry(graph.PATHS, path, "path"),
            _entry(graph.HEADS, head, "parameterization"),
            times=drawn,
            cond_drop=cond_drop,
            drop_each=drop_each,
        )
    return Objective(
        _entry({**PATHS, **bridge.PATHS, **graph.PATHS}, path, "path"),
        _entry(parameterizations.REGISTRY, parameterization, "parameterization"),
        coupling=_entry(couplings.REGISTRY, coupling, "coupling"),
        times=drawn,
        weight=weight or "uniform",
        cond_drop=cond_drop,
        drop_each=drop_each,
        bound_weight=bound_weight,
        space=_entry(spaces.REGISTRY, space, "space"),
    )


def objective_options(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A config's ``objective`` section, checked."""
    return check_options(build_objective, tree, "objective")
