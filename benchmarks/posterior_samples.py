"""Posterior draws of both sides of `benchmarks.posterior_peers` for the observations of sbibm, as
posterior_peers.npz beside this file holds them, and their scores.

Of each task ``*_observations`` (10, K, f), ``*_reference`` (10, 1000, d), and of each side (seeds, 10, 1000,
d): draws as whole numbers from 0 to 65,535 between the ends of the prior. ``about``: versions, minutes,
speeds and what was asked for, as JSON.

    python -m benchmarks.posterior_samples    # a table of all, docs/results/posterior_peers.txt (minutes)
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.two_sample import c2st
from studio.data.arrays import content_hash
from studio.recipes.posterior.data import OBSERVATIONS
from studio.tasks import build

FILE = Path(__file__).with_name("posterior_peers.npz")
TASKS = {"two-moons": "two_moons", "slcp": "slcp"}  # our names, and sbibm's
COUNT, HELD_OUT, DRAWS = 10_000, 1_000, 1_000  # simulations, how many of them are held out, draws
OURS, PEERS = "ours", ("fmpe", "npe")
SIDES = (OURS, *PEERS)
FINEST = 65_535


def packed(draws: np.ndarray, task: Any) -> np.ndarray:
    """Draws (..., d) of a task with bounds as whole numbers. Raises ``ValueError`` for draws beyond them."""
    low, high = np.array(task.bounds, dtype=np.float64).T
    part = (draws - low) / (high - low)
    if not ((part >= 0) & (part <= 1)).all():
        raise ValueError("got draws beyond the ends of the prior, or that are no numbers, expected none")
    return np.round(part * FINEST).astype(np.uint16)


def unpacked(whole: np.ndarray, task: Any) -> np.ndarray:
    """The draws again, to a 65,535th of the prior's width."""
    low, high = np.array(task.bounds, dtype=np.float64).T
    return low + (high - low) * (whole / FINEST)


def simulations(name: str) -> dict[str, np.ndarray]:
    """What every side trained on."""
    return build(name).simulate(COUNT, seed=0)


def simulations_hash(name: str) -> str:
    made = simulations(name)
    return content_hash(made["values"], made[OBSERVATIONS])


def load(file: Path = FILE) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and ``about``. Raises ``ValueError`` where the simulators make other simulations than those that
    both sides trained on."""
    with np.load(file) as arrays:
        found = {key: arrays[key] for key in arrays.files}
    about = json.loads(str(found.pop("about")))
    for name, value in about["simulations"].items():
        if simulations_hash(name) != value:
            raise ValueError(
                f"got other simulations of {name} than the draws in {file} are of; make them again"
            )
    return found, about


def scores(found: Mapping[str, np.ndarray], name: str, draws: int = DRAWS) -> dict[str, torch.Tensor]:
    """(seeds, 10): of each side the classifier two-sample test of its first ``draws`` against as many of the
    reference, by observation."""
    task, known = build(name), TASKS[name]

    def of(side: str) -> torch.Tensor:
        return torch.from_numpy(unpacked(found[f"{known}_{side}"], task))[..., :draws, :]

    reference = of("reference")
    return {side: torch.stack([c2st(reference, one) for one in of(side)]) for side in SIDES}


def apart(told: Mapping[str, torch.Tensor]) -> float:
    """Our mean score less that of the better peer: below 0 where ours is nearer to the reference."""
    return float(told[OURS].mean() - min(told[peer].mean() for peer in PEERS))


def main() -> None:
    found, about = load()
    print(f"{COUNT} simulations, {HELD_OUT} of them held out; {about['versions']}; {about['host']}")
    for name, value in about["trained"].items():
        print(f"{name}: {value}")
    for name in TASKS:
        told = scores(found, name)
        print(f"\n{name}: classifier two-sample test ({DRAWS} draws a side), of ten observations; their mean")
        for side, each in told.items():
            for row in each:
                every = " ".join(f"{x:.3f}" for x in row)
                print(f"{side:<5} {every}  {row.mean():.3f}", flush=True)
        print(f"ours less the better of FMPE and NPE: {apart(told):+.4f}")
        speed = {side: round(value) for side, value in about["draws_per_s"][name].items()}
        print(f"draws a second, of 1,000 observations at once: {speed}")


if __name__ == "__main__":
    main()
