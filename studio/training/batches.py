"""What every training step is fed: micro-batches as the network sees them, each with its noise. A function of
(seed, step) throughout."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch

from backbones.types import NoiseSource, RunContext
from samplers.couplings.coupling import Coupled
from samplers.objective import Batch
from studio.codecs.codec import Codec
from studio.config import Config
from studio.data.loader import Draw
from studio.tasks.base import Task
from studio.training.procedure import Step, Update


@dataclass(frozen=True)
class Ready:
    """A micro-batch on the device, its noise, and its pairs where they were found ahead."""

    batch: Batch
    noise: NoiseSource
    pairs: Coupled | None


class Feed:
    """The batches of one process of a run: number ``rank`` of ``world``. ``task``: whose samples they are,
    which has the augmentations."""

    def __init__(
        self,
        config: Config,
        codec: Codec,
        task: Task,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
    ):
        self.config, self.codec, self.device, self.rank, self.world = config, codec, device, rank, world
        self.augments = [task.augment(name) for name in config.train.augmentations]
        share = config.train.batch_size // world
        self.places = slice(rank * share, (rank + 1) * share)  # of this process in the effective batch

    def steps(
        self, update: Update, number: int, start: int, phase_start: int, ctx: RunContext
    ) -> Iterator[list[Ready]]:
        """The micro-batches of every draw of an update, the phase's ``number``-th, from step ``start`` of the
        run on. What cannot be known ahead is drawn when it is asked for; pairs that take long to find (a loss
        with ``slow``) are found one draw ahead in a thread, which changes nothing else."""
        along = getattr(update.source, "along", None)
        if along is None:
            for step in draws_of(update, start, phase_start):
                yield self._ready(update, number, update.source.at(step, self.places, ctx), step, ctx)
            return
        runs = (step.run for step in draws_of(update, start, phase_start))
        ready = zip(draws_of(update, start, phase_start), along(runs, self.places))
        if not getattr(update.loss, "slow", False):
            for step, draw in ready:
                yield self._ready(update, number, draw, step, ctx)
            return
        with ThreadPoolExecutor(1) as pool:
            ahead = None
            for step, draw in ready:
                following = pool.submit(self._ready, update, number, draw, step, ctx, paired=True)
                if ahead is not None:
                    yield ahead.result()
                ahead = following

    def _ready(
        self, update: Update, number: int, draw: Draw, step: Step, ctx: RunContext, *, paired: bool = False
    ) -> list[Ready]:
        cfg, seed = self.config.train, seed_of(self.config.seed, number)
        size, out = len(draw.values) // cfg.accumulate, []
        for k in range(cfg.accumulate):
            rows = slice(k * size, (k + 1) * size)
            place = torch.arange(k * size, (k + 1) * size) + self.places.start
            noise = NoiseSource([seed] * size, index=place, step=step.run, device=self.device)
            ends = []
            for value in (draw.values, draw.source):
                end = None if value is None else value[rows].to(self.device, non_blocking=True)
                if end is None or draw.encoded:
                    ends.append(end)
                    continue
                for augment in self.augments:
                    end = augment.turn(end, noise) if augment.raw else end
                ends.append(self.codec.encode(end))
            for augment in self.augments:
                if not augment.raw:
                    ends = [e if e is None else augment.turn(e, noise) for e in ends]
            assert ends[0] is not None
            batch = Batch(ends[0], draw.cond.index(rows).to(self.device), ends[1])
            loss: Any = update.loss  # a `NetworkLoss` where pairs are found ahead
            found = loss.objective.sample_pairs(batch, noise, ctx) if paired else None
            out.append(Ready(batch, noise, found))
        return out


def draws_of(update: Update, start: int, phase_start: int) -> Iterator[Step]:
    """The draws of an update from a step of the run on."""
    for step in count(start):
        if (step - phase_start) % update.every == 0:
            for k in range(update.repeat):
                yield Step(step * update.repeat + k, (step - phase_start) * update.repeat + k)


def seed_of(seed: int, number: int) -> int:
    """Of a phase's ``number``-th update, so that no two share their noise."""
    return (seed + number * 0x9E3779B97F4A7C15) % 2**63
