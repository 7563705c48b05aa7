"""How networks are trained: a model is a dict of named networks and a procedure yields phases.

``plain`` has one phase. Recipes with alternating networks, several stages or adversaries yield more; the trainer, checkpoints and resume only
know phases.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from samplers.objective import Objectives
from studio.data import Data


@dataclass(frozen=True)
class Phase:
    """``networks``: names of those trained; ``network``: the one the objective queries; ``steps`` None = to the end of the run."""

    name: str
    networks: tuple[str, ...]
    network: str
    objective: Objectives
    data: Data
    steps: int | None = None


class Procedure(Protocol):
    def __call__(self, networks: dict[str, nn.Module], objective: Objectives, data: Data) -> Iterator[Phase]: ...


def plain(networks: dict[str, nn.Module], objective: Objectives, data: Data) -> Iterator[Phase]:
    """One network, one objective, one data set."""
    yield Phase("main", tuple(networks), next(iter(networks)), objective, data)
