"""Molecules with the properties asked for: does what is asked come back, what does guidance cost, and what do
the noise and the conditions' encoders change?

`control` asks the bundled model for one property, or two at once, over a grid, also where the training set
has nothing; `sweep` asks for held-out combinations under several guidance scales, and once without redrawing;
`variant` trains a smaller, plainer network with one noise or encoder or another for the same number of steps
and asks the same.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from studio import sampling
from studio.config import load_config
from studio.data import load_data
from studio.model.loading import load
from studio.model.model import Model
from studio.reproduce.jobs import Job, Outcome, Unfinished
from studio.training.run import train

MODEL, DATA = "moses-graph-dit", {"name": "moses"}
NAMES = ("logP", "QED", "TPSA")
SCALES = (1.0, 1.5, 2.0, 3.0)
SAMPLER = "graph(renoise=1)"
# the variants' network: small, so that each learns in ten minutes; they do not train long enough to learn
# molecules by heart
PLAIN = {
    "data": {**DATA, "path": "data/molecules_moses_45k.csv.gz"},
    "backbone": {"name": "graph_dit", "hidden_size": 192, "depth": 6, "num_heads": 6},
    "objective": {"path": {"name": "graph", "mode": "corrected"}, "cond_drop": 0.1},
    "train": {
        "batch_size": 128,
        "optimizer": "muon",
        "lr": 0.001,
        "muon_lr": 0.003,
        "weight_decay": 0.01,
        "warmup": 200,
        "ema": ["power-12"],
        "save_every": 500,
    },
    "sample": {"sampler": "graph", "num_steps": 100},
}
QUANTILES = (0.02, 0.25, 0.5, 0.75, 0.98)
PAIRS = (("logP", "TPSA"), ("logP", "QED"))
VARIANTS: dict[str, dict[str, str]] = {
    "corrected, fourier": {},
    "marginal, fourier": {"objective.path.mode": "marginal"},
    "reference, fourier": {"objective.path.mode": "reference"},
    "corrected, clusters": {"backbone.conditions": "clusters"},
}
# with two seeds; the others with one, so that the page does not take two hours
TWICE = ("corrected, fourier", "reference, fourier")


def held_out(num: int) -> np.ndarray:
    """(num, K) targets: the properties of held-out molecules, in their own units."""
    data = load_data(dict(DATA))
    return data.held_out.numeric[:num] * np.array(data.numeric_std) + np.array(data.numeric_mean)


def made(
    model: Model,
    asked: np.ndarray,
    *,
    scale: float,
    steps: int,
    sampler: str = SAMPLER,
    space: str = "native",
    seed: int = 0,
    batch: int = 128,
) -> tuple[np.ndarray, float]:
    """Graphs (N, n, n + 1) for targets (N, K) in own units, NaN = free, under plain guidance in a ``space``,
    seeds from a million times ``seed`` on; and seconds."""
    rows = (asked - np.array(model.info.numeric_mean)) / np.array(model.info.numeric_std)
    seeds = tuple(range(seed * 10**6, seed * 10**6 + len(asked)))
    request = sampling.Request(
        seeds,
        None,
        tuple(map(tuple, rows.tolist())),
        steps,
        sampler,
        f"cfg(scale={scale:g},space={space})" if scale != 1 else "",
        batch=batch,
    )
    started = time.perf_counter()
    values = sampling.run(model.stream(request), model.codec, len(asked))
    return values.numpy(), time.perf_counter() - started


def judged(
    mols: list[Any], asked: np.ndarray, spread: Sequence[float]
) -> tuple[dict[str, float], np.ndarray]:
    """Of decoded molecules, None where there is none: shares that are valid and connected, unique, diversity;
    for each property the mean error over the valid ones divided by its ``spread`` in training, and the mean
    of these; and what was obtained (N, K)."""
    from studio.chem import properties
    from studio.metrics import molecules

    got, plain = properties.compute(mols, list(NAMES)), molecules.validity(mols)
    values: dict[str, float] = {"valid": plain.valid, "connected": plain.connected}
    if plain.valid > 0:
        values |= {
            "unique": molecules.uniqueness(molecules.smiles_of(mols)),
            "diversity": molecules.internal_diversity(mols),
        }
        errors = np.abs(got - asked) / np.asarray(spread)
        known = {name: float(np.nanmean(e)) for name, e in zip(NAMES, errors.T) if not np.isnan(e).all()}
        values |= {f"mae_{name}": e for name, e in known.items()} | {
            "mae": float(np.mean(list(known.values()))) if known else float("nan")
        }
    return values, got


def decoded(graphs: np.ndarray, model: Model) -> list[Any]:
    """Molecules of graphs, without any correction."""
    from studio.metrics import molecules

    codec: Any = model.codec
    return molecules.decoded(graphs, codec.atoms)


def sweep(settings: Mapping[str, Any], work: Path) -> Outcome:
    """Held-out combinations under one guidance scale."""
    model, asked = load(settings["model"]), held_out(settings["num"])
    graphs, seconds = made(
        model, asked, scale=settings["scale"], steps=settings["steps"], sampler=settings["sampler"]
    )
    values, _ = judged(decoded(graphs, model), asked, model.info.numeric_std)
    return {**values, "per_second": len(asked) / seconds, "threads": torch.get_num_threads()}, {}


def control(settings: Mapping[str, Any], work: Path) -> Outcome:
    """One property, or a pair, at quantiles of the training set; the others are free. Keeps asked and
    obtained."""
    data, model = load_data(dict(DATA)), load(settings["model"])
    raw = data.train.numeric * np.array(data.numeric_std) + np.array(data.numeric_mean)
    columns = [NAMES.index(n) for n in settings["names"]]
    levels = [np.quantile(raw[:, c], settings["quantiles"]) for c in columns]
    grid = np.stack(np.meshgrid(*levels, indexing="ij"), -1).reshape(-1, len(columns))
    asked = np.full((len(grid) * settings["each"], len(NAMES)), np.nan)
    asked[:, columns] = np.repeat(grid, settings["each"], 0)
    graphs, _ = made(
        model, asked, scale=settings["scale"], steps=settings["steps"], sampler=settings["sampler"]
    )
    values, got = judged(decoded(graphs, model), asked, model.info.numeric_std)
    near = (
        np.stack(
            [
                np.abs(raw[:, c][:, None] - grid[None, :, i]) / data.numeric_std[c] < 0.25
                for i, c in enumerate(columns)
            ]
        )
        .all(0)
        .sum(0)
    )  # training molecules about each target
    return {**values, "threads": torch.get_num_threads()}, {
        "asked": asked[:, columns],
        "got": got[:, columns],
        "near": near,
        "grid": grid,
    }


def variant(settings: Mapping[str, Any], work: Path) -> Outcome:
    """The plain network with a few changes, for some steps; then asked as in `sweep`, by ancestral steps and
    guidance of the next state's probabilities."""
    folder = work / "run"
    tree = load_config(PLAIN).tree()
    tree["train"] |= {
        "steps": settings["steps"],
        "minutes": None,
        "eval_every": 0,
        "preview": False,
        "weak_snapshot": False,
        "keep_last": 1,
        **settings.get("train", {}),
    }
    changes = [f"{k}={v}" for k, v in settings["changes"].items()] + [f"seed={settings['seed']}"]
    trained = train(tree, changes, out=folder, resume=(folder / "config.yaml").is_file(), quiet=True)
    if trained.interrupted:
        raise Unfinished(f"stopped at step {trained.step}")
    model, asked = trained.load(), held_out(settings["num"])
    found: dict[str, Any] = {}
    for scale in settings["scales"]:
        graphs, _ = made(
            model, asked, scale=scale, steps=settings["sampling_steps"], sampler="graph", space="logp"
        )
        found |= {
            f"{k}@{scale:g}": v
            for k, v in judged(decoded(graphs, model), asked, model.info.numeric_std)[0].items()
        }
    return {**found, "threads": torch.get_num_threads()}, {}


