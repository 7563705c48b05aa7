"""Progress of whatever takes long: a bar on stderr, by ``tqdm.auto`` in notebooks, plain lines where there is
neither."""

import contextlib
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

Item = TypeVar("Item")
# seconds after which a count is shown, and between lines where there is no terminal
UNSEEN, LINES = 2.0, 10.0


def memory_mb() -> float:
    """Peak resident memory of this process (on Linux from /proc: rusage would keep a parent's peak)."""
    status = Path("/proc/self/status")
    if status.is_file():
        return (
            int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])
            / 1024
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1024 if sys.platform != "darwin" else 1024**2
    )


def in_notebook() -> bool:
    """Whether this runs in the kernel of a notebook, by the test that ``tqdm.auto`` makes."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and (
        "IPKernelApp" in getattr(shell, "config", {}) or "google.colab" in type(shell).__module__
    )


class notebook_bar:
    """``with notebook_bar("sampling") as bar: bar(done, total, "what to say beside it")``; nothing where
    there is no notebook."""

    def __init__(self, name: str, *, shown: bool | None = None):
        self.name, self.bar = name, None  # type: str, Any
        self.shown = in_notebook() if shown is None else shown

    def __enter__(self) -> "notebook_bar":
        return self

    def __call__(self, done: float, total: float, text: str = "") -> None:
        if not self.shown:
            return
        if self.bar is None:
            from tqdm.auto import tqdm

            self.bar = tqdm(desc=self.name, total=total)
        self.bar.total = total
        if text:
            self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(done - self.bar.n)

    def __exit__(self, *error: Any) -> None:
        if self.bar is not None:
            self.bar.close()


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Bar:
    """One bar of a run on stderr: of rich on a terminal, of ``tqdm.auto`` in a notebook, elsewhere a plain
    line every `LINES` seconds. ``quiet`` shows nothing; with ``lines`` off there is nothing without a
    terminal or notebook either."""

    def __init__(
        self, name: str, total: float, *, quiet: bool = False, lines: bool = True, transient: bool = False
    ):
        self.name, self.total, self.quiet, self.lines = name, total, quiet, lines
        self.started, self.last_line = time.monotonic(), 0.0
        self.bar: Any = None
        self.notebook = notebook_bar(name, shown=None if total and not quiet else False)
        if total and not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn("{task.description}", style="bold", markup=False),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[text]}", markup=False),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=transient,
            )
            self.bar.start()
            self.task = self.bar.add_task(name, total=total, text="")

    def update(self, done: float, text: str = "", *, total: float | None = None) -> None:
        """``done`` of ``total``, and what to say beside it."""
        if self.quiet:
            return
        self.total = self.total if total is None else total
        done = min(done, self.total)  # the last step of a run by minutes ends after them
        if self.bar is not None:
            self.bar.update(self.task, completed=done, total=self.total, text=text)
        elif self.notebook.shown:
            self.notebook(round(done, 2), self.total, text)
        elif self.lines and time.monotonic() - self.last_line > LINES:
            self.last_line = time.monotonic()
            share = done / self.total if self.total else 1.0
            left = (time.monotonic() - self.started) * (1 / share - 1) if share > 0 else 0
            print(
                f"{self.name}: {100 * share:.0f}% · {text} · {left:.0f} s left", file=sys.stderr, flush=True
            )

    def note(self, text: str) -> None:
        """A line of its own above the bar."""
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


def step_text(step: int, loss: float | None, rate: float, batch: int) -> str:
    """What is said of a training step; ``rate`` in steps/s."""
    return (
        f"step {step}"
        + (f" · loss {loss:.4f}" if loss is not None else "")
        + f" · {rate * batch:.0f} samples/s · {memory_mb():.0f} MB"
    )


class CountingBar(Bar):
    """Counts what was made: ``add`` after each of it; ``on_progress(done, total)`` hears of it too."""

    def __init__(
        self,
        name: str,
        total: int,
        *,
        unit: str,
        quiet: bool = False,
        on_progress: Callable[[int, int], Any] | None = None,
    ):
        super().__init__(name, total, quiet=quiet)
        self.last_line = self.started  # nothing is said of what is quick
        self.unit, self.on_progress, self.done = unit, on_progress, 0

    def add(self, count: int) -> None:
        self.done += count
        if self.on_progress is not None:
            self.on_progress(self.done, int(self.total))
        rate = self.done / max(time.monotonic() - self.started, 1e-9)
        self.update(self.done, f"{self.done:,} of {self.total:,} · {rate:.1f} {self.unit}/s")


_silent: ContextVar[bool] = ContextVar("silent", default=False)


@contextlib.contextmanager
def silent(quiet: bool = True) -> Iterator[None]:
    """Nothing is counted on stderr inside."""
    token = _silent.set(quiet or _silent.get())
    try:
        yield
    finally:
        _silent.reset(token)


def counted(items: Iterable[Item], total: int, text: str) -> Iterator[Item]:
    """The items, counted on stderr by the first process where they take longer than `UNSEEN`: one line that
    changes on a terminal, a line now and then elsewhere."""
    began = shown = time.monotonic()
    quiet, wide = _silent.get() or os.environ.get("RANK", "0") != "0", sys.stderr.isatty()
    told = False
    for done, item in enumerate(items, 1):
        now = time.monotonic()
        if (
            not quiet
            and now - began > UNSEEN
            and (done == total and told or now - shown > (0.2 if wide else LINES if told else UNSEEN))
        ):
            left = (now - began) * (total / done - 1)
            line = f"{text}: {done:,} of {total:,}" + (
                f" · {left:.0f} s left" if done < total else f" in {now - began:.0f} s"
            )
            print(
                f"\r{line:<72}" if wide else line,
                end="\n" if done == total or not wide else "",
                file=sys.stderr,
                flush=True,
            )
            shown, told = now, True
        yield item
