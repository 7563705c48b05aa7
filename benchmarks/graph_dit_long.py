"""The long form of `benchmarks.graph_dit`: both sides trained, asked and judged, as jobs whose results are
kept, so that a run that was stopped goes on.

Each side's guidance scale is the one with the lowest error over 200 held-out targets of their own, asked of
the networks of seed 0 and taken after the published correction, so that more of the molecules count; the
1,000 targets of the figures come after that.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import studio
from benchmarks.graph_dit_sides import Peer, arrays, config, training_file
from studio.chem.toolkit import read_smiles
from studio.data import load_data
from studio.metrics import molecules as measures
from studio.reproduce import graph_control
from studio.reproduce.graph_control import SCALES, held_out, made
from studio.reproduce.jobs import Job, Outcome, Result, Unfinished, run_jobs

SIDES = {"ours": "ours", "torch-molecule": "peer", "torch-molecule, time repaired": "peer_repaired"}
STEPS, TARGETS, PICKS = 200, 1000, 200
RAW, CORRECTED, THEIRS = "our decoding", "our decoding, corrected", "their decoding"


def train_ours(settings: Mapping[str, Any], work: Path) -> Outcome:
    folder = work.parent / f"ours-{settings['seed']}"
    run = studio.train(
        config(settings["seed"], settings["minutes"], STEPS),
        out=folder,
        resume=(folder / "config.yaml").is_file(),
        quiet=True,
    )
    if run.interrupted:
        raise Unfinished(f"stopped at step {run.step}")
    parameters = sum(p.numel() for p in run.load().denoiser.net.parameters())  # type: ignore[union-attr]
    return {"steps": run.step, "parameters": parameters}, {}


def train_peer(settings: Mapping[str, Any], work: Path) -> Outcome:
    """Not to be interrupted: the package keeps nothing of a training before its end."""
    file = training_file(load_data(dict(graph_control.DATA)), work)
    peer = Peer(torch.get_num_threads(), settings["seed"], data=str(file), timesteps=STEPS)
    found = peer.ask(do="train", minutes=settings["minutes"])
    peer.ask(do="save", path=str(work.parent / f"peer-{settings['seed']}.pt"))
    peer.close()
    return found, {}


def targets(num: int) -> np.ndarray:
    """(num, 3): the first held-out properties, or those after them for choosing a scale."""
    return held_out(TARGETS)[:num] if num != PICKS else held_out(TARGETS + PICKS)[TARGETS:]


def ask(settings: Mapping[str, Any], work: Path) -> Outcome:
    """``graphs`` (N, n, n + 1) for targets, and of the peer the SMILES that it decodes itself, empty where it
    has none."""
    side, seed, scale, asked = settings["side"], settings["seed"], settings["scale"], targets(settings["num"])
    if side == "ours":
        model = studio.load(work.parent / f"ours-{seed}")
        graphs, seconds = made(model, asked, scale=scale, steps=STEPS, seed=seed)
        return {"seconds": seconds, "atoms": list(model.codec.atoms)}, {"graphs": graphs.astype(np.uint8)}
    data = load_data(dict(graph_control.DATA))
    labels = ((asked - np.array(data.numeric_mean)) / np.array(data.numeric_std)).tolist()
    peer = Peer(torch.get_num_threads(), saved=str(work.parent / f"peer-{seed}.pt"))
    answer = peer.ask(
        do="generate", labels=labels, scale=scale, repaired="repaired" in side, seed=seed, batch=128
    )
    peer.close()
    graphs = arrays(answer, data.codec["atoms"], data.codec["size"])
    return {"seconds": answer["seconds"], "atoms": data.codec["atoms"]}, {
        "graphs": graphs,
        "smiles": np.array([s or "" for s in answer["smiles"]]),
    }


def molecules(result: Result) -> dict[str, list[Any]]:
    """Decoded by our code, without and with the published correction, and of the peer by its own."""
    atoms, graphs = result.values["atoms"], result.arrays["graphs"]
    found = {RAW: measures.decoded(graphs, atoms), CORRECTED: measures.decoded(graphs, atoms, correct=True)}
    return (
        {**found, THEIRS: [_molecule(s) for s in result.arrays["smiles"].tolist()]}
        if "smiles" in result.arrays
        else found
    )


def _molecule(smiles: str) -> Any:
    try:
        return read_smiles(smiles) if smiles else None
    except ValueError:
        return None


def run(folder: Path, *, minutes: float, seeds: int) -> dict[str, Any] | None:
    """Everything the figures come from; None where a signal stopped it."""

    def told(result: Result, done: int, total: int) -> None:
        print(f"{result.name}: {result.seconds / 60:.1f} minutes", json.dumps(result.values), flush=True)

    def asking(side: str, seed: int, scale: float, num: int) -> Job:
        settings = {"side": side, "seed": seed, "scale": scale, "num": num, "minutes": minutes}
        return Job(f"{SIDES[side]}-{seed}-{scale:g}-{num}", ask, settings)

    trainings = [
        Job(f"train-{fn.__name__[6:]}-{s}", fn, {"seed": s, "minutes": minutes}, minutes)
        for s in range(seeds)
        for fn in (train_ours, train_peer)
    ]
    trained = run_jobs(trainings, folder, on_done=told)
    picked = trained and run_jobs(
        [asking(side, 0, scale, PICKS) for side in SIDES for scale in SCALES], folder, on_done=told
    )
    if not trained or not picked:
        return None
    data = load_data(dict(graph_control.DATA))
    std = np.array(data.numeric_std)
    real = [
        s
        for s in measures.smiles_of(measures.decoded(data.held_out.values, data.codec["atoms"]))
        if s is not None
    ]

    def row(result: Result, how: str, mols: list[Any]) -> dict[str, Any]:
        asked = targets(result.settings["num"])
        judged, _ = graph_control.judged(mols, asked, std)
        enough = sum(m is not None for m in mols) > 1  # for a covariance
        fcd = (
            {"fcd": measures.fcd(measures.smiles_of(mols), real)} if enough and len(asked) == TARGETS else {}
        )
        about = {k: result.settings[k] for k in ("side", "seed", "scale", "num")}
        return {**about, "decoded": how, **judged, **fcd}

    picks = [row(r, how, molecules(r)[how]) for r in picked.values() for how in (RAW, CORRECTED)]
    best = {
        side: min(
            (p for p in picks if p["side"] == side and p["decoded"] == CORRECTED),
            key=lambda p: p.get("mae", np.inf),
        )["scale"]
        for side in SIDES
    }
    final = run_jobs(
        [asking(side, seed, best[side], TARGETS) for seed in range(seeds) for side in SIDES],
        folder,
        on_done=told,
    )
    if not final:
        return None
    rows = [row(r, how, mols) for r in final.values() for how, mols in molecules(r).items()]
    return {
        "minutes": minutes,
        "seeds": seeds,
        "molecules": TARGETS,
        "steps": STEPS,
        "machine": next(iter(final.values())).machine,
        "trained": {name: r.values for name, r in trained.items()},
        "picks": picks,
        "rows": rows,
    }


def summary(found: Mapping[str, Any]) -> dict[str, float]:
    """Means over the seeds that have the figure, decoded by our code without correction, with it
    (``_corrected``) and of the peer by its own (``_own_decoding``); NaN where no seed has it."""
    out: dict[str, float] = {}
    for side, key in SIDES.items():
        for how, end in ((RAW, ""), (CORRECTED, "_corrected"), (THEIRS, "_own_decoding")):
            own = [r for r in found["rows"] if r["side"] == side and r["decoded"] == how]
            for measure, name in (
                (("valid", "validity"), ("connected", "connected"), ("fcd", "fcd"), ("mae", "mae"))
                if own
                else ()
            ):
                told = [r[measure] for r in own if not np.isnan(r.get(measure, np.nan))]
                out[f"{name}{end}_{key}"] = float(np.mean(told)) if told else float("nan")
        out[f"scale_{key}"] = next(r["scale"] for r in found["rows"] if r["side"] == side)
    return out
