"""The progress bar of a run, on stderr: loss, throughput, time left and memory; plain lines where stderr is not a terminal."""

import contextlib
import os
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from studio.bars import notebook_bar

Item = TypeVar("Item")


def memory_mb() -> float:
    """Peak resident memory of this process (on Linux from /proc: rusage would keep a parent's peak)."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


class TrainingBar:
    """``update`` after every step, ``close`` at the end. ``quiet`` shows nothing."""

    def __init__(self, name: str, *, total: float, unit: str, quiet: bool):
        self.total, self.unit, self.quiet, self.started, self.last_line = total, unit, quiet, time.monotonic(), 0.0
        self.bar: Any = None
        self.name = name
        self.notebook = notebook_bar(name, shown=False if quiet else None)
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn("{task.description}", style="bold", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.fields[text]}", markup=False),
                TimeRemainingColumn(), console=Console(stderr=True), transient=False,
            )  # fmt: skip
            self.bar.start()
            self.task = self.bar.add_task(name, total=total, text="")

    def update(self, done: float, *, step: int, loss: float | None, rate: float, batch: int) -> None:
        """``done`` in the unit of ``total`` (steps or minutes), ``rate`` in steps/s."""
        if self.quiet:
            return
        shown = f"step {step}" + (f" · loss {loss:.4f}" if loss is not None else "") + f" · {rate * batch:.0f} samples/s · {memory_mb():.0f} MB"
        if self.bar is not None:
            self.bar.update(self.task, completed=min(done, self.total), text=shown)
        elif self.notebook.shown:
            self.notebook(round(min(done, self.total), 2), self.total, shown)
        elif time.monotonic() - self.last_line > 10:
            self.last_line = time.monotonic()
            share = min(1.0, done / self.total)  # the last step of a run by minutes ends after them
            left = (time.monotonic() - self.started) * (1 / share - 1) if share > 0 else 0
            print(f"{self.name}: {100 * share:.0f}% · {shown} · {left:.0f} s left", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        if self.quiet:
            return
        if self.bar is not None:
            self.bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        self.notebook.__exit__()
        if self.bar is not None:
            self.bar.stop()


_silent: ContextVar[bool] = ContextVar("silent", default=False)
UNSEEN, LINES = 2.0, 10.0  # seconds after which a count is shown, and between its lines where there is no terminal


@contextlib.contextmanager
def silent(quiet: bool = True) -> Iterator[None]:
    """Nothing is counted on stderr inside."""
    token = _silent.set(quiet or _silent.get())
    try:
        yield
    finally:
        _silent.reset(token)


def counted(items: Iterable[Item], total: int, text: str) -> Iterator[Item]:
    """The items, counted on stderr by the first process where they take longer than `UNSEEN`: one line that changes on a terminal, a line now and then elsewhere."""
    began = shown = time.monotonic()
    quiet, wide = _silent.get() or os.environ.get("RANK", "0") != "0", sys.stderr.isatty()
    told = False
    for done, item in enumerate(items, 1):
        now = time.monotonic()
        if not quiet and now - began > UNSEEN and (done == total and told or now - shown > (0.2 if wide else LINES if told else UNSEEN)):
            left = (now - began) * (total / done - 1)
            line = f"{text}: {done:,} of {total:,}" + (f" · {left:.0f} s left" if done < total else f" in {now - began:.0f} s")
            print(f"\r{line:<72}" if wide else line, end="\n" if done == total or not wide else "", file=sys.stderr, flush=True)
            shown, told = now, True
        yield item
