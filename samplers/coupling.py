"""Who is paired with whom, and with what weight."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from backbones.types import Cond, Noise


@dataclass(frozen=True)
class Coupled:
    """A batch of pairs. ``weight`` (B,) has mean 1 over the batch, or is None for all ones."""

    source: Tensor
    data: Tensor
    cond: Cond
    weight: Tensor | None = None


class Coupling(Protocol):
    def __call__(self, source: Tensor, data: Tensor, cond: Cond, noise: Noise) -> Coupled: ...


class Independent:
    """Every data point with its own draw of the source: the plain diffusion and I-CFM pairing."""

    def __call__(self, source: Tensor, data: Tensor, cond: Cond, noise: Noise) -> Coupled:
        return Coupled(source, data, cond)


REGISTRY = {"independent": "samplers.coupling:Independent"}
