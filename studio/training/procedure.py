"""How networks are trained: a model is a dict of named networks and a procedure yields phases.

``plain`` has one phase. Recipes with alternating networks, several stages or adversaries yield more; the
trainer, checkpoints and resume only know phases. A phase ends at a share of the run's length, in steps or
minutes alike.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from backbones.plugins import Registry
from backbones.registry import build
from samplers.objective import Objective
from studio.data import Data
from studio.data.loader import Draw


@dataclass(frozen=True)
class Phase:
    """``networks``: names of those trained; ``network``: the one the objective queries; ``until``: the share
    of the run at which it ends. ``swap`` exchanges the ends of a bridge. ``pairs(step)`` gives the batch of a
    step of this phase, instead of the data, from step 0 on. ``restart``: the weights of networks that begin
    anew with the phase, and with them their averages and moments."""

    name: str
    networks: tuple[str, ...]
    network: str
    objective: Objective
    data: Data
    until: float = 1.0
    swap: bool = False
    pairs: Callable[[int], Draw] | None = None
    restart: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """What a procedure is given: the live networks, a reader of their averages, the objective, the data and
    its codec, and how to compute. ``places`` are this process's in the effective batch."""

    networks: dict[str, nn.Module]
    average: Callable[[str], nn.Module]
    objective: Any
    data: Data
    codec: Any
    batch_size: int
    places: slice
    seed: int
    device: Any
    dtype: Any
    note: Callable[[str], None]


class Procedure(Protocol):
    """``check`` raises ``ValueError`` for an objective or data that it cannot train, before anything is
    written."""

    def check(self, objective: Any, data: Data) -> None: ...
    def __call__(self, setting: Setting) -> Iterator[Phase]: ...


class Plain:
    """One network, one objective, one data set."""

    def check(self, objective: Any, data: Data) -> None:
        pass

    def __call__(self, setting: Setting) -> Iterator[Phase]:
        yield Phase(
            "main", tuple(setting.networks), next(iter(setting.networks)), setting.objective, setting.data
        )


REGISTRY = Registry(
    "procedures", {"plain": "studio.training.procedure:Plain", "dsbm": "studio.training.dsbm:DSBM"}
)


def build_procedure(spec: Mapping[str, Any]) -> Procedure:
    """From a config's ``procedure`` section, plain by default."""
    options = dict(spec)
    return build(REGISTRY, options.pop("name", "plain"), "procedure", options)
