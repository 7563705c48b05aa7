"""Small data, small configs, and how two runs are compared: everything but the clock."""

import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import warm

from studio.cli.main import main

ROOT = Path(__file__).parents[2]
CLOCK = ("elapsed", "samples_per_s", "memory_mb")
CLASSES = ("bar", "dot", "ring", "wedge")


def write_pictures(
    path: Path, *, count: int = 64, size: int = 8, classes: int = 4, channels: int = 1, seed: int = 0
) -> Path:
    """An .npz of uint8 pictures whose class is the quarter that is bright."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = rng.integers(0, 60, (count, size, size, channels), dtype=np.uint8)
    half = size // 2
    for i, y in enumerate(labels):
        r, c = divmod(int(y) % 4, 2)
        images[i, r * half : (r + 1) * half, c * half : (c + 1) * half] += 180
    np.savez(
        path,
        images=images[..., 0] if channels == 1 else images,
        labels=labels,
        classes=np.array(CLASSES[:classes]),
    )
    return path


def dit_config(npz: Path, **train: Any) -> dict[str, Any]:
    """A two-block DiT on an .npz; ``train`` overrides its section."""
    return {
        "name": "tiny",
        "seed": 3,
        "data": {"name": "npz", "path": str(npz), "held_out": 0.25},
        "backbone": {"name": "dit", "hidden_size": 32, "depth": 2, "num_heads": 2, "patch_size": 2},
        "objective": {"path": "linear", "parameterization": "velocity", "cond_drop": 0.3},
        "train": {
            "steps": 12,
            "batch_size": 8,
            "lr": 2e-3,
            "warmup": 3,
            "ema": ["0.99", "power-6"],
            "dtype": "fp32",
            "log_every": 100,  # one line: of two or more a curve is drawn, which takes longer than the run
            "eval_every": 0,
            "eval_samples": 16,
            "save_every": 5,
            "keep_last": 100,
            "preview": False,
            **train,
        },
        "sample": {"sampler": "ab2", "num_steps": 4, "guidance": "cfg=1.5,interval=0.1:0.9"},
    }


def points_config(kind: str = "eight_gaussians", *, labels: bool = False, **train: Any) -> dict[str, Any]:
    """A narrow MLP on points in the plane."""
    return {
        "name": "dots",
        "data": {"name": "points", "kind": kind, "count": 512, "labels": labels},
        "backbone": {"name": "mlp", "width": 32, "depth": 1},
        "objective": {"path": "linear", "parameterization": "velocity"},
        "train": {
            "steps": 8,
            "batch_size": 32,
            "lr": 2e-3,
            "warmup": 2,
            "ema": ["0.9"],
            "dtype": "fp32",
            "log_every": 100,
            "eval_every": 0,
            "save_every": 0,
            "preview": False,
            **train,
        },
        "sample": {"sampler": "heun", "num_steps": 4, "guidance": ""},
    }


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without times and memory."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in lines]


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Places where two trees of tensors and plain values differ, bit for bit."""
    if isinstance(a, dict) and isinstance(b, dict):
        if set(a) != set(b):
            return [f"{where}: keys {set(a) ^ set(b)}"]
        return [d for k in a for d in differences(a[k], b[k], f"{where}/{k}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b):
            return [f"{where}: lengths {len(a)}, {len(b)}"]
        return [d for i, (x, y) in enumerate(zip(a, b)) for d in differences(x, y, f"{where}/{i}")]
    if isinstance(a, torch.Tensor):
        return [] if isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b) else [where]
    return [] if a == b else [f"{where}: {a!r}, {b!r}"]


def checkpoint_differences(a: Path, b: Path) -> list[str]:
    """Between two checkpoint folders: names, bytes of every file but state.pt and meta.json, and all of
    state.pt but the clock."""
    names = sorted(p.name for p in a.iterdir())
    found = (
        []
        if names == sorted(p.name for p in b.iterdir())
        else [f"files {names}, {sorted(p.name for p in b.iterdir())}"]
    )
    found += [
        n
        for n in names
        if n not in ("state.pt", "meta.json")
        and (b / n).is_file()
        and (a / n).read_bytes() != (b / n).read_bytes()
    ]
    one, two = (torch.load(p / "state.pt", weights_only=True) for p in (a, b))
    return found + differences(*({k: v for k, v in s.items() if k != "elapsed"} for s in (one, two)), "state")


def checkpoints(run: Path) -> list[int]:
    """Steps that have a checkpoint folder."""
    return sorted(int(p.name) for p in (run / "checkpoints").iterdir() if p.name.isdigit())


def last_checkpoint(run: Path) -> Path:
    return run / "checkpoints" / f"{checkpoints(run)[-1]:09d}"


def killed(run: Path, to: Path, at: int) -> Path:
    """A copy of a run as a kill after its checkpoint ``at`` leaves it."""
    shutil.copytree(run, to)
    for step in checkpoints(to):
        if step > at:
            shutil.rmtree(to / "checkpoints" / f"{step:09d}")
    return to


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file by its relative name; to see that nothing was written or lost."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def environment() -> dict[str, str]:
    """For subprocesses: the packages of this checkout, no colours."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "CLICOLOR_FORCE")}
    return inherited | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"}


def studio_words(*arguments: Any) -> list[str]:
    return ["-m", "studio", *map(str, arguments)]


def start_studio(*arguments: Any, cwd: Path | None = None) -> warm.Process:
    """``python -m studio ARGUMENTS`` as a process of its own, to be signalled."""
    return warm.Process(studio_words(*arguments), cwd=cwd or Path.cwd(), env=environment())


def run_studio(*arguments: Any, cwd: Path, process: bool = False) -> "subprocess.CompletedProcess[str]":
    """``python -m studio ARGUMENTS`` to its end: by default within this process, which has torch loaded
    already; else as a ``process`` of its own."""
    if process:
        return warm.run(studio_words(*arguments), cwd=cwd, env=environment())
    here, threads, variables, random_state = (
        os.getcwd(),
        torch.get_num_threads(),
        dict(os.environ),
        torch.get_rng_state(),
    )
    out, error, code = io.StringIO(), io.StringIO(), 0
    try:
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment())
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            try:
                main([str(a) for a in arguments])
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            except Exception:
                traceback.print_exc()
                code = 1
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(variables)
        torch.set_num_threads(threads)
        torch.set_rng_state(random_state)
    return subprocess.CompletedProcess(list(map(str, arguments)), code, out.getvalue(), error.getvalue())


def kill_until_done(
    start: Callable[[], warm.Process],
    trace: Callable[[], Any],
    rng: random.Random,
    most: int,
    longest: float,
) -> int:
    """Start, kill −9 up to ``longest`` seconds after ``trace()`` first changes, ``most`` times, then let it
    run to its end. Returns the number of kills."""
    kills = 0
    while True:
        process = start()
        if kills < most:
            before, end = trace(), time.monotonic() + 120
            while trace() == before and process.poll() is None:
                assert time.monotonic() < end, "the process makes no progress"
                time.sleep(0.01)
            time.sleep(rng.uniform(0.0, longest))
        if kills < most and process.poll() is None:
            process.kill()
            process.communicate()
            kills += 1
            continue
        _, error = process.communicate(timeout=240)
        assert process.returncode == 0, error
        return kills


def tiny_vae(folder: Path, **options: Any) -> Path:
    """Pictures (3, 2s, 2s) ↔ latents (4, s, s), random weights."""
    config = {
        "block_out_channels": (8, 8),
        "norm_num_groups": 4,
        "latent_channels": 4,
        "layers_per_block": 1,
        "scaling_factor": 0.3,
    } | options
    from diffusers import AutoencoderKL

    with torch.random.fork_rng():
        torch.manual_seed(5)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **config
        )
    vae.save_pretrained(folder)
    return folder
