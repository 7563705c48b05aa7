"""Schrödinger bridges: every method against the closed form between Gaussians, on points, and on two real
translations of pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from samplers.solvers.bridge import facing
from studio.checkpoints.find import bundled
from studio.metrics.point_sets import wasserstein2
from studio.reproduce import gaussians, restoring, toy, translating
from studio.reproduce.jobs import Job, Outcome, Unfinished
from studio.training.run import train

EMOJI = {"name": "emoji", "path": "data/emoji32.npz"}
FEW = (1, 2, 5, 10, 50)
# in five dimensions: a phase leaves 0.6 of the error of the start
ALTERNATING = {"num_pairs": 50000, "refresh": 450, "shares": [1] * 10 + [2, 2]}


def points(settings: Mapping[str, Any], work: Path) -> Outcome:
    """Moons → eight Gaussians by one method with one seed: W2 to held-out points, path energy of the flow."""
    method = gaussians.METHODS[settings["method"]]
    tree = gaussians.config(settings)
    tree |= {
        "data": {
            "name": "points",
            "kind": "eight_gaussians",
            "source": "moons",
            "count": settings["data"],
            "seed": settings["seed"],
        }
    }
    trained = train(
        tree, out=work / "run", resume=(work / "run" / "config.yaml").is_file(), device="cpu", quiet=True
    )
    if trained.interrupted:
        raise Unfinished(f"stopped at step {trained.step}")
    model = trained.load(device="cpu")
    test = toy.ends("moons", "eight_gaussians", settings["seed"], settings["count"], toy.TEST)
    values: dict[str, Any] = {
        "floor": toy.floor("eight_gaussians", seed=settings["seed"], count=settings["count"])
    }
    ways = [("heun", 50)] if method["sampler"] == "heun" else [("bridge_sde", 50), ("heun", 50)]
    made = {}
    for sampler, steps in ways:
        made[sampler] = model.translate(test.source, sampler=sampler, num_steps=steps).values
        values[f"w2_{sampler}"] = wasserstein2(made[sampler], test.data)
    velocity = facing(model.denoiser, "velocity")
    codec: Any = model.codec
    std = codec.std
    _, energy = toy.converged(velocity, codec.encode(test.source), steps=50)  # type: ignore[arg-type]
    values |= {
        "pe": energy * std**2,
        "w2sq_ends": wasserstein2(test.source, test.data) ** 2,
        "threads": torch.get_num_threads(),
        "dtype": "fp32",
    }
    keep = {k: v.numpy() for k, v in {**made, "true": test.data}.items()} if settings["seed"] == 0 else {}
    return values, keep


def jobs(quick: bool) -> list[Job]:
    """Gaussians, points, pictures. Minutes are for two cores."""
    seeds = range(1 if quick else 3)
    size = {
        "batch": 512,
        "data": 100000,
        "count": 100000,
        "num_steps": 40,
        "num_pairs": 20000,
        "refresh": 400,
        "shares": [1] * 8,
    }
    size |= (
        {
            "batch": 64,
            "data": 2000,
            "count": 2000,
            "num_steps": 8,
            "num_pairs": 200,
            "refresh": 10,
            "shares": [1, 1],
        }
        if quick
        else {}
    )
    made = []
    for dim in (5,) if quick else (5, 20):
        for seed in seeds:
            for method in ("exact", *gaussians.METHODS):
                steps = (20 if quick else 3000) * (2 if method.startswith("dsbm") else 1)
                settings = {"method": method, "dim": dim, "seed": seed, "steps": steps, **size}
                settings |= ALTERNATING if method.startswith("dsbm") and dim == 5 and not quick else {}
                made.append(Job(f"gaussian-{dim}-{method}-{seed}", gaussians.run, settings, 0.7))
    plane = {**size, "count": 300 if quick else 1500, "batch": 64 if quick else 256}
    for seed in seeds:
        for method in gaussians.METHODS:
            steps = (20 if quick else 3000) * (2 if method.startswith("dsbm") else 1)
            made.append(
                Job(
                    f"points-{method}-{seed}",
                    points,
                    {"method": method, "seed": seed, "steps": steps, **plane},
                    0.4,
                )
            )
    few = [1, 2] if quick else list(FEW)
    num = 60 if quick else 2000
    restore, emoji = ({"steps": 3, "batch_size": 8},) * 2 if quick else ({"steps": 700}, {"steps": 500})
    made.append(Job("restore-untrained", restoring.untrained, {"num": num}, 0.1))
    for seed in range(1 if quick else 2):
        for method in restoring.HEADS:
            settings = {
                "method": method,
                "seed": seed,
                "num": num,
                "few": [1] if method == "regression" else few,
                **restore,
            }
            made.append(Job(f"restore-{method}-{seed}", restoring.run, settings, 4.5))
    made.append(Job("emoji-untrained", translating.untrained, {"data": EMOJI}, 0.1))
    ways = [["heun", 2]] if quick else [["heun", 1], ["heun", 10], ["bridge_sde(final_noise=false)", 20]]
    for seed in range(1 if quick else 2):
        for method in ("sf2m", "cfm", "dsbm"):
            settings = {"method": method, "seed": seed, "data": EMOJI, "ways": ways, **emoji}
            made.append(Job(f"emoji-{method}-{seed}", translating.run, settings, 4.0))
    if not quick:
        made.append(
            Job(
                "restore-bundled",
                restoring.run,
                {"model": "fashion-restore", "num": num, "few": few[:-1]},
                3.0,
            )
        )
        if "noto-twemoji" in bundled():
            made.append(
                Job(
                    "emoji-bundled",
                    translating.run,
                    {"model": "noto-twemoji", "data": EMOJI, "ways": ways},
                    1.0,
                )
            )
    return made