def jobs(quick: bool) -> list[Job]:
    """Minutes are for two cores."""
    num, steps, long = (12, 3, 3) if quick else (500, 100, 200)
    common = {"model": MODEL, "num": 12 if quick else 1000, "steps": long}
    made = [
        Job(f"sweep-{w:g}", sweep, {**common, "scale": w, "sampler": SAMPLER}, 4.5 if w == 1 else 8.0)
        for w in (SCALES[:2] if quick else SCALES)
    ]
    made.append(Job("sweep-1.5-ancestral", sweep, {**common, "scale": 1.5, "sampler": "graph"}, 7.0))
    each = 2 if quick else 60
    for names in (*((n,) for n in NAMES), *PAIRS):
        quantiles = list(QUANTILES[:: 4 if quick else 1])
        cells = len(quantiles) ** len(names)
        settings = {
            "model": MODEL,
            "names": list(names),
            "quantiles": quantiles,
            "each": max(2, each // len(names)),
            "scale": 1.5,
            "steps": steps,
            "sampler": SAMPLER,
        }
        made.append(Job(f"control-{'-'.join(names)}", control, settings, 0.0035 * cells * settings["each"]))
    length: dict[str, Any] = {"steps": 4, "train": {"batch_size": 8}} if quick else {"steps": 1700}
    for name, changes in VARIANTS.items():
        for seed in range(2 if name in TWICE and not quick else 1):
            settings = {
                "changes": changes,
                "seed": seed,
                "num": num,
                "sampling_steps": steps,
                "scales": [1.0, 2.0],
                **length,
            }
            made.append(Job(f"variant-{name.replace(', ', '-')}-{seed}", variant, settings, 9.0))
    return made
