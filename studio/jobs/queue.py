"""Jobs that are done one at a time, in the order in which they came, whoever watches or has left.

A job is done by a thread of the process that took it, and told to the index; the page, a script or nobody
watches. A job that was on its way when its process ended is taken up by the next one.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from studio.jobs.index import Index
from studio.jobs.records import UNFINISHED, Job
from studio.runtime.lock import RunLock, holder
from studio.runtime.signals import Stopped

LOOK = 0.25  # seconds between looks at one's place
REMEMBERED = 16  # jobs that ended of which the last news are kept in memory
MOST = 64  # jobs that may wait
LEFT = "Stopped before it began; nothing was saved"


class Live:
    """A job of this process: ``job`` is what the index has of it, ``owner`` who asked; ``flag`` asks it to
    stop and ``ended`` is set when it has; ``news`` is the last thing that it told, ``error`` why it failed.
    """

    def __init__(self, job: Job, owner: str, index: Index, moved: threading.Condition):
        self.job, self.owner, self._index, self._moved = job, owner, index, moved
        self.flag, self.ended = threading.Event(), threading.Event()
        self.news: Any = None
        self.error: BaseException | None = None
        self.told = self.watchers = 0  # how often it had news; how many want previews
        self.left = False  # whether it is to be left as it is, for the next process

    def say(self, **changes: Any) -> None:
        """A new state, for the index."""
        self.job = replace(self.job, **changes)
        self._index.say(self.job)

    def tell(self, news: Any, **changes: Any) -> None:
        """News, for whoever watches; with the last ones, what the index is to say of the job that has
        ended."""
        with self._moved:
            self.news, self.told = news, self.told + 1
            self.job = replace(self.job, **changes)
            self._moved.notify_all()


Work = Callable[[Live], None]  # does a job and tells of it; raises `Stopped`, or what went wrong


class Queue:
    """``work``: what does a job, by its kind; ``dropped`` is told of one that was stopped while it waited. A
    job stays in the index, whatever becomes of this process."""

    def __init__(
        self, index: Index, work: Mapping[str, Work], dropped: Callable[[Job], Any] = lambda job: None
    ):
        self.index, self.work, self.dropped = index, dict(work), dropped
        self._line: list[Live] = []  # the first one is being done
        self._live: OrderedDict[str, Live] = OrderedDict()
        self._moved = threading.Condition()
        self._lock: RunLock | None = None
        self._closing = False

    # ---- asking

    def submit(
        self, kind: str, model: str, spec: Mapping[str, Any], owner: str = "", *, folder: str = ""
    ) -> str:
        """A place at the end of the line; the job's id. Raises ``ValueError`` where too many wait."""
        with self._moved:
            if len(self._line) >= MOST:
                raise ValueError(f"{MOST} jobs wait already, expected fewer; try again when some are done")
        name = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
        job = Job(name, kind, model, dict(spec), time.time(), holder=self._holder(), folder=folder)
        self.index.add(job)
        self._append(job, owner)
        return name

    def take_up(self) -> list[str]:
        """Put the jobs of processes that have ended into the line, the oldest first; their ids."""
        mine, taken = self._holder(), []
        for job in reversed(self.index.jobs(UNFINISHED)):
            there = self.index.home / job.holder
            if job.holder == mine or (job.holder and holder(there)) or not self.index.take(job, mine):
                continue
            self._append(replace(job, holder=mine, state="waiting"), "")
            taken.append(job.id)
        return taken

    # ---- watching

    def get(self, name: str) -> Live | None:
        """A job of this process that is not long over."""
        with self._moved:
            return self._live.get(name) if isinstance(name, str) else None

    def of(self, owner: str) -> list[Live]:
        """The unfinished jobs of an owner, the first in line first."""
        with self._moved:
            return [live for live in self._line if live.owner == owner]

    def line(self) -> list[Live]:
        """All unfinished jobs, the one that is being done first."""
        with self._moved:
            return list(self._line)

    def watch(self, name: str, *, preview: bool = False, every: float = LOOK) -> Iterator[Any]:
        """How many jobs are ahead while there are any, then the job's news, the newest each time; ends with
        the job. Leaving changes nothing. Raises what the job raised, and ``KeyError`` for one that is not
        `get`."""
        with self._moved:
            live = self._live[name]
        seen = 0
        with self._watched(live, preview):
            while True:
                with self._moved:
                    self._moved.wait_for(partial(_new, live, seen), timeout=every)
                    ahead = self._line.index(live) if live in self._line else 0
                    news, told, over = live.news, live.told, live.ended.is_set()
                if over and live.error is not None:
                    raise live.error
                if told != seen and news is not None:
                    seen = told
                    yield news
                elif ahead:
                    yield ahead
                if over:
                    return

    @contextmanager
    def _watched(self, live: Live, preview: bool) -> Iterator[None]:
        live.watchers += preview
        try:
            yield
        finally:
            live.watchers -= preview

    # ---- stopping

    def stop(self, name: str, wait: float = 0.0) -> str:
        """Ask a job to stop after the solver step that it is in, and wait so many seconds for it; how it
        ended, or "" where there is none."""
        with self._moved:
            live = self._live.get(name) if isinstance(name, str) else None
            if live is None or live.ended.is_set():
                return ""
            live.flag.set()
            if live in self._line[1:]:  # it has not begun
                self._line.remove(live)
                self._end(live, "stopped", LEFT, Stopped(LEFT))
                self.dropped(live.job)
        if live.ended.wait(wait):
            return live.job.words or f"Finished before it could stop; saved in {live.job.folder}"
        return "Stopping after this step; what is finished will be saved"

    def stop_all(self, owner: str, wait: float = 0.0) -> str:
        """The same for all jobs of an owner; how the first ended."""
        mine = self.of(owner)
        words = [self.stop(live.job.id) for live in mine]
        return self.stop(mine[0].job.id, wait) or mine[0].job.words if words else ""

    def close(self, wait: float = 5.0) -> None:
        """Leave what is on its way to the next process."""
        with self._moved:
            self._closing, mine = True, list(self._line)
            for live in mine:
                live.left = True
                live.flag.set()
        if mine:
            mine[0].ended.wait(wait)
        if self._lock is not None:
            self._lock.__exit__()
            self._lock = None

    # ---- doing

    def _holder(self) -> str:
        """The name of this process in the index, under which others see that it lives."""
        with self._moved:
            if self._lock is None:
                self._lock = RunLock(Path(self.index.home) / f"process-{secrets.token_hex(6)}")
                self._lock.__enter__()
            return self._lock.folder.name

    def _append(self, job: Job, owner: str) -> None:
        live = Live(job, owner, self.index, self._moved)
        with self._moved:
            self._live[job.id] = live
            for name in [k for k, v in self._live.items() if v.ended.is_set()][:-REMEMBERED]:
                del self._live[name]
            self._line.append(live)
            self._moved.notify_all()
            if len(self._line) == 1:
                threading.Thread(target=self._go, name="jobs", daemon=True).start()

    def _go(self) -> None:
        """Do the jobs of the line until there are none."""
        while True:
            with self._moved:
                if not self._line or self._closing:
                    return
                live = self._line[0]
            state, words = "done", ""
            error: BaseException | None = None
            try:
                live.say(state="running")
                self.work[live.job.kind](live)
                if live.job.words:  # it says itself that it did not do all
                    state, words = "stopped", live.job.words
            except Stopped as stopped:
                state, words, error = "stopped", str(stopped), stopped
            except BaseException as failed:  # noqa: BLE001 (whoever watches is told)
                state, words, error = "failed", str(failed) or type(failed).__name__, failed
            with self._moved:
                self._line.remove(live)
                self._end(live, state, words, error)
                if not self._line:
                    return

    def _end(self, live: Live, state: str, words: str, error: BaseException | None) -> None:
        live.error = error
        try:
            if not live.left or state == "done":
                live.say(state=state, words=words)
        except Exception as failed:  # noqa: BLE001 (a full disk: the job's own files are what counts)
            live.error = live.error or failed
        live.ended.set()
        self._moved.notify_all()


def _new(live: Live, seen: int) -> bool:
    return live.told != seen or live.ended.is_set()
