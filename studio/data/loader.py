"""Batches as a pure function of (seed, step): an endless row of epochs, each in an order of its own, cut into
effective batches.

What a process gets is its slice of the effective batch, so neither the number of processes nor of workers
changes which samples a step sees.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import tee
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from backbones.types import Cond
from studio.data.arrays import Arrays, Data
from studio.data.own_items import Own
from studio.data.simulated import Simulated, endless

UNPAIRED = 0x5EED  # the order of sources that go with nothing in particular


class Batches:
    """``batches.at(step)`` or, prefetched, ``batches.along(steps)`` give (values (B, ...), Cond).
    ``local``: this process's places in the batch."""

    def __init__(
        self, dataset: Any, batch_size: int, *, seed: int, rank: int = 0, world: int = 1, workers: int = 0
    ):
        if batch_size % world:
            raise ValueError(
                f"got batch_size {batch_size} on {world} processes, expected a multiple; change "
                "train.batch_size"
            )
        self.dataset, self.batch_size, self.seed, self.workers = dataset, batch_size, seed, workers
        self.local = np.arange(rank * batch_size // world, (rank + 1) * batch_size // world)
        self._epoch, self._order = -1, np.zeros(0, dtype=np.int64)

    def indices(self, step: int) -> list[int]:
        """Data set indices of this process's part of a step."""
        return [index for _, index in self.places(step)]

    def places(self, step: int) -> list[tuple[int, int]]:
        """The same with the epoch that each is drawn in; what has no end comes in its order."""
        n, out = len(self.dataset), []
        if endless(self.dataset):
            return [(0, int(position)) for position in step * self.batch_size + self.local]
        for position in step * self.batch_size + self.local:
            epoch, place = divmod(int(position), n)
            if epoch != self._epoch:
                self._epoch, self._order = (
                    epoch,
                    np.random.Generator(np.random.Philox(key=[self.seed, epoch])).permutation(n),
                )
            out.append((epoch, int(self._order[place])))
        return out

    def at(self, step: int) -> tuple[Tensor, Cond]:
        return fetch(self.dataset, self.places(step), self.seed)

    def along(self, steps: Iterable[int]) -> Iterator[tuple[Tensor, Cond]]:
        """Some steps in order, read ahead by ``workers`` processes where there are any."""
        if not self.workers:
            yield from map(self.at, steps)
            return
        loader = torch.utils.data.DataLoader(
            _Whole(self.dataset, self.seed),
            batch_sampler=_InOrder(map(self.places, steps)),
            num_workers=self.workers,
            collate_fn=_first,
            persistent_workers=True,
            multiprocessing_context="fork",
            generator=torch.Generator(),
        )
        yield from loader


class _Whole(torch.utils.data.Dataset):
    """Fetches a whole batch by its list of places."""

    def __init__(self, dataset: Any, seed: int):
        self.dataset, self.seed = dataset, seed

    def __getitems__(self, places: list[tuple[int, int]]) -> list[tuple[Tensor, Cond]]:
        return [fetch(self.dataset, places, self.seed)]


class _InOrder:
    def __init__(self, order: Iterator[list[tuple[int, int]]]):
        self.order = order

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.order


def _first(items: list[Any]) -> Any:
    return items[0]


def fetch(dataset: Any, places: Sequence[tuple[int, int]], seed: int = 0) -> tuple[Tensor, Cond]:
    """(B, ...) values and their conditions, at places of (epoch, index)."""
    indices = [index for _, index in places]
    if isinstance(dataset, Arrays | Simulated):
        return dataset.__getitems__(indices)
    own = dataset if isinstance(dataset, Own) else Own(dataset)
    return own.fetch(indices, [epoch for epoch, _ in places], seed)


class Draw(NamedTuple):
    """A batch: values (B, ...), their conditions, and sources (B, ...) of data that has them. ``encoded``: as
    the network sees them, not as files hold them."""

    values: Tensor
    cond: Cond
    source: Tensor | None = None
    encoded: bool = False


class Draws:
    """Batches of data with sources beside them: paired ones share the order, others have their own. ``swap``
    exchanges the ends."""

    def __init__(
        self,
        data: Data,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        swap: bool = False,
    ):
        options: dict[str, Any] = dict(rank=rank, world=world, workers=workers)
        self.values, self.swap = Batches(data.train, batch_size, seed=seed, **options), swap
        self.sources = (
            None
            if data.source is None
            else Batches(data.source, batch_size, seed=seed if data.paired else seed ^ UNPAIRED, **options)
        )

    def at(self, step: int) -> Draw:
        return self._beside(self.values.at(step), None if self.sources is None else self.sources.at(step))

    def along(self, steps: Iterable[int]) -> Iterator[Draw]:
        """Some steps in order, read ahead by ``workers`` processes where there are any."""
        if self.sources is None:
            yield from (self._beside(value, None) for value in self.values.along(steps))
            return
        one, other = tee(steps)
        for value, source in zip(self.values.along(one), self.sources.along(other)):
            yield self._beside(value, source)

    def _beside(self, value: tuple[Tensor, Cond], source: tuple[Tensor, Cond] | None) -> Draw:
        if source is None:
            return Draw(*value)
        return Draw(source[0], source[1], value[0]) if self.swap else Draw(*value, source[0])


def head_source(data: Data, count: int, *, held_out: bool = True) -> Tensor | None:
    """The first ``count`` sources of a part, repeated where there are fewer; None for data that starts from
    noise."""
    part = data.sources(held_out and data.held_out is not None)
    return None if part is None else fetch(part, [(0, i % len(part)) for i in range(count)])[0]


def held_out(data: Data, count: int) -> Draw | None:
    """At most ``count`` of the samples that are kept from training, always the same, with the sources of
    paired data; None where none are kept."""
    if data.held_out is None:
        return None
    places = [(0, i) for i in spread(data.held_out, count)]
    sources = data.sources(held_out=True)
    source = None if sources is None else fetch(sources, [(0, i % len(sources)) for _, i in places])[0]
    return Draw(*fetch(data.held_out, places), source)


def spread(part: Any, count: int) -> list[int]:
    """Indices of a fixed choice, in order: each class in its share, and at least once where there is room.
    Labels that do not lie open are not looked at, and of what has no end the first are taken."""
    n, labels = min(len(part), count) if endless(part) else len(part), getattr(part, "labels", None)
    if n <= count:
        return list(range(n))
    order = np.random.Generator(np.random.Philox(key=0)).permutation(n)
    rows = np.zeros(n, dtype=np.int64) if labels is None else np.asarray(labels)[order]
    share = np.zeros(n)
    for label in np.unique(rows):
        mine = np.flatnonzero(rows == label)
        share[mine] = (np.arange(len(mine)) + 0.5) / len(mine)
        share[mine[0]] = -1
    return sorted(order[np.argsort(share, kind="stable")[:count]].tolist())
