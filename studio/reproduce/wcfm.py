"""Weighted conditional flow matching (Calvo-Ordoñez et al. 2507.22270): does the weight exp(−c/eps)
straighten paths, and at what price?

Points (three seeds, two pairs of distributions, and one with labels), Fashion-MNIST at equal minutes, and how
much of the weight is about pairs at all: over a grid of sources x and pictures y, log w = mean + a(x) + b(y)
+ interaction, the two-way decomposition of its variance.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backbones.types import NoiseSource
from samplers.couplings import transport
from samplers.couplings.gibbs import inverse_temperature
from studio.data import load_data
from studio.reproduce import pictures, toy
from studio.reproduce.jobs import Job, Outcome, Result

PAIRS = {"moons": ("eight_gaussians", "moons"), "gaussians": ("normal", "eight_gaussians")}
TITLES = {"moons": "eight Gaussians → moons", "gaussians": "N(0, I) → eight Gaussians"}
METHODS: dict[str, Any] = {
    "cfm": "independent",
    "ot": {"name": "ot"},
    **{f"gibbs-{e}": {"name": "gibbs", "eps": float(e)} for e in (1, 2, 3, 5, 10)},
    **{f"balanced-{e}": {"name": "gibbs", "eps": float(e), "balance": 10} for e in (0.5, 1, 2)},
}
LABELLED: dict[str, Any] = {
    "cfm": "independent",
    "ot-ignore": {"name": "ot", "labels": "ignore"},
    "ot-per-class": {"name": "ot", "labels": "per_class"},
    "gibbs-3": METHODS["gibbs-3"],
    "balanced-1": METHODS["balanced-1"],
}
PICTURED: dict[str, Any] = {
    "cfm": "independent",
    "gibbs": {"name": "gibbs", "ess": 0.7},
    "balanced": {"name": "gibbs", "ess": 0.7, "balance": 10},
    "ot": {"name": "ot", "labels": "per_class"},
}
EULER, FEW = (1, 2, 4, 10), (2, 4, 8, 20)


def points(settings: Mapping[str, Any], work: Path) -> Outcome:
    """One method on one pair with one seed."""
    source, data = PAIRS[settings["pair"]]
    common = {"seed": settings["seed"]}
    denoiser, logs = toy.flow(
        source, data, settings["coupling"], steps=settings["steps"], batch=settings["batch"], **common
    )
    values, made = toy.measure(denoiser, source, data, count=settings["count"], euler=EULER, **common)
    values["floor"] = toy.floor(data, count=settings["count"], **common)
    keep = {k: made[k].numpy() for k in ("euler4", "converged", "true")} if settings["seed"] == 0 else {}
    return {**values, **logs, "threads": 1, "dtype": "fp32"}, keep


def labelled(settings: Mapping[str, Any], work: Path) -> Outcome:
    """One method on the eight Gaussians with their labels."""
    denoiser, logs = toy.flow(
        *PAIRS["gaussians"],
        settings["coupling"],
        seed=settings["seed"],
        steps=settings["steps"],
        batch=settings["batch"],
        labels=True,
    )
    return {
        **toy.conditional(denoiser, seed=settings["seed"], per_class=settings["count"] // 8),
        **logs,
        "threads": 1,
        "dtype": "fp32",
    }, {}


def tilt(settings: Mapping[str, Any], work: Path) -> Outcome:
    """Shares of Var(−|x − y|/eps) over ``count`` × ``count`` pairs of noise and pictures, at the eps of an
    effective sample size."""
    count = settings["count"]
    values = (
        torch.from_numpy(np.asarray(load_data({"name": pictures.DATA}).train.values[:count]))
        .double()
        .flatten(1)
        / 127.5
        - 1
    )
    noise = NoiseSource([settings["seed"]] * count, index=range(count)).normal(
        (values.shape[1],), stream="prior", dtype=torch.float64
    )
    costs = transport.squared_distances(noise, values).sqrt().double()  # (sources, pictures)
    beta = inverse_temperature(costs.diagonal(), settings["ess"])
    shares, by_picture = two_way(-costs * beta)
    design = torch.stack([torch.ones(count).double(), values.norm(dim=1)], 1)
    fitted = design @ torch.linalg.lstsq(design, by_picture[:, None]).solution
    by_norm = float(fitted.var(correction=0) / by_picture.var(correction=0))
    return {
        **shares,
        "picture_by_norm": by_norm,
        "eps": float(1 / beta),
        "sd": float((costs * beta).std(correction=0)),
        "dtype": "fp64",
    }, {}


def two_way(grid: torch.Tensor) -> tuple[dict[str, float], torch.Tensor]:
    """Shares of the variance of (N, M) values that rows, columns and their interaction carry, which sum to 1;
    and the columns' means (M,)."""
    rows, columns, total = grid.mean(1), grid.mean(0), grid.var(correction=0)
    rest = grid - rows[:, None] - columns + grid.mean()
    shares = {
        k: float(v.var(correction=0) / total)
        for k, v in (("source", rows), ("picture", columns), ("interaction", rest))
    }
    return shares, columns


def jobs(quick: bool) -> list[Job]:
    """Points first, then pictures. Minutes are for two cores."""
    seeds = range(1 if quick else 3)
    size = {"steps": 40, "batch": 64, "count": 160} if quick else {"steps": 6000, "batch": 256, "count": 1500}
    length = {"steps": 4, "batch_size": 16, "num": 40} if quick else {"minutes": 4.0, "num": 2000}
    few = FEW[:2] if quick else FEW
    made = [
        Job(
            f"points-{pair}-{name}-{seed}",
            points,
            {"pair": pair, "coupling": coupling, "seed": seed, **size},
            0.5,
        )
        for pair in PAIRS
        for seed in seeds
        for name, coupling in METHODS.items()
    ]
    made += [
        Job(f"labelled-{name}-{seed}", labelled, {"coupling": coupling, "seed": seed, **size}, 0.4)
        for seed in seeds
        for name, coupling in LABELLED.items()
    ]
    made.append(Job("tilt", tilt, {"count": 100 if quick else 1000, "ess": 0.7, "seed": 0}, 0.1))
    times = {"name": "logit_normal", "mean": -0.4, "std": 1.0}
    for seed in range(1 if quick else 2):
        for name, coupling in PICTURED.items():
            objective = {
                "path": "linear",
                "parameterization": "velocity",
                "times": times,
                "coupling": coupling,
            }
            settings = {
                "seed": seed,
                "objective": objective,
                "samplers": [["euler", n] for n in few],
                **length,
            }
            made.append(Job(f"pictures-{name}-{seed}", pictures.run, settings, 5.5))
    return made


def of(results: Mapping[str, Result], group: str, name: str, key: str) -> list[float]:
    """A number of all seeds of a method, in their order."""
    found = [
        (r.settings["seed"], r.values)
        for r in results.values()
        if r.name.rpartition("-")[0] == f"{group}-{name}"
    ]
    return [float(values[key]) for _, values in sorted(found, key=lambda pair: pair[0]) if key in values]
