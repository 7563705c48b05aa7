"""DiT, DiS and Diffusion-RWKV at equal wall-clock minutes, parameters, data and objective: what each has
learned when, and what a step costs.

The trunks differ, the convolutional frame around them is the same. A run is looked at from its checkpoints at
a quarter, half, three quarters and the end of its minutes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from backbones import Cond
from studio.checkpoints import checkpoint
from studio.data import load_data
from studio.metrics.point_sets import energy_distance
from studio.model.loading import load
from studio.model.model import Model
from studio.reproduce import pictures, steered
from studio.reproduce.jobs import Job, Outcome, Unfinished
from studio.reproduce.linear_cost import kept_mb
from studio.training.run import train

FRAME = {"stem_channels": [24, 64], "stem_blocks": 2}
NETWORKS: dict[str, dict[str, Any]] = {
    "DiT": {"name": "dit", "hidden_size": 160, "depth": 4, "num_heads": 4, **FRAME},
    "DiS": {"name": "dis", "hidden_size": 192, "depth": 4, **FRAME},
    "RWKV": {"name": "rwkv", "hidden_size": 176, "depth": 3, **FRAME},
}
SHARES = (0.25, 0.5, 0.75, 1.0)
EMOJI = "data/emoji32.npz"


def trained(settings: Mapping[str, Any], work: Path, data: dict[str, Any]) -> Path:
    """The run of one network with all of its checkpoints. Raises `Unfinished` when a signal stopped it."""
    length = {k: settings[k] for k in ("minutes", "steps") if k in settings}
    objective = {
        "path": "linear",
        "parameterization": "velocity",
        "times": {"name": "logit_normal", "mean": -0.4, "std": 1.0},
        "cond_drop": 0.1,
    }
    config = pictures.config(
        {**length, "seed": settings["seed"], "objective": objective, "batch_size": settings["batch_size"]}
    )
    config |= {"data": data, "backbone": dict(NETWORKS[settings["network"]])}
    every = max(1, settings.get("steps", 400) // 4) if "steps" in settings else 100
    config["train"] |= {"save_every": every, "eval_every": every, "eval_samples": 256, "keep_last": 10**6}
    folder = work / "run"
    run = train(config, out=folder, resume=(folder / "config.yaml").is_file(), quiet=True)
    if run.interrupted:
        raise Unfinished(f"stopped at step {run.step}")
    return folder


def looks(folder: Path) -> list[tuple[float, int]]:
    """(minutes, step) of the checkpoints nearest to the shares of the run."""
    there = [(checkpoint.read_meta(p)["elapsed"] / 60, int(p.name)) for p in checkpoint.listing(folder)]
    return [min(there, key=lambda pair: abs(pair[0] - share * there[-1][0])) for share in SHARES]


def losses(folder: Path) -> np.ndarray:
    """(K, 3): step, minutes, held-out loss of the averaged weights."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [
        (
            line["step"],
            line["elapsed"] / 60,
            next(v for k, v in line.items() if k.startswith("held_out_ema") and not k.endswith("bins")),
        )
        for line in lines
        if "held_out" in line
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def about(model: Model, folder: Path, batch: int) -> dict[str, Any]:
    """Parameters, steps, seconds a step, and megabytes that a forward pass of a batch keeps."""
    last = checkpoint.read_meta(checkpoint.listing(folder)[-1])
    net = model.denoiser.net
    net.requires_grad_(True)
    cond = Cond(label=torch.zeros(batch, dtype=torch.int64)) if model.classes else Cond()
    kept = kept_mb(net, torch.zeros(batch, *model.info.shape), torch.zeros(batch), cond)
    return {
        "parameters": sum(p.numel() for p in net.parameters()),
        "steps": last["step"],
        "seconds_per_step": last["elapsed"] / last["step"],
        "kept": kept,
        "threads": torch.get_num_threads(),
    }


def fashion(settings: Mapping[str, Any], work: Path) -> Outcome:
    """``fd@SHARE`` and ``acc@SHARE`` of 28×28 pictures, and the curve of the held-out loss."""
    folder = trained(settings, work, {"name": pictures.DATA})
    reference = pictures.real()
    values: dict[str, Any] = {}
    how = {"num_steps": settings["sample_steps"], "guidance": None}
    for share, (minutes, step) in zip(SHARES, looks(folder)):
        found = steered.measured(load(f"{folder}@{step}"), reference, how, settings["num"], ("fd", "acc"))
        values |= {
            f"fd@{share}": found["fd"],
            f"acc@{share}": found["acc"],
            f"minutes@{share}": minutes,
            f"step@{share}": step,
            "fd_real": found["fd_real"],
        }
    model = load(folder)
    samples = model.sample(seeds=range(20), labels=[i % 10 for i in range(20)], **how)
    curve = losses(folder)
    return {**values, "held_out": float(curve[-1, 2]), **about(model, folder, settings["batch_size"])}, {
        "pictures": samples.values.numpy(),
        "losses": curve,
    }


def emoji(settings: Mapping[str, Any], work: Path) -> Outcome:
    """Twemoji from noise: energy distance of 8×8×3 averages between samples and held-out drawings, and the
    curve of the held-out loss."""
    data = load_data({"name": "emoji", "path": settings["path"]})
    np.savez(work / "twemoji.npz", images=data.train.values.transpose(0, 2, 3, 1))
    folder = trained(settings, work, {"name": "npz", "path": str((work / "twemoji.npz").resolve())})
    truth = torch.from_numpy(data.held_out.values)
    values: dict[str, Any] = {}
    model = load(folder)
    for share, (minutes, step) in zip(SHARES, looks(folder)):
        samples = (
            load(f"{folder}@{step}")
            .sample(seeds=range(settings["num"]), num_steps=settings["sample_steps"], guidance=None)
            .values
        )
        coarse = [F.avg_pool2d(v.float(), 4).flatten(1).double() / 255 for v in (samples, truth)]
        values |= {
            f"energy@{share}": energy_distance(*coarse),
            f"minutes@{share}": minutes,
            f"step@{share}": step,
        }
    halves = [
        F.avg_pool2d(torch.from_numpy(v).float(), 4).flatten(1).double() / 255
        for v in (data.held_out.values, data.train.values[:: max(1, len(data.train) // 1000)])
    ]
    curve = losses(folder)
    return {
        **values,
        "energy_real": energy_distance(*halves),
        "held_out": float(curve[-1, 2]),
        **about(model, folder, settings["batch_size"]),
    }, {"pictures": samples[:20].numpy(), "losses": curve}


def jobs(quick: bool) -> list[Job]:
    length: dict[str, Any] = (
        {"steps": 4, "batch_size": 8, "num": 40, "sample_steps": 3}
        if quick
        else {"batch_size": 64, "num": 1000, "sample_steps": 20}
    )
    made = []
    for seed in range(1 if quick else 2):
        for network in NETWORKS:
            made.append(
                Job(
                    f"fashion-{network}-{seed}",
                    fashion,
                    {"network": network, "seed": seed, **length, **({} if quick else {"minutes": 8.0})},
                    8.6,
                )
            )
    if not quick:  # 399 drawings are held out
        made += [
            Job(
                f"emoji-{n}-0",
                emoji,
                {"network": n, "seed": 0, "path": EMOJI, **length, "num": 400, "minutes": 15.0},
                15.9,
            )
            for n in NETWORKS
        ]
    return made
