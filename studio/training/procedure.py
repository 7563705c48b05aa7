"""How networks are trained: a model is a dict of named networks, a procedure names them and says in which
phases of updates they learn.

    phase     a share of the run: networks that begin anew, what is prepared, updates in order
    update    an optimiser's step for some of the networks, all others frozen and in eval mode: a loss on
              what a source gives
    source    batches as a function of the step: a data set, a simulator, samples of another network, replay

The trainer, checkpoints and resume know phases only. Own procedures inherit from `Plain` what they leave as
it is; configs name those that are registered (`REGISTRY`), ``studio.train(procedure=OBJECT)`` takes any.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from backbones.types import NoiseSource, RunContext
from samplers.batch import Batch, Loss
from samplers.couplings.coupling import Coupled
from samplers.denoiser import Denoiser
from samplers.objective import Objective
from studio.checkpoints.networks import PROCEDURES, NetworkSpec
from studio.codecs.codec import Codec
from studio.config import Config, TrainConfig
from studio.data import Data
from studio.data.loader import Draw, Draws, held_out

__all__ = ["NetworkSpec", "Dataset", "NetworkLoss", "Phase", "Plain", "Setting", "Source", "Step", "Update"]
REGISTRY = PROCEDURES  # it lies in a room below, where models are loaded


class Step(NamedTuple):
    """Which draw of an update: counted from the beginning of the run, and from that of the phase."""

    run: int
    phase: int


class Source(Protocol):
    """Batches of an update. What ``at`` gives is a function of the step and of what it keeps in
    ``ctx.states``, plain values and tensors that lie in every checkpoint; it changes them last. ``places``
    are this process's in the effective batch."""

    def at(self, step: Step, places: slice, ctx: RunContext) -> Draw: ...


class Dataset:
    """Training samples, with their sources where the data brings some; ``swap`` exchanges the ends. Batches
    are known ahead (``along``), and some samples are kept from training (``held_out``)."""

    def __init__(self, data: Data, batch_size: int, *, seed: int = 0, workers: int = 0, swap: bool = False):
        self.data, self.batch_size, self.seed, self.workers, self.swap = data, batch_size, seed, workers, swap
        self._draws: dict[tuple[int, int], Draws] = {}

    def at(self, step: Step, places: slice, ctx: RunContext) -> Draw:
        return self._of(places).at(step.run)

    def along(self, steps: Iterable[int], places: slice) -> Iterator[Draw]:
        """The batches of steps of the run in order, read ahead by ``workers``."""
        return self._of(places).along(steps)

    def held_out(self, count: int) -> Draw | None:
        """At most so many of the samples kept from training; None where none are."""
        kept = held_out(self.data, count)
        if kept is None or not self.swap or kept.source is None:
            return kept
        return Draw(kept.source, kept.cond, kept.values)

    def _of(self, places: slice) -> Draws:
        share = places.stop - places.start
        rank, world = places.start // share, self.batch_size // share
        if (rank, world) not in self._draws:
            self._draws[rank, world] = Draws(
                self.data,
                self.batch_size,
                seed=self.seed,
                rank=rank,
                world=world,
                workers=self.workers,
                swap=self.swap,
            )
        return self._draws[rank, world]


class NetworkLoss:
    """An objective's loss of one network. It can be looked at along the path, and slow pairs are found a
    step ahead (``slow``)."""

    def __init__(self, objective: Objective, network: str):
        self.objective, self.network = objective, network
        self.slow = bool(getattr(objective.coupling, "slow", False))

    def __call__(
        self,
        nets: Mapping[str, Any],
        batch: Batch,
        noise: NoiseSource,
        ctx: RunContext,
        *,
        pairs: Coupled | None = None,
    ) -> Loss:
        return self.objective.loss(nets[self.network], batch, noise, ctx, pairs=pairs)


@dataclass(frozen=True)
class Update:
    """Networks ``train`` by one step of an optimiser (`Plain.optimisers`), ``repeat`` times in every
    ``every``-th step of the phase. ``loss(nets, batch, noise, ctx)`` gives a `Loss` per sample; ``nets`` are
    all networks by name, of which those that are not trained pass gradients on and keep none."""

    train: tuple[str, ...]
    loss: Callable[..., Loss]
    source: Source
    optimiser: str = "main"
    every: int = 1
    repeat: int = 1


