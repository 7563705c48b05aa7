"""One training objective for every path: path + head + coupling + time sampling + loss weight.

DDPM, EDM, flow matching, bridges and graphs are configs of this class. The path makes the state between a
pair and says what can be learned there, the head (parameterisation) makes a prediction and measures its
errors, the weight weighs them. Known entries are put in place before the network sees x and are left out of
the loss.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any, Protocol

from torch import Tensor

from backbones.registry import check_options, coerce, entry, resolve
from backbones.types import Backbone, NoiseSource, RunContext
from samplers import spaces
from samplers import times as time_samplers
from samplers.batch import Batch, Error, Loss, State, check_drop, with_known
from samplers.couplings import coupling as couplings
from samplers.couplings.coupling import Coupled, Coupling
from samplers.heads.gradient import told
from samplers.known import Known
from samplers.names import canonical
from samplers.paths import EVERY
from samplers.prediction import Prediction
from samplers.spaces import Space
from samplers.weights import LossWeight


class Head(Protocol):
    """What a network emits. ``channels``: how many it emits for each of the sample's; ``cond_source``:
    whether it reads the source beside x. ``grad``, where it has one: see `samplers.heads.gradient`."""

    channels: int
    cond_source: bool

    def predict(
        self, net: Backbone, x: Tensor, t: Any, cond: Any, path: Any, ctx: RunContext | None = None
    ) -> Any: ...
    def errors(self, p: Any, state: State, space: Any) -> list[Error]: ...


class TrainingPath(Protocol):
    """What `Objective` asks of a path, beside what samplers ask. ``heads``, ``weights`` and ``space``: its
    own, by name; ``head`` and ``weight`` the ones that it takes unless told otherwise; ``fixed``: options
    that it does not have."""

    space: Any
    heads: Mapping[str, str]
    head: str
    weights: Mapping[str, str]
    weight: str
    fixed: tuple[str, ...]

    def on(self, space: Space) -> Any: ...
    def trained_time(self, t: Tensor) -> Tensor: ...
    def coupling(self, spec: str | Mapping[str, Any]) -> str | Mapping[str, Any] | None: ...
    def state(self, space: Any, pairs: Coupled, t: Tensor, noise: Any) -> State: ...
    def energy(self, pairs: Coupled, t: Tensor) -> Tensor | None: ...


class Objective:
    """See the module. ``cond_drop`` is the probability that a sample loses its conditions, ``drop_each`` that
    it loses one of its numbers; ``bound_weight`` scales the variational term of a learned variance (1 = sum
    to the squared error as in ADM's MSE mode, T/1000 = its rescaled mode). ``known`` draws which entries the
    network is given, where the data does not say (`samplers.known`). A path without sources has no coupling.
    ``space``: the path's own with other options, as a name, a tree or an object."""

    def __init__(
        self,
        path: Any,
        parameterization: Any,
        *,
        coupling: Coupling | None = None,
        times: time_samplers.TimeSampler | None = None,
        weight: str | Mapping[str, Any] | LossWeight = "",
        cond_drop: float = 0.0,
        space: str | Mapping[str, Any] | Space | None = None,
        bound_weight: float = 1.0,
        drop_each: float = 0.0,
        known: Known | None = None,
    ):
        check_drop(cond_drop, drop_each)
        self.path, self.parameterization, self.bound_weight = path, parameterization, bound_weight
        self.coupling = coupling or (couplings.Independent() if path.coupling("independent") else None)
        self.times: Any = times or time_samplers.Uniform()  # one that ``remembers`` is asked for more
        self.cond_drop, self.drop_each, self.known = cond_drop, drop_each, known
        self.space: Space = spaces.of(path.space if space is None else space)
        self.weight: LossWeight = (
            entry(path.weights, weight or path.weight, "loss weight")
            if isinstance(weight, str | Mapping)
            else weight
        )
        if self.space.name != (theirs := spaces.name_of(path.space)):
            raise ValueError(
                f"got the space {self.space.name} on the path {type(path).__name__}, whose law is on "
                f"{theirs}; leave it out, or choose a path of that space"
            )
        if space is not None:
            self.path = path.on(self.space)
        needs = getattr(self.weight, "needs", "")
        if needs and needs not in getattr(parameterization, "emits", ()):
            raise ValueError(
                f"got weight {weight!r}, which weighs a flow and a score, expected inverse_variance or "
                "uniform; or predict flow_score"
            )

    def sample_pairs(self, batch: Batch, noise: NoiseSource, ctx: RunContext | None = None) -> Coupled:
        """The batch with its sources, paired; the data alone on a path without sources. Raises ``ValueError``
        when the coupling needs sources and the batch brings none."""
        cond = self.space.told(batch.data, batch.cond)
        if self.known is not None and cond.known is None:
            places = self.known(batch.data.shape[1:], noise, cond.valid)
            cond = replace(cond, known=self.space.known(places, batch.data))
        if self.coupling is None:
            return Coupled(batch.data, batch.data, cond)
        return couplings.pair(self.coupling, self.space, batch.source, batch.data, cond, noise, ctx)

    def state(self, pairs: Coupled, t: Tensor, noise: Any) -> State:
        """The state between the pairs at times (B,), as the network sees it: known entries are clean."""
        state = self.path.state(self.space, pairs, t, noise)
        state = replace(state, x=with_known(state.x, pairs.data, pairs.cond))
        if self.fills:
            state = replace(state, cond=replace(state.cond, **{self.fills: pairs.source}))
        return state

    @property
    def fills(self) -> str:
        """The condition as which the network is given its source; empty where it is given none."""
        return "image" if getattr(self.parameterization, "cond_source", False) else ""

    def predict(self, net: Backbone, state: State, ctx: RunContext | None = None) -> Prediction:
        """The network's prediction there."""
        head = self.parameterization
        return head.predict(net, state.x, state.t, state.cond, self.path, told(head, ctx))

    def loss(
        self,
        net: Backbone,
        batch: Batch,
        noise: NoiseSource,
        ctx: RunContext | None = None,
        *,
        t: Tensor | None = None,
        pairs: Coupled | None = None,
        drop: bool = True,
    ) -> Loss:
        """Per-sample loss of one batch; all randomness comes from ``noise`` (streams prior, time, drop, the
        path's and the coupling's). ``t`` (B,) and ``pairs`` (of `sample_pairs`) override the draws; without
        ``drop`` no condition is lost. ``ctx.states`` keeps what a coupling remembers from batch to batch.
        ``logs``: the errors by name, those of the coupling, and path_energy, the mean squared norm of the
        velocity that is learned."""
        pairs = self.sample_pairs(batch, noise, ctx) if pairs is None else pairs
        drawn, memory = t is None, couplings.memory(ctx, "times")
        remembers = getattr(self.times, "remembers", False)
        if t is None:
            t = self.times(noise, self.path, **({"state": memory} if remembers else {}))
        t = self.path.trained_time(t)
        if drop:
            pairs = replace(pairs, cond=pairs.cond.drop(self.cond_drop, noise, each=self.drop_each))
        state = self.state(pairs, t, noise)
        errors = self.parameterization.errors(self.predict(net, state, ctx), state, self.space)
        weighted = reduce(add, (self._weighted(error, t) for error in errors))
        logs = {**{error.name: error.value.detach().mean() for error in errors}, **pairs.logs}
        energy = self.path.energy(pairs, t)
        if energy is not None:
            logs["path_energy"] = _mean(energy, pairs.weight)
        if pairs.weight is not None:
            weighted = weighted * pairs.weight.to(weighted)
        if remembers and drawn:
            weighted = self.times.balance(self.path, t, weighted, memory)
        return Loss(weighted, logs, t)

    def _weighted(self, error: Error, t: Tensor) -> Tensor:
        return self.bound_weight * error.value if error.scale is None else self.weight(error, self.path, t)


def _mean(value: Tensor, weight: Tensor | None) -> Tensor:
    return value.mean() if weight is None else (value * weight.to(value)).sum() / weight.to(value).sum()


def build_objective(
    path: str | dict[str, Any] | TrainingPath = "linear",
    parameterization: str | dict[str, Any] | Head = "velocity",
    coupling: str | dict[str, Any] | Coupling = "independent",
    times: str | dict[str, Any] | time_samplers.TimeSampler = "uniform",
    weight: str | dict[str, Any] | LossWeight = "",
    cond_drop: float = 0.0,
    bound_weight: float = 1.0,
    space: str | dict[str, Any] | Space = "",
    drop_each: float = 0.0,
    known: Known | None = None,
) -> Objective:
    """An objective from names or ``{name: ..., options}`` trees, as configs write them, or from the parts
    themselves. A path takes its own head where the config is silent and it has no ``velocity``. Raises
    ``ValueError`` for what a path does not have."""
    path, parameterization, coupling = (
        canonical(kind, spec)
        for kind, spec in (("path", path), ("parameterization", parameterization), ("coupling", coupling))
    )
    name = path if isinstance(path, str) else path.get("name") if isinstance(path, Mapping) else ""
    kind: Any = resolve(EVERY, str(name), "path") if name in EVERY else path
    given = {
        "coupling": (coupling, "independent"),
        "weight": (weight, ""),
        "bound_weight": (bound_weight, 1.0),
        "space": (space, ""),
    }
    for key in getattr(kind, "fixed", ()):  # before it is built, which may need more than is known yet
        value, plain = given[key]
        if value not in (plain, spaces.name_of(kind.space) if key == "space" else plain):
            raise ValueError(
                f"got {key}={value!r} on the path {name or type(path).__name__}, which has no such "
                "choice; leave it out"
            )
    way = entry(EVERY, path, "path")
    if parameterization == "velocity" and "velocity" not in way.heads:  # the signature's default
        parameterization = way.head
    pairing = way.coupling(coupling) if isinstance(coupling, str | Mapping) else coupling
    return Objective(
        way,
        entry(way.heads, parameterization, "parameterization"),
        coupling=None if pairing is None else entry(couplings.REGISTRY, pairing, "coupling"),
        times=entry(time_samplers.REGISTRY, times, "time sampler"),
        weight=weight,
        cond_drop=cond_drop,
        drop_each=drop_each,
        known=known,
        bound_weight=bound_weight,
        space=space or None,
    )


def objective_options(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A config's ``objective`` section, checked; its parts are names."""
    for key in ("path", "parameterization", "coupling", "times", "weight", "space"):
        if key in tree:
            coerce(tree[key], str | dict[str, Any], f"objective option {key!r}")
    return check_options(build_objective, tree, "objective")
