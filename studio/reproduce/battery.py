"""The jobs of `studio reproduce battery`: lives of simulated cells by the bundled model, and by further ones
of its config, beside the exact posterior, curves that are made of no cell in particular, and lives of real
cells where a file of them is named."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from studio.data.npz_files import opened
from studio.model.loading import load as load_model
from studio.recipes.battery import simple
from studio.recipes.battery.cells import end_of_life
from studio.recipes.battery.measured import finished
from studio.recipes.battery.measures import foretold, health_error, interval
from studio.recipes.battery.predicting import kept_to_the_bit, predicted
from studio.recipes.battery.source import apart
from studio.recipes.battery.synthesis import gain, likeness
from studio.reproduce.jobs import Job, Outcome, Unfinished
from studio.runtime import files
from studio.training.run import train as train_model

FILE = (
    "BATTERY_FILE"  # the variable that names real cells: soh, valid_len, dataset, cond, capacity_matrix_20x50
)
MATRIX = "capacity_matrix_20x50"
NEW = 1_000_000  # the seed of new cells
OFF = 1.0  # scale of guidance
GUIDED = (2.0,)
SEEDS, SPLITS = (1, 2), (0, 1, 2)  # of further trainings beside the bundled one, and of real cells
FEW, PUPILS = 50, 500  # simulated cells that a ridge learns from, and that it is judged by
SMALL = 0.01  # differences of capacity beyond are seen by their logarithm: sets differ a hundredfold


def simulated(settings: Mapping[str, Any], work: Path) -> Outcome:
    """One way to foretell the lives of new simulated cells."""
    from studio.tasks import build

    cells = build("battery").simulate(settings["cells"], seed=settings["seed"])
    draws, lives = settings["draws"], cells["end_of_life"]
    if settings["by"] == "exact":
        made = np.stack([build("battery").reference(m, draws, seed=i) for i, m in enumerate(cells["matrix"])])
        return {**foretold(made, lives), "dtype": "fp64"}, {"draws": made, "lives": lives}
    model = load_model("battery", device="cpu")
    matrices = np.roll(cells["matrix"], settings["moved"], axis=0)
    curves = predicted(
        model,
        matrices,
        draws,
        curves=cells["curve"],
        points=settings["points"],
        guidance=settings["guidance"],
    )
    found: dict[str, Any] = foretold(end_of_life(curves), lives)
    found["health_rmse"] = health_error(curves, cells["curve"])
    if settings["points"]:
        found["bits"] = kept_to_the_bit(curves, cells["curve"], settings["points"])
    shown = {f"curves-{i}": curves[i] for i in range(4)} | {"true": cells["curve"][:4]}
    return {**found, "dtype": "fp32"}, {"draws": end_of_life(curves), "lives": lives, **shown}


def trained(settings: Mapping[str, Any], work: Path) -> Outcome:
    """A further model of the committed config, of another seed, on the cells that the bundled one is judged
    by."""
    from studio.tasks import build

    size = [f"train.steps={settings['steps']}", f"seed={settings['seed']}", *settings["more"]]
    run = train_model(
        "battery", size, out=work / "run", resume=(work / "run").exists(), quiet=True, device="cpu"
    )
    if run.interrupted:
        raise Unfinished
    cells, model = build("battery").simulate(settings["cells"], seed=NEW), run.load(device="cpu")
    found: dict[str, Any] = {}
    for name, moved in (("", 0), ("permuted ", 1)):
        matrices = np.roll(cells["matrix"], moved, axis=0)
        made = end_of_life(predicted(model, matrices, settings["draws"]))
        found |= {name + key: value for key, value in foretold(made, cells["end_of_life"]).items()}
    return {**found, "dtype": "fp32"}, {}


def synthesis(settings: Mapping[str, Any], work: Path) -> Outcome:
    """Curves that are made, of no cell in particular or given matrices of new ones, beside simulated ones."""
    from studio.tasks import build

    simulate, count, by = build("battery").simulate, settings["count"], settings["by"]
    real, others = simulate(count, seed=NEW + 1)["curve"], simulate(count, seed=NEW + 2)
    if by == "law":
        return {**likeness(others["curve"], real), "dtype": "fp32"}, {}
    model, guidance = load_model("battery", device="cpu"), scale(settings["guidance"])
    asked: dict[str, Any] = {} if by == "nothing" else {"conditions": {"matrix": others["matrix"]}}
    made = model.sample(seeds=range(count), batch=50, guidance=guidance, **asked).values.numpy()
    found: dict[str, Any] = likeness(made, real)
    if by == "matrix":
        few, test = simulate(settings["few"], seed=NEW + 3), simulate(settings["pupils"], seed=NEW + 4)
        x, y = simple.features(few["matrix"]), simple.features(test["matrix"])
        lives = end_of_life(predicted(model, few["matrix"], 4, seed=10**6, guidance=guidance))
        told = gain(
            (x, few["end_of_life"]),
            (np.repeat(x, lives.shape[1], 0), lives.ravel()),
            (y, test["end_of_life"]),
        )
        found |= {f"ridge {name}": value for name, value in told.items()}
    return {**found, "dtype": "fp32"}, {"made": made[:100], "real": real[:100]}


def real(settings: Mapping[str, Any], work: Path) -> Outcome:
    """Real cells: trained on a part of all sets together, judged on the rest of each. Only sums leave it."""
    sets, curves, matrices, groups, ends = real_cells(Path(os.environ[FILE]))
    lives = np.minimum(end_of_life(curves), 10.0 * (ends - 1))
    train, aside, test = thirds(sets, groups, settings["seed"])
    x, matrices = simple.features(matrices), np.arcsinh(matrices / SMALL)
    np.savez(work / "train.npz", soh=curves[train], valid_len=ends[train], matrix=matrices[train])
    size = [f"train.steps={settings['steps']}", f"seed={settings['seed']}", *settings["more"]]
    run = train_model(
        "battery",
        [f"data.path={work / 'train.npz'}", "data.held_out=0", "train.eval_every=0", *size],
        out=work / "run",
        resume=(work / "run").exists(),
        quiet=True,
        device="cpu",
    )
    if run.interrupted:
        raise Unfinished
    model, values = run.load(device="cpu"), dict[str, Any]()
    made = {
        w: end_of_life(predicted(model, matrices[test], settings["draws"], guidance=scale(w)))
        for w in settings["guided"]
    }
    low, high = interval(end_of_life(predicted(model, matrices[aside], settings["draws"], seed=10**5)))
    wide = simple.widened(low, high, lives[aside])
    fit = np.concatenate([train, aside])
    line = simple.ridge(x[fit], lives[fit], x)
    mean, deviation = simple.gaussian_process(x[fit], lives[fit], x)
    for name in dict.fromkeys(sets):
        seen = np.flatnonzero(sets[test] == name)
        rows, y = test[seen], lives[test[seen]]
        values |= {f"{name}/cells": len(y), f"{name}/own mean": float(y.std())}
        here = np.array([i for i in fit if sets[i] == name])
        values[f"{name}/constant"] = rmse(np.full(len(y), lives[here].mean()), y)
        values[f"{name}/ridge"] = rmse(line[rows], y)
        values[f"{name}/gaussian process"] = rmse(np.exp(mean[rows]), y)
        off = np.abs(np.log(np.maximum(y, 1)) - mean[rows])
        values[f"{name}/gaussian process covers"] = float((off <= 1.645 * deviation[rows]).mean())
        for w, lived in made.items():
            found = foretold(lived[seen], y)
            key = f"{name}/model" if w == OFF else f"{name}/model, guidance {w:g}"
            values |= {key: found["rmse"], f"{key} covers": found["coverage"], f"{key} crps": found["crps"]}
        low, high = interval(made[OFF][seen])
        held = (low - wide <= y) & (y <= high + wide)
        values |= {f"{name}/model covers, widened": float(held.mean()), "model widened by": wide}
    values |= synthetic(model, x, matrices, lives, train, test, settings)
    return {**values, "dtype": "fp32", "file": files.sha256(Path(os.environ[FILE]))[:16]}, {}


def synthetic(
    model: Any,
    x: np.ndarray,
    matrices: np.ndarray,
    lives: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    settings: Mapping[str, Any],
) -> dict[str, float]:
    """A ridge that learns from made lives of the training cells, alone and beside the real ones, over one
    that learns from the real ones: errors on all test cells."""
    found = {"ridge/real": rmse(simple.ridge(x[train], lives[train], x[test]), lives[test])}
    for w in settings["guided"]:
        made = end_of_life(predicted(model, matrices[train], 4, seed=10**6, guidance=scale(w)))
        many, y = np.repeat(x[train], made.shape[1], 0), made.ravel()
        found[f"ridge/made, guidance {w:g}"] = rmse(simple.ridge(many, y, x[test]), lives[test])
        both, all_lives = np.concatenate([x[train], many]), np.concatenate([lives[train], y])
        found[f"ridge/real and made, guidance {w:g}"] = rmse(
            simple.ridge(both, all_lives, x[test]), lives[test]
        )
    return found


def real_cells(where: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Names of sets (N,), curves (N, 256) percent, matrices (N, 20, 50), groups (N,) of cells that were
    treated alike, and ends (N,), of an .npz."""
    with opened(where) as file:
        sets, soh, ends = (np.asarray(file[k]) for k in ("dataset", "soh", "valid_len"))
        matrices, told = file[MATRIX].astype(np.float32), file["cond"].astype(np.float64)
    alike = np.unique([f"{s} {row.round(4).tolist()}" for s, row in zip(sets, told)], return_inverse=True)[1]
    # a point that was not measured in between is that of its neighbours
    whole = np.stack([filled(row.astype(np.float64), int(end)) for row, end in zip(soh, ends)])
    found = finished(whole, ends.astype(np.int64), matrices, alike, where.name)
    assert found.matrices is not None and found.ends is not None
    return sets, found.curves, found.matrices, found.groups, found.ends


