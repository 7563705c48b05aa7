"""The beginning of a run, until there is something to keep: a checkpoint, or a line of metrics.

A run that fails before leaves no folder that the next try would stumble over, and one that it was to write
over comes back as it was.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from studio.checkpoints import checkpoint

HEADER = ("curve.png", "metrics.jsonl", "meta.json", "config.yaml")  # the last marks a run
ASIDE = ".overwritten"


class Beginning:
    """A context around a new run. ``over``: it replaces the run that is there. ``own``: further files that it
    writes. `kept` says that there is something to keep."""

    def __init__(self, folder: Path, *, over: bool, own: tuple[str, ...] = ()):
        self.folder, self.parts = folder, ("checkpoints", *own, *HEADER)
        self.begins = True
        if over:
            _move(folder, folder / ASIDE, ("checkpoints", *HEADER))

    def kept(self) -> None:
        self.begins = False
        shutil.rmtree(self.folder / ASIDE, ignore_errors=True)

    def __enter__(self) -> "Beginning":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if kind is not None and self.begins:
            for name in self.parts:
                path = self.folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            restore(self.folder)


def restore(folder: Path) -> str | None:
    """Put back a run that was to be written over by one that left nothing; what was done, in words."""
    aside = folder / ASIDE
    if not aside.is_dir():
        return None
    if (folder / "config.yaml").is_file() and not only_begun(folder):  # the new one stands
        shutil.rmtree(aside)
        return None
    for name in HEADER:
        (folder / name).unlink(missing_ok=True)
    _move(aside, folder, ("checkpoints", *HEADER))
    aside.rmdir()
    return (
        f"{folder}: the run that was to be overwritten is back, as the new one ended before its first "
        "line of metrics"
    )


def only_begun(folder: Path) -> bool:
    """Whether a run ended before there was anything of it to keep."""
    metrics = folder / "metrics.jsonl"
    if checkpoint.listing(folder) or (metrics.is_file() and metrics.stat().st_size):
        return False
    try:  # a config alone may be a user's own
        return "source" in json.loads((folder / "meta.json").read_text())
    except (OSError, ValueError):
        return False


def _move(folder: Path, target: Path, names: tuple[str, ...]) -> None:
    target.mkdir(exist_ok=True)
    for name in reversed(names):  # while config.yaml is gone there is no run
        if (folder / name).exists():
            (folder / name).replace(target / name)
