"""Which entries of a sample are known in training: one mask a sample, by patterns.

A network that learns with such masks sees the known entries clean and is asked for the rest (VDT, Lu et al.
2305.13311, substitutes them in the same way), so that prediction, interpolation and filling in are one
model: at sampling the same entries come with ``Cond.known`` and ``Cond.given``.

A pattern lies on the places of a sample, all axes but the channels: rows and columns of a picture, positions
of a sequence, frames, rows and columns of a clip, atoms of a graph. Its share is drawn for each sample
between ``least`` and ``most``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from backbones.plugins import Registry
from backbones.registry import entry
from backbones.types import NoiseSource

REGISTRY = Registry(
    "known",
    {
        "prefix": "samplers.known:Prefix",
        "suffix": "samplers.known:Suffix",
        "every": "samplers.known:Every",
        "block": "samplers.known:Block",
        "random": "samplers.known:Random",
        "frames": "samplers.known:Frames",
        "nothing": "samplers.known:Nothing",
    },
)


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """(B,) streams and the sizes of the places to a mask (B, *places), True where a place is known."""

    least: float = 0.1
    most: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.most <= 1:
            raise ValueError(
                f"got least={self.least}, most={self.most}, expected shares with 0 <= least <= most <= 1"
            )

    def share(self, noise: NoiseSource, shape: Sequence[int] = ()) -> Tensor:
        """(B, *shape) drawn shares."""
        return self.least + (self.most - self.least) * noise.uniform(shape, stream="known-share")

    def __call__(self, noise: NoiseSource, places: Sequence[int]) -> Tensor:
        raise TypeError(f"{type(self).__name__} draws no mask: subclass Pattern and write __call__")


def along(line: Tensor, places: Sequence[int]) -> Tensor:
    """(B, n) of the first axis as (B, *places)."""
    return line.view(*line.shape, *[1] * (len(places) - 1)).expand(len(line), *places)


class Prefix(Pattern):
    """The first places along the first axis; at least one is left."""

    def __call__(self, noise: NoiseSource, places: Sequence[int]) -> Tensor:
        n = places[0]
        count = (self.share(noise) * n).floor().clamp_max(n - 1)
        return along(torch.arange(n, device=count.device) < count[:, None], places)


class Suffix(Prefix):
    """The last places along the first axis; at least one is left."""

    def __call__(self, noise: NoiseSource, places: Sequence[int]) -> Tensor:
        return super().__call__(noise, places).flip(1)


@dataclass(frozen=True, kw_only=True)
class Every(Pattern):
    """Each ``k``-th place along the first axis, beginning anywhere; the share is 1/k."""

    k: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 2:
            raise ValueError(f"got k={self.k}, expected 2 or more: with 1 nothing is left to learn")

    def __call__(self, noise: NoiseSource, places: Sequence[int]) -> Tensor:
        first = noise.integers(self.k, stream="known-place")
        place = torch.arange(places[0], device=first.device)
        return along(place % self.k == first[:, None], places)


class Block(Pattern):
    """All but a block, whose sides are a share of the axes' each."""

    def __call__(self, noise: NoiseSource, places: Sequence[int]) -> Tensor:
        sizes = torch.tensor(places, device=noise.device)
        sides = (self.share(noise, (len(places),)) * sizes).ceil().clamp_min(1)
        first = (noise.uniform((len(places),), stream="known-place") * (sizes - sides + 1)).floor()
        hole = torch.ones((), dtype=torch.bool, device=noise.device)
        for axis, n in enumerate(places):
            place = torch.arange(n, device=noise.device)
            start, end = first[:, axis, None], (first + sides)[:, axis, None]
            inside = (place >= start) & (place < end)
            hole = hole & inside.view(len(inside), *[1] * axis, n, *[1] * (len(places) - axis - 1))
        return ~hole


class Random(Pattern):
    """Each place by itself."""

    def __call__(self, noise: NoiseSource, places: Sequence[int]) -> Tensor:
        share = self.share(noise).view(-1, *[1] * len(places))
        return noise.uniform(places, stream="known-place") < share


class Frames(Random):
    """All of a place along the first axis, each by itself: frames of a clip, rows of a table."""

    def __call__(self, noise: NoiseSource, places: Sequence[int]) -> Tensor:
        return along(super().__call__(noise, places[:1]), places)


class Nothing(Pattern):
    """No place: beside other patterns, a sample that is made as a whole."""

    def __call__(self, noise: NoiseSource, places: Sequence[int]) -> Tensor:
        return torch.zeros(len(noise), *places, dtype=torch.bool, device=noise.device)


class Known:
    """Masks for batches. ``patterns``: as configs write them, one or several, of which each sample has one;
    ``axes``: the places among the axes of a sample; ``free``: how often nothing of a sample is known, so that
    the network also learns to go without."""

    def __init__(self, patterns: Any, axes: Sequence[int], *, free: float = 0.1):
        several = patterns if isinstance(patterns, list | tuple) else [patterns]
        self.patterns = [entry(REGISTRY, p, "pattern of known entries") for p in several]
        self.axes, self.free = tuple(axes), free
        if not self.patterns:
            raise ValueError(f"got no pattern of known entries, expected one of {', '.join(REGISTRY)}")
        if not self.axes:
            raise ValueError("got known entries for samples without places; leave train.known out")

    def __call__(self, shape: Sequence[int], noise: NoiseSource, valid: Tensor | None = None) -> Tensor:
        """(B, ...) bool for samples of a shape, with one entry for all channels. ``valid`` (B, n): which
        places along the first axis are real; the others are neither counted nor known."""
        places = [shape[a] for a in self.axes]
        mask = self._drawn(places, noise) if valid is None else self._of_the_real(places, noise, valid)
        return mask.reshape(len(noise), *(n if a in self.axes else 1 for a, n in enumerate(shape)))

    def _of_the_real(self, places: Sequence[int], noise: NoiseSource, valid: Tensor) -> Tensor:
        """Samples of as many real places together, as if they had no others."""
        mask = torch.zeros(len(noise), *places, dtype=torch.bool, device=noise.device)
        numbers = valid.sum(1)
        for number in numbers.unique().tolist():
            rows = numbers == number
            drawn = self._drawn([number, *places[1:]], noise.select(rows))
            mask[rows[:, None] & valid] = drawn.flatten(0, 1)
        return mask

    def _drawn(self, places: Sequence[int], noise: NoiseSource) -> Tensor:
        """(B, *places)."""
        which = noise.integers(len(self.patterns), stream="known-pattern")
        which = torch.where(noise.uniform(stream="known-free") < self.free, -1, which)
        mask = torch.zeros(len(noise), *places, dtype=torch.bool, device=noise.device)
        for i, pattern in enumerate(self.patterns):
            chosen = (which == i).view(-1, *[1] * len(places))
            if len(noise) == 1 and not chosen.any():  # as often where every sample has a length of its own
                continue
            mask = torch.where(chosen, pattern(noise, places), mask)
        return mask & ~along(mask.flatten(1).all(1, keepdim=True), places)  # of all known nothing is learned