def filled(curve: np.ndarray, end: int) -> np.ndarray:
    there = np.isfinite(curve[:end])
    return np.concatenate([np.interp(np.arange(end), np.flatnonzero(there), curve[:end][there]), curve[end:]])


def thirds(sets: np.ndarray, groups: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices to train on, to widen intervals by, and to judge: of each set a third of its cells, by whole
    groups, and a sixth of the rest."""
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for name in dict.fromkeys(sets):
        own = np.flatnonzero(sets == name)
        shuffled = np.random.default_rng(seed).permutation(groups.max() + 1)[groups[own]]
        rest, tested = apart(shuffled, 1 / 3)
        kept, left = apart(shuffled[rest], 1 / 6)
        for part, rows in zip(parts, (rest[kept], rest[left], tested)):
            part.extend(own[rows])
    train, aside, test = (np.array(sorted(p)) for p in parts)
    return train, aside, test


def scale(w: float) -> float | None:
    """What `Model.sample` is told of guidance."""
    return None if w == OFF else w


def rmse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.square(a - b).mean()))


def jobs(quick: bool) -> list[Job]:
    size = {"cells": 8, "draws": 4, "seed": NEW} if quick else {"cells": 200, "draws": 32, "seed": NEW}
    plain = {"by": "model", "moved": 0, "points": 0, "guidance": None}
    ways: dict[str, dict[str, Any]] = {"exact": {"by": "exact"}, "model": plain}
    ways["permuted"] = {**plain, "moved": 1}
    ways |= {f"known-{points}": {**plain, "points": points} for points in (11, 31)}
    ways |= {f"guidance-{w:g}": {**plain, "guidance": w} for w in GUIDED}
    made = [Job(name, simulated, {**size, **way}, 2.0) for name, way in ways.items()]
    tiny = ["backbone.hidden_size=16", "backbone.depth=1", "train.batch_size=8"] if quick else []
    more = [*tiny, "train.preview=false"]
    length = {"steps": 3, "cells": 8, "draws": 4} if quick else {"steps": 4000, "cells": 200, "draws": 32}
    made += [Job(f"seed-{seed}", trained, {**length, "seed": seed, "more": more}, 12.0) for seed in SEEDS]
    amount = (
        {"count": 40, "few": 12, "pupils": 40} if quick else {"count": 1000, "few": FEW, "pupils": PUPILS}
    )
    kinds: dict[str, dict[str, Any]] = {"law": {"by": "law"}, "free": {"by": "nothing", "guidance": OFF}}
    kinds |= {f"given-{w:g}": {"by": "matrix", "guidance": w} for w in (OFF, *GUIDED)}
    for name, way in kinds.items():
        made.append(Job(f"synthesis-{name}", synthesis, {**amount, **way}, 1.0))
    if os.environ.get(FILE):
        length = {"steps": 3, "draws": 4} if quick else {"steps": 1000, "draws": 16}
        settings = {**length, "guided": [OFF, GUIDED[0]], "more": tiny}
        seeds = SPLITS[:1] if quick else SPLITS
        made += [Job(f"real-{seed}", real, {**settings, "seed": seed}, 8.0) for seed in seeds]
    return made
