"""What it costs to pair a source with a data point: distances of what a flow moves, and of conditions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from backbones.types import Cond
from samplers.couplings import transport
from samplers.spaces import Space

COSTS = ("l2", "l2sq")


def check(source: Tensor, data: Tensor) -> None:
    """Raises ``ValueError`` for ends that cannot be paired."""
    if source.shape != data.shape:
        raise ValueError(
            f"got sources of shape {tuple(source.shape)} for data of shape {tuple(data.shape)}, expected "
            "as many of the same shape"
        )


def check_cost(cost: str) -> None:
    if cost not in COSTS:
        raise ValueError(f"got cost {cost!r}, expected l2 (distance) or l2sq (its square)")


@dataclass(frozen=True)
class Lengths:
    """How far it is from sources to data, as a ``cost``: over the entries that are ``free`` (B, ...) to move,
    None for all, and by the ways of a ``space``, None for numbers."""

    cost: str
    free: Tensor | None = None
    space: Space | None = None

    @property
    def straight(self) -> bool:
        """Whether the way between two is the difference of their numbers."""
        return self.space is None or self.space.straight

    def of(self, rows: Tensor | slice) -> "Lengths":
        """To some of the data."""
        return self if self.free is None else replace(self, free=self.free[rows])

    def pairs(self, source: Tensor, data: Tensor) -> Tensor:
        """(B,) of the pairs as they stand."""
        way = torch.sub if self.space is None or self.straight else self.space.difference
        return self._cost(transport.pair_squares(source, data, self.free, way=way))

    def grid(self, source: Tensor, data: Tensor) -> Tensor:
        """(B, M) of every source to each of the data."""
        if self.space is None or self.straight:
            return self._cost(transport.squared_distances(source, data, self.free))
        return self._cost(transport.squared_ways(source, data, self.space.difference, self.free))

    def _cost(self, squares: Tensor) -> Tensor:
        return squares if self.cost == "l2sq" else squares.sqrt()


def free_entries(data: Tensor, cond: Cond) -> Tensor | None:
    """(B, ...) bool of the entries that a flow moves, None for all: not those that are known, not padding."""
    free = None if cond.known is None else ~cond.known.expand_as(data)
    if cond.valid is not None and data.shape[: cond.valid.ndim] == cond.valid.shape:
        valid = (
            cond.valid.bool().reshape(*cond.valid.shape, *[1] * (data.ndim - cond.valid.ndim)).expand_as(data)
        )
        free = valid if free is None else free & valid
    return free


def groups_of(cond: Cond) -> Tensor | None:
    """(B,) int64: the class of each sample, counting every combination of labels as one; None without
    labels."""
    if cond.label is None:
        return None
    columns = list(cond.label.values()) if isinstance(cond.label, Mapping) else [cond.label]
    return torch.stack([c.flatten() for c in columns], 1).unique(dim=0, return_inverse=True)[1]


def condition_distance(cond: Cond) -> Tensor | None:
    """(B, B): 1 where labels differ, plus the squared difference of numbers in units of twice their variance
    (1 on average); a number that one of two samples lacks counts 1. None without labels and numbers."""
    total, groups = None, groups_of(cond)
    if groups is not None:
        total = (groups[:, None] != groups).double()
    if cond.numeric is not None:
        columns = list(cond.numeric.values()) if isinstance(cond.numeric, Mapping) else [cond.numeric]
        values = torch.cat([c.reshape(len(c), -1).double() for c in columns], 1)  # (B, K)
        missing = values.isnan()
        filled = values.nan_to_num(0.0)
        variance = torch.where(
            missing, 0, (filled - filled.sum(0) / (~missing).sum(0).clamp_min(1)) ** 2
        ).sum(0) / (~missing).sum(0).clamp_min(1)
        apart = (filled[:, None] - filled) ** 2 / (2 * variance.clamp_min(1e-12))  # (B, B, K)
        one, both = missing[:, None] ^ missing, missing[:, None] & missing
        apart = torch.where(both, 0.0, torch.where(one, 1.0, apart)).mean(-1)
        total = apart if total is None else total + apart
    return total
