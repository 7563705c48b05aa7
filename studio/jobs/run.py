"""One run on its way: the steps of its sampling, what is finished of it so far, and a picture of the rest."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import sampling
from studio.jobs.parts import Parts
from studio.model.model import Model
from studio.runtime import signals
from studio.runtime.strict_json import to_json
from studio.sampling.samples import Samples, sheet_recipe

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
    """The samples of a request, as they are made. Every finished micro-batch is kept in ``folder`` at once,
    and taken up from there. After `updates` has ended, however it did, `samples` are those that were
    finished.

    A run that is taken up computes whole micro-batches of the same seeds as before, so its samples are the
    same to the last bit. ``origin``: further entries of the recipes, such as what it starts from. ``first``:
    the model was loaded for it.
    """

    def __init__(
        self,
        model: Model,
        request: sampling.Request,
        folder: Path,
        origin: Mapping[str, str] | None = None,
        first: bool = False,
    ):
        self.model, self.request, self.folder, self.origin = model, request, folder, origin
        self.first = first
        self.parts = Parts(folder, to_json(sheet_recipe(model.recipes(request))))
        kept = self.parts.read()
        self.values: list[Any] = [kept.get(i) for i in range(len(request.seeds))]
        self.evaluations, self.started = 0, time.perf_counter()
        self.before = self.finished  # samples that an earlier process has made

    @property
    def finished(self) -> int:
        """Samples that are there."""
        return sum(value is not None for value in self.values)

    def updates(
        self,
        stop: threading.Event,
        *,
        preview: Callable[[], bool] = lambda: True,
        every: float = PREVIEW_EVERY,
        kept: Callable[[int], Any] = lambda count: None,
    ) -> Iterator[Update]:
        """Sample what is missing; updates at most once in ``every`` seconds, with a picture where ``preview``
        says so. ``kept`` is told how many samples are safe. Raises `studio.runtime.signals.Stopped` after the
        step in which ``stop`` was set."""
        last: sampling.Progress | None = None
        due, before = 0.0, 0
        _halt(stop, last)
        left = [i for i, value in enumerate(self.values) if value is None]
        if not left:
            return
        with closing(self.model.stream(self._of(left))) as steps:
            for progress in steps:
                progress = replace(
                    progress, rows=tuple(None if i is None else left[i] for i in progress.rows)
                )
                if last is not None and progress.rows != last.rows:
                    before = self.evaluations
                last, now = progress, time.perf_counter() - self.started
                self.evaluations = before + progress.step.evaluations
                if progress.finished:
                    sampling.collect(self.values, progress, self.model.codec)
                    rows = [i for i in progress.rows if i is not None]
                    if len(left) > len(rows):  # of a single micro-batch the samples are saved in a moment
                        self.parts.write(rows, [self.values[i] for i in rows])
                    kept(self.finished)
                _halt(stop, last)
                if now < due or progress.done == progress.total:
                    continue
                picture = preview_of(self.model, progress) if preview() else None
                cost = time.perf_counter() - self.started - now
                due = now + (max(every, min(PREVIEW_SHARE * cost, PREVIEW_WAIT)) if every else 0)
                yield Update(progress.done, progress.total, self.evaluations, now, picture)
                _halt(stop, last)

    def samples(self) -> Samples | None:
        """What is finished, in the order of the seeds; None where nothing is."""
        rows = [i for i, value in enumerate(self.values) if value is not None]
        if not rows:
            return None
        return self.model.gathered(
            self._of(rows), [self.values[i] for i in rows], time.perf_counter() - self.started, self.origin
        )

    def _of(self, rows: list[int]) -> sampling.Request:
        """The request of these samples alone."""
        asked = self.request
        labels = None if asked.labels is None else tuple(asked.labels[i] for i in rows)
        return asked.of(rows, tuple(asked.seeds[i] for i in rows), labels)


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
