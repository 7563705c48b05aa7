"""The computing side: indices in, decoded samples out, in pieces; a smaller batch where memory runs out;
writing in a thread of its own."""

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from studio.generation.encoding import spread, threads_for
from studio.generation.plan import Plan
from studio.generation.store import Store
from studio.runtime.finite import NotFinite
from studio.runtime.signals import Stopped

PIECE = 256  # samples per request: what is lost when a process is killed


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a smaller batch might fit."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def compute(
    plan: Plan,
    index: Sequence[int],
    *,
    stop: Callable[[], bool] = lambda: False,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield (indices, decoded values on the CPU) until every index was there once, in the order in which
    micro-batches finish.

    Out of memory halves the batch and goes on with what is left; with ``deterministic``, whose batch is
    fixed, the error is raised. Raises `Stopped` when ``stop()`` says so, which is asked after every solver
    step.
    """
    model, size = plan.model, plan.request.batch
    denoiser, rules = model.denoiser.lowered(), model.rules(plan.request.guidance)
    left = list(index)
    while left:
        piece = left[: max(PIECE, size)]
        request = replace(plan.batch(piece), batch=size)
        done: set[int] = set()
        try:
            for progress in model.stream(request, rules, denoiser=denoiser):
                if stop():
                    raise Stopped
                if progress.finished:
                    values = model.codec.decode(progress.step.x).cpu()
                    rows = [(place, i) for place, i in enumerate(progress.rows) if i is not None]
                    yield [piece[i] for _, i in rows], values[[place for place, _ in rows]]
                    done.update(i for _, i in rows)
        except Exception as error:
            if not out_of_memory(error) or plan.request.deterministic or size == 1:
                raise
            size = max(1, size // 2)
            note(f"out of memory: going on with batches of {size}")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        left = [i for place, i in enumerate(piece) if place not in done] + left[len(piece) :]


class Writer:
    """A context that writes samples in a thread (large pictures in several, `encoding`), so that encoding
    never holds the network up. ``put`` blocks when the disk is far behind and raises what went wrong in the
    thread; leaving the context waits until everything is written. ``waited``: seconds that ``put`` was held
    up."""

    def __init__(self, store: Store, plan: Plan, on_written: Callable[[int], Any] = lambda count: None):
        self.store, self.plan, self.on_written = store, plan, on_written
        self.queue: queue.Queue[tuple[list[int], Tensor] | None] = queue.Queue(maxsize=16)
        self.error: BaseException | None = None
        self.waited = 0.0
        self.held: dict[int, Tensor] = {}  # rows of parts that are not complete yet
        self.thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def __enter__(self) -> "Writer":
        self.thread.start()
        return self

    def put(self, index: list[int], values: Tensor) -> None:
        start = time.perf_counter()
        while self.error is None:
            try:
                self.queue.put((index, values), timeout=0.2)
                break
            except queue.Full:
                continue
        self.waited += time.perf_counter() - start
        self._raise()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        while self.thread.is_alive() and self.error is None:
            try:
                self.queue.put(None, timeout=0.2)
                break
            except queue.Full:
                continue
        self.thread.join()
        if kind is None:
            self._raise()

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            while (item := self.queue.get()) is not None:
                self._write(*item)
            self._write_rest()
        except BaseException as error:  # shown by the next put
            self.error = error

    def _write(self, index: list[int], values: Tensor) -> None:
        if self.store.unit == 1:
            jobs = (
                (i, value[None], [recipe])
                for i, value, recipe in zip(index, values, self.plan.model.recipes(self.plan.batch(index)))
            )
            for _ in spread(
                lambda job: self.store.write(*job), jobs, threads_for(values, self.plan.model.device)
            ):
                self.on_written(1)
            return
        step = self.store.step
        self.held.update(zip(index, values))
        for first in sorted({i // step * step for i in index}):
            members = range(first, min(first + step, self.plan.num))
            if all(i in self.held for i in members):
                self._keep(members)

    def _write_rest(self) -> None:
        """Of a run that was stopped: rows whose part will not be complete any more."""
        place = itertools.count()
        for _, group in itertools.groupby(sorted(self.held), key=lambda i: i - next(place)):
            run = list(group)
            for a in [run[0], *(i for i in run[1:] if i % self.store.unit == 0)]:
                self._keep(
                    range(a, min(run[-1] + 1, a // self.store.unit * self.store.unit + self.store.unit))
                )

    def _keep(self, members: range) -> None:
        recipes = self.plan.model.recipes(self.plan.batch(members)) if self.store.told else ()
        self.store.write(members[0], torch.stack([self.held.pop(i) for i in members]), recipes)
        self.on_written(len(members))


def work(
    plan: Plan,
    store: Store,
    units: Sequence[int],
    *,
    stop: Callable[[], bool],
    on_written: Callable[[int], Any],
    note: Callable[[str], None] = lambda text: None,
) -> bool:
    """Compute and write these units; True when it was stopped."""
    index = [i for first in units for i in range(first, min(first + store.step, plan.num))]
    try:
        with Writer(store, plan, on_written) as writer:
            try:
                for done, values in compute(plan, index, stop=stop, note=note):
                    writer.put(done, values)
            except Stopped:
                return True
    except NotFinite as error:
        raise NotFinite(f"{error}; what was finished is kept in {store.root}") from None
    except OSError as error:
        raise OSError(
            f"writing to {store.root} failed ({error}); what is there is kept: make room and run the same "
            "command again"
        ) from error
    return False
