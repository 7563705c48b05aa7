"""What a space can do: geometry only, no schedule and no network.

start        draws of where samples begin, and the conditions that go with them
project      the nearest point of the space; doing it twice is doing it once
difference   the way to a from b, as a tangent vector at b
step         where that way leads: step(b, difference(a, b)) is a
told         the conditions, with what the data say of themselves
known        the entries that are known with some places
reduce       errors of entries to one of each sample
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from backbones.types import Cond, Noise

GEOMETRIES = ("flat", "curved", "discrete")


class Space(Protocol):
    """``name`` as in the registry. ``geometry``: flat, where differences made at one place can be taken at
    another (numbers, angles), curved, where they cannot (spheres), or discrete, where there are none.
    ``straight``: whether ``difference`` is that of the numbers, so that couplings need not ask it."""

    name: str
    geometry: str
    straight: bool

    def start(
        self,
        noise: Noise,
        shape: Sequence[int],
        cond: Cond = Cond(),
        *,
        scale: float = 1.0,
        stream: str = "prior",
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Cond]:
        """(B, *shape) draws of the prior."""
        ...

    def project(self, x: Tensor, cond: Cond) -> Tensor: ...
    def difference(self, a: Tensor, b: Tensor) -> Tensor: ...
    def step(self, x: Tensor, d: Tensor) -> Tensor: ...
    def told(self, data: Tensor, cond: Cond) -> Cond: ...
    def known(self, places: Tensor, data: Tensor) -> Tensor:
        """A mask (B, ...) of the data's entries, from one of its places as `samplers.known` draws it."""
        ...

    def reduce(self, error: Tensor, cond: Cond) -> Tensor:
        """(B,) mean of (B, ...) over the entries that are neither padding nor known."""
        ...
