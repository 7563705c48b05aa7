"""Interleaved timing: the sides take turns, so a machine that slows down slows all of them; medians and ratios of medians are reported."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

THREADS = 2


def arguments(text: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats, under 50 s on two cores")
    parser.add_argument("--threads", type=int, default=THREADS)
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.threads)
    return parsed


def interleave(sides: Mapping[str, Callable[[], Any]], *, rounds: int, warmup: int = 2) -> dict[str, float]:
    """Median seconds of each side."""
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


def table(title: str, rows: Mapping[str, float], *, unit: str = "ms", scale: float = 1000.0) -> None:
    print(f"\n{title}")
    for name, value in rows.items():
        print(f"  {name:<44} {value * scale:10.1f} {unit}")


def peak_mb() -> float:
    """Peak resident memory of this process; Linux keeps a parent's peak in rusage, so /proc is asked where it is there."""
    import resource
    from pathlib import Path

    status = Path("/proc/self/status")
    if status.is_file():
        return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def finish(ratios: Mapping[str, float]) -> None:
    """The last line of every benchmark."""
    print(json.dumps({k: round(v, 4) for k, v in ratios.items()}))