@dataclass(frozen=True)
class Phase:
    """``until``: the share of the run, in steps or minutes alike, at which it ends. ``fresh``: networks that
    begin anew from their first weights, and with them their averages and moments; then
    ``begin(ctx)`` is called, once, when the phase begins (a function of the seed, the phase and the
    networks). ``watch``: the update whose loss is measured on held-out samples, by default the first; it is
    not where its source keeps none."""

    name: str
    updates: tuple[Update, ...]
    until: float = 1.0
    fresh: tuple[str, ...] = ()
    begin: Callable[[RunContext], None] | None = None
    watch: Update | None = None


@dataclass(frozen=True)
class Setting:
    """What a procedure is given: the live networks, a reader of their averages (in eval mode, good until the
    next is read), the objective, the data and its codec, and how to compute."""

    networks: Mapping[str, nn.Module]
    average: Callable[[str], nn.Module]
    objective: Objective
    data: Data
    codec: Codec
    batch_size: int
    seed: int
    device: torch.device
    dtype: torch.dtype
    note: Callable[[str], None]
    workers: int = 0

    def dataset(self, *, swap: bool = False) -> Dataset:
        return Dataset(self.data, self.batch_size, seed=self.seed, workers=self.workers, swap=swap)


class Procedure(Protocol):
    """See `Plain`."""

    def networks(self, config: Config) -> Mapping[str, NetworkSpec]: ...
    def check(self, objective: Objective, data: Data) -> None: ...
    def optimisers(self, config: Config) -> Mapping[str, TrainConfig]: ...
    def phases(self, setting: Setting) -> Iterable[Phase]: ...
    def denoiser(self, nets: Mapping[str, nn.Module], objective: Objective) -> Denoiser: ...


class Plain:
    """One network, one objective, one data set; what other procedures begin from."""

    def networks(self, config: Config) -> Mapping[str, NetworkSpec]:
        """What there is, by name."""
        return {"net": NetworkSpec(config.backbone)}

    def check(self, objective: Objective, data: Data) -> None:
        """Raises ``ValueError`` for an objective or data that cannot be trained, before anything is
        written."""

    def optimisers(self, config: Config) -> Mapping[str, TrainConfig]:
        """Settings by the names that updates use, of which kind, rates, betas, decay, clip, schedule and
        warm-up count."""
        return {"main": config.train}

    def phases(self, setting: Setting) -> Iterable[Phase]:
        """What happens, in order; the last ends at 1."""
        loss = NetworkLoss(setting.objective, "net")
        return [Phase("main", (Update(("net",), loss, setting.dataset()),))]

    def denoiser(self, nets: Mapping[str, nn.Module], objective: Objective) -> Denoiser:
        """How the trained networks are asked."""
        return Denoiser(nets["net"], objective.path, objective.parameterization)


def checked(
    phases: Iterable[Phase], specs: Mapping[str, NetworkSpec], optimisers: Mapping[str, TrainConfig]
) -> Sequence[Phase]:
    """Phases as a list. Raises ``ValueError`` for names that are not there, for a frozen network that is
    trained, and for phases that do not fill the run in order."""
    listed = list(phases)
    known = ", ".join(specs)
    if not listed or listed[-1].until != 1 or any(b <= a for a, b in _neighbours(p.until for p in listed)):
        raise ValueError(
            f"got phases that end at {[p.until for p in listed]}, expected rising shares of the run, the "
            "last of them 1; try until=(k + 1) / count"
        )
    for phase in listed:
        where = f"phase {phase.name}"
        if not phase.updates:
            raise ValueError(f"{where} has no update, expected at least one; try updates=(Update(...),)")
        for name in (*phase.fresh, *(n for update in phase.updates for n in update.train)):
            if name not in specs or specs[name].frozen:
                why = "which is frozen" if name in specs else f"expected one of {known}"
                raise ValueError(f"{where} trains {name!r}, {why}; see the procedure's networks")
        for update in phase.updates:
            if not update.train or update.every < 1 or update.repeat < 1:
                raise ValueError(
                    f"{where} got an update of {update.train} with every={update.every}, "
                    f"repeat={update.repeat}, expected names and at least 1 of both; give it some"
                )
            if update.optimiser not in optimisers:
                raise ValueError(
                    f"{where} got the optimiser {update.optimiser!r}, expected one of "
                    f"{', '.join(optimisers)}; see the procedure's optimisers"
                )
    return listed


def _neighbours(values: Iterable[float]) -> Iterator[tuple[float, float]]:
    last = 0.0
    for value in values:
        yield last, value
        last = value
