"""Jobs of a page: each runs once, and its result lies in ``FOLDER/<job>.json`` (arrays beside it in .npz)
under a hash of its settings.

A result is written when the job is done, under another name first, so a file is either whole or not there;
changed settings run again.
"""

import hashlib
import json
import os
import platform
import shutil
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from studio.runtime import files
from studio.runtime.signals import StopSignal
from studio.runtime.strict_json import numbers
from studio.runtime.version import __version__

Arrays = dict[str, np.ndarray]
Outcome = tuple[dict[str, Any], Arrays]


class Unfinished(RuntimeError):
    """Raised by a job that was asked to stop and has kept what it needs to go on."""


@dataclass(frozen=True)
class Job:
    """``run(settings, work)`` gives numbers and arrays; ``work`` is a folder of the job's own that is removed
    when it is done. ``minutes``: about how long it takes on two cores."""

    name: str
    run: Callable[[Mapping[str, Any], Path], Outcome]
    settings: dict[str, Any]
    minutes: float = 1.0

    @property
    def key(self) -> str:
        """16 hex digits of what the result depends on."""
        text = json.dumps([f"{self.run.__module__}:{self.run.__qualname__}", self.settings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Result:
    """What a job found, how long it took, and on what."""

    name: str
    key: str
    settings: dict[str, Any]
    values: dict[str, Any]
    seconds: float
    machine: dict[str, Any]
    arrays: Arrays = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class Page:
    """``jobs(quick)``; ``write(results, folder)`` draws plots and ``table.csv`` into ``folder`` and returns
    the body of the page in Markdown."""

    title: str
    jobs: Callable[[bool], list[Job]]
    write: Callable[[Mapping[str, Result], Path], str]


def machine() -> dict[str, Any]:
    """What a reader needs to know of the computer."""
    return {
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "cpu": _processor(),
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "studio": __version__,
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def load(job: Job, folder: Path) -> Result | None:
    """The cached result of a job; None where there is none, or one of other settings or of an interrupted
    write."""
    try:
        tree = json.loads((folder / f"{job.name}.json").read_text())
        if tree["key"] != job.key:
            return None
        arrays: Arrays = {}
        if tree.pop("has_arrays"):
            with np.load(folder / f"{job.name}.npz", allow_pickle=False) as found:
                if str(found["key"]) != job.key:
                    return None
                arrays = {k: found[k] for k in found.files if k != "key"}
        return Result(**{**tree, "values": numbers(tree["values"])}, arrays=arrays)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def save(result: Result, folder: Path) -> None:
    """Arrays first: the .json is what says that a job is done."""
    folder.mkdir(parents=True, exist_ok=True)
    if result.arrays:
        with files.replacing(folder / f"{result.name}.npz") as draft, open(draft, "wb") as handle:
            np.savez_compressed(handle, key=np.array(result.key), **result.arrays)  # type: ignore[arg-type]
    tree = {k: v for k, v in asdict(result).items() if k != "arrays"}
    files.write_json(folder / f"{result.name}.json", {**tree, "has_arrays": bool(result.arrays)})


def run_jobs(
    jobs: Sequence[Job], folder: Path, *, on_done: Callable[[Result, int, int], Any] | None = None
) -> dict[str, Result] | None:
    """Results by name, in the order of the jobs; those that are cached are read. None where a signal stopped
    it: what is done is kept."""
    if len({j.name for j in jobs}) < len(jobs):
        raise ValueError("got two jobs of one name, expected names of their own")
    results: dict[str, Result] = {}
    with StopSignal() as stop:
        for job in jobs:
            found = load(job, folder)
            if found is None:
                if stop.asked:
                    return None
                try:
                    found = _run(job, folder)
                except Unfinished:
                    return None
            results[job.name] = found
            if on_done is not None:
                on_done(found, len(results), len(jobs))
    return results


def _run(job: Job, folder: Path) -> Result:
    work = folder / f"{job.name}.work-{job.key}"
    work.mkdir(parents=True, exist_ok=True)
    started, threads = time.monotonic(), torch.get_num_threads()
    about = machine()
    try:
        values, arrays = job.run(job.settings, work)
    finally:
        torch.set_num_threads(threads)
    seconds = round(time.monotonic() - started, 1)
    result = Result(
        job.name,
        job.key,
        job.settings,
        values,
        seconds,
        {**about, "threads": values.pop("threads", about["threads"])},
        arrays,
    )
    save(result, folder)
    shutil.rmtree(work, ignore_errors=True)
    return result
