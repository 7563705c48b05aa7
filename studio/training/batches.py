"""What every training step is fed: micro-batches as the network sees them, each with its noise. A function of
(seed, step) throughout."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from backbones.types import NoiseSource, RunContext
from samplers.couplings.coupling import Coupled
from samplers.objective import Batch
from studio.codecs.codec import Codec
from studio.config import Config
from studio.data.loader import Draw, draws
from studio.tasks.base import Task
from studio.training.procedure import Phase


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

    def steps(self, phase: Phase, start: int, phase_start: int, ctx: RunContext) -> Iterator[list[Ready]]:
        """The micro-batches of every step from ``start`` on. Pairs that take long to find (a coupling with
        ``slow``) are found one step ahead in a thread, which changes nothing else."""
        cfg = self.config.train
        if phase.pairs is not None:
            step = start
            while True:
                yield self._ready(phase, phase.pairs(step - phase_start), step, ctx)
                step += 1
        batches = draws(
            phase.data,
            cfg.batch_size,
            start,
            seed=self.config.seed,
            rank=self.rank,
            world=self.world,
            workers=cfg.workers,
            swap=phase.swap,
        )
        if not getattr(getattr(phase.objective, "coupling", None), "slow", False):
            for step, draw in enumerate(batches, start):
                yield self._ready(phase, draw, step, ctx)
        with ThreadPoolExecutor(1) as pool:
            ahead = None
            for step, draw in enumerate(batches, start):
                following = pool.submit(self._ready, phase, draw, step, ctx, paired=True)
                if ahead is not None:
                    yield ahead.result()
                ahead = following

    def _ready(
        self, phase: Phase, draw: Draw, step: int, ctx: RunContext, *, paired: bool = False
    ) -> list[Ready]:
        cfg = self.config.train
        size, out = len(draw.values) // cfg.accumulate, []
        for k in range(cfg.accumulate):
            rows = slice(k * size, (k + 1) * size)
            place = torch.arange(k * size, (k + 1) * size) + self.places.start
            noise = NoiseSource([self.config.seed] * size, index=place, step=step, device=self.device)
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
            out.append(
                Ready(batch, noise, phase.objective.sample_pairs(batch, noise, ctx) if paired else None)
            )
        return out
