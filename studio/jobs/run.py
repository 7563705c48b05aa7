"""One run on its way: the steps of its sampling, what is finished of it so far, and a picture of the rest."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from studio import sampling
from studio.model.model import Model
from studio.runtime import signals
from studio.sampling.samples import Samples

if TYPE_CHECKING:
    from PIL.Image import Image

PREVIEW_EVERY = 0.25  # seconds between updates, at least
# a preview waits this many times its own cost, so that looking stays below a fifth of the work
PREVIEW_SHARE = 5
PREVIEW_WAIT = 2.0  # but never longer than this, in seconds
PREVIEW_ROWS = 40


@dataclass(frozen=True)
class Update:
    """A run on its way: ``done`` of ``total`` steps, network ``evaluations`` and ``seconds`` so far;
    ``preview`` is None between pictures."""

    done: int
    total: int
    evaluations: int
    seconds: float
    preview: "Image | None" = None


class Run:
    """The samples of a request, as they are made. After `updates` has ended, however it did, `samples` are
    those that were finished."""

    def __init__(self, model: Model, request: sampling.Request):
        self.model, self.request = model, request
        self.values: list[Any] = [None] * len(request.seeds)
        self.evaluations, self.started = 0, time.perf_counter()

    def updates(self, stop: threading.Event, *, preview: bool, every: float) -> Iterator[Update]:
        """Sample; updates at most once in ``every`` seconds. Raises `studio.runtime.signals.Stopped` after
        the step in which ``stop`` was set."""
        last: sampling.Progress | None = None
        due, before = 0.0, 0
        _halt(stop, last)
        with closing(self.model.stream(self.request)) as steps:
            for progress in steps:
                if last is not None and progress.rows != last.rows:
                    before = self.evaluations
                last, now = progress, time.perf_counter() - self.started
                self.evaluations = before + progress.step.evaluations
                if progress.finished:
                    sampling.collect(self.values, progress, self.model.codec)
                _halt(stop, last)
                if now < due or progress.done == progress.total:
                    continue
                picture = preview_of(self.model, progress) if preview else None
                cost = time.perf_counter() - self.started - now
                due = now + (max(every, min(PREVIEW_SHARE * cost, PREVIEW_WAIT)) if every else 0)
                yield Update(progress.done, progress.total, self.evaluations, now, picture)
                _halt(stop, last)

    def samples(self) -> Samples | None:
        """What is finished, in the order of the seeds; None where nothing is."""
        rows = [i for i, value in enumerate(self.values) if value is not None]
        if not rows:
            return None
        asked = self.request
        part = replace(
            asked,
            seeds=tuple(asked.seeds[i] for i in rows),
            labels=None if asked.labels is None else tuple(asked.labels[i] for i in rows),
            numeric=None if asked.numeric is None else tuple(asked.numeric[i] for i in rows),
        )
        return self.model.gathered(part, [self.values[i] for i in rows], time.perf_counter() - self.started)


def _halt(stop: threading.Event, last: sampling.Progress | None) -> None:
    if stop.is_set():
        raise signals.Stopped(
            "Stopped before the first step; nothing was saved"
            if last is None
            else f"Stopped after step {last.done} of {last.total}; nothing was saved"
        )


def columns_for(count: int) -> int:
    """Pictures side by side: five up to twenty, then eight."""
    return min(5 if count <= 20 else 8, max(1, count))


def preview_of(model: Model, progress: sampling.Progress) -> "Image":
    """The data as seen from this step, as a contact sheet of the micro-batch."""
    values = model.codec.decode(progress.step.data_hat).cpu()
    real = [k for k, row in enumerate(progress.rows) if row is not None]
    if model.task.together:
        return model.task.sheet(values[real])
    shown = real[:PREVIEW_ROWS]
    return model.task.sheet(values[shown], columns=columns_for(len(shown)))
