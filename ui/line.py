"""Who waits for the device: one job runs, the others stand in a line, each knows its place, and whoever asked
for one can stop it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from studio.runtime.signals import Stopped

LOOK = 0.25  # seconds between looks at one's place


class Job:
    """A run of an owner (a browser session): ``flag`` asks it to stop, ``ended`` is set when it has,
    ``words`` say how."""

    def __init__(self, line: "Line", owner: str) -> None:
        self.line, self.owner = line, owner
        self.flag, self.ended, self.words = threading.Event(), threading.Event(), "Stopped; nothing was saved"

    def turn(self, every: float = LOOK) -> Iterator[int]:
        """How many jobs are ahead, again and again until there are none. Raises `Stopped` when it is stopped
        while it waits."""
        while not self.flag.is_set():
            ahead = self.line.ahead(self, every)
            if not ahead:
                return
            yield ahead
        raise Stopped("Stopped before it began; nothing was saved")


class Line:
    """Jobs in the order in which they came; the first one runs."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._moved = threading.Condition()

    @contextmanager
    def job(self, owner: str) -> Iterator[Job]:
        """A place at the end of the line, given up on leaving. Wait with `Job.turn` before touching the
        device."""
        job = Job(self, owner)
        with self._moved:
            self._jobs.append(job)
        try:
            yield job
        except Stopped as stopped:
            job.words = str(stopped)
            raise
        finally:
            with self._moved:
                self._jobs.remove(job)
                self._moved.notify_all()
            job.ended.set()

    def ahead(self, job: Job, wait: float = 0.0) -> int:
        """How many jobs stand before this one; waits so many seconds for there to be none."""
        with self._moved:
            self._moved.wait_for(lambda: self._jobs[0] is job, timeout=wait)
            return self._jobs.index(job)

    def of(self, owner: str) -> list[Job]:
        """The jobs of an owner, the first in line first."""
        with self._moved:
            return [job for job in self._jobs if job.owner == owner]

    def stop(self, owner: str, wait: float = 0.0) -> str:
        """Ask the owner's jobs to stop after the solver step they are in, and wait so many seconds for the
        first of them; how that one ended, or "" when there is none."""
        jobs = self.of(owner)
        for job in jobs:
            job.flag.set()
        if not jobs:
            return ""
        return (
            jobs[0].words
            if jobs[0].ended.wait(wait)
            else "Stopping after this step; what is finished will be saved"
        )
