"""Interleaved timing: the sides take turns, so a machine that slows down slows all of them; medians and
ratios of medians are reported.

A side may live in a process of its own (`Side`), so that neither sees what the other did to the memory
allocator.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

THREADS = 2
SHORT = 0.05  # seconds


def parser_of(text: str) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats, under 50 s on two cores")
    parser.add_argument("--threads", type=int, default=THREADS)
    return parser


def arguments(text: str) -> argparse.Namespace:
    parsed = parser_of(text).parse_args()
    torch.set_num_threads(parsed.threads)
    return parsed


def interleave(sides: Mapping[str, Callable[[], Any]], *, rounds: int, warmup: int = 2) -> dict[str, float]:
    """Median seconds of each side, all in this process."""
    for _ in range(warmup):
        for fn in sides.values():
            fn()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, fn in sides.items():
            start = time.perf_counter()
            fn()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


class Side:
    """A process ``python -m MODULE MORE --side NAME`` that runs `serve`; calling it with a job's name times
    that job there once."""

    def __init__(self, module: str, name: str, *more: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *more, "--side", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def __call__(self, job: str) -> float:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(job + "\n")
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the side {self.process.args!r} ended early")
        return float(answer)

    def close(self) -> None:
        self.process.communicate()


def serve(make: Callable[[str], Callable[[], Any]], *, warmup: int = 1) -> None:
    """Answer jobs from standard input: seconds of one call of ``make(job)()``, the mean of as many as fit
    into `SHORT`, made and warmed up at its first mention; ``peak`` gives MB."""
    torch.set_num_threads(THREADS)
    jobs: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        job = line.strip()
        if job == "peak":
            print(peak_mb(), flush=True)
            continue
        if job not in jobs:
            jobs[job] = make(job)
            for _ in range(warmup):
                jobs[job]()
        calls, start = 0, time.perf_counter()
        while calls == 0 or time.perf_counter() - start < SHORT:
            jobs[job]()
            calls += 1
        print((time.perf_counter() - start) / calls, flush=True)


def take_turns(sides: Mapping[str, Side], job: str, *, rounds: int) -> dict[str, float]:
    """Median seconds of ``job`` on each side."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            times[name].append(side(job))
    return {name: statistics.median(values) for name, values in times.items()}


def table(title: str, rows: Mapping[str, float], *, unit: str = "ms", scale: float = 1000.0) -> None:
    print(f"\n{title}")
    for name, value in rows.items():
        print(f"  {name:<44} {value * scale:10.1f} {unit}")


def peak_mb() -> float:
    """Peak resident memory of this process; Linux keeps a parent's peak in rusage, so /proc is asked where it
    is there."""
    return _resident("VmHWM")


def held_mb() -> float:
    """Resident memory of this process now; its peak where there is no /proc."""
    return _resident("VmRSS")


def _resident(field: str) -> float:
    import resource
    from pathlib import Path

    status = Path("/proc/self/status")
    if status.is_file():
        return (
            int(next(line for line in status.read_text().splitlines() if line.startswith(field)).split()[1])
            / 1024
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def finish(ratios: Mapping[str, float], source: Mapping[str, Any] | None = None) -> None:
    """The last line of every benchmark; null for NaN. ``source``: the file that holds what was not measured
    in this run, and the keys that come from it."""
    print(
        json.dumps(
            {
                **{k: round(v, 4) if v == v else None for k, v in ratios.items()},
                **({"source": source} if source else {}),
            }
        )
    )
