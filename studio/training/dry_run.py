"""``--dry-run``: what a run would be and cost, from a few of its own steps, which are thrown away. Nothing is
written; what training would refuse is refused."""

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studio.checkpoints import checkpoint
from studio.config import Config, load_config
from studio.data.simulated import endless
from studio.runtime import files
from studio.runtime.progress import duration, memory_mb
from studio.training.loop import Trainer
from studio.training.prepare import prepared
from studio.training.run_folder import check_folder, check_source, folder_of, run_of
from studio.training.tracking import accelerates

# timed steps at most, after a first one, and the seconds after which no further one begins
STEPS, PATIENCE = 8, 10.0


def of_training(
    source: str | Path | Mapping[str, Any] | Config,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    start_from: str | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """The resolved config as ``yaml``, sizes, and seconds, megabytes and steps as measured and reckoned.
    Raises whatever `studio.train` would, before it trains."""
    if resume:
        check_source(source)
    folder = folder_of(source, overrides, out, resume)
    check_folder(
        folder,
        resume,
        overwrite,
        load_config(source, overrides) if out is None and run_of(source) is None else None,
    )
    trackers = load_config(folder / "config.yaml" if resume else source, overrides).train.trackers
    accelerates(trackers)
    trainer = prepared(
        source, [*overrides, "train.trackers=[]"], folder, resume=resume, start_from=start_from, device=device
    )
    config = replace(trainer.config, train=replace(trainer.config.train, trackers=trackers))
    seconds = _step_seconds(trainer)
    there = checkpoint.listing(folder) if resume else []
    done = int(there[-1].name) if there else 0
    data, train = trainer.data, config.train
    forward = seconds / train.batch_size / 3  # a step is a forward pass and a backward one of twice the work
    held = min(train.eval_samples, len(data.held_out) if data.held_out is not None else 0)
    losses = 10 * held * (1 + len(train.ema)) * forward
    grid = (
        20 * config.sample.num_steps * (2 if config.sample.guidance and data.conditions else 1) * forward
        if train.preview
        else 0.0
    )
    # seconds a step
    looking = (losses / train.eval_every if train.eval_every else 0) + (
        grid / train.save_every if train.save_every else 0
    )
    if train.steps is not None:
        steps = max(0, train.steps - done)
        total = steps * (seconds + looking) + grid
    else:
        spent = checkpoint.read_meta(there[-1]).get("elapsed", 0.0) if there else 0.0
        left = max(0.0, 60 * (train.minutes or 0) - spent)
        steps, total = int(left / (seconds + looking)), left + grid
    each = _checkpoint_bytes(trainer)
    disk = each * _kept(train, done + steps)
    return {
        "yaml": config.yaml(),
        "run": str(folder),
        "parameters": sum(p.numel() for net in trainer.learner.networks.values() for p in net.parameters()),
        "samples": "simulated as training goes" if endless(data.train) else len(data.train),
        "held_out": len(data.held_out) if data.held_out is not None else 0,
        "classes": list(data.classes),
        **({"from": start_from} if start_from else {}),
        "step_seconds": round(seconds, 4),
        "steps": steps,
        "epochs": 0.0 if endless(data.train) else round(steps * train.batch_size / len(data.train), 1),
        "total_seconds": round(total, 1),
        "memory_mb": round(_peak_mb(trainer.device)),
        "checkpoint_mb": round(each / 1e6, 1),
        "disk_mb": round(disk / 1e6, 1),
        "free_disk_mb": round(files.free(folder) / 1e6),
    }


def lines(result: Mapping[str, Any]) -> list[str]:
    """What `of_training` found, for the eye."""
    times = f" ({result['epochs']:,} times through the data)" if result["epochs"] else ""
    told = {
        "time": f"{result['step_seconds']:.3g} s a step, {result['steps']:,} steps{times}: "
        f"{duration(result['total_seconds'])} in all",
        "memory": f"{result['memory_mb']:,} MB",
        "disk": f"{result['disk_mb']:,} MB of checkpoints at the most, {result['checkpoint_mb']:,} MB each; "
        f"{result['free_disk_mb']:,} MB are free",
    }
    if result["disk_mb"] > result["free_disk_mb"]:
        told["disk"] += ", which is too little: make room, choose another --out or a smaller train.keep_last"
    measured = (
        "yaml",
        "step_seconds",
        "steps",
        "epochs",
        "total_seconds",
        "memory_mb",
        "checkpoint_mb",
        "disk_mb",
        "free_disk_mb",
    )
    return [
        result["yaml"],
        *(f"{k}: {v}" for k, v in {**{k: v for k, v in result.items() if k not in measured}, **told}.items()),
    ]


def _step_seconds(trainer: Trainer) -> float:
    """The median of a few steps of the first phase, batches and averages included."""
    phase = trainer.phases()[0]
    streams, taken, began = trainer.streams(phase), [], time.monotonic()
    for _ in range(STEPS + 1):
        start = time.monotonic()
        trainer.train_step(phase, streams)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)
        taken.append(time.monotonic() - start)
        if time.monotonic() - began > PATIENCE:
            break
    return statistics.median(taken[1:] or taken)


def _checkpoint_bytes(trainer: Trainer) -> int:
    """Of the networks, their averages and the optimisers' moments, as they are after a step."""
    weights = sum(
        t.numel() * t.element_size()
        for net in trainer.learner.networks.values()
        for t in net.state_dict().values()
    )
    averages = sum(t.numel() * 4 for shadow in trainer.learner.ema.shadow.values() for t in shadow)
    return weights + averages + sum(t.numel() * t.element_size() for t in _tensors(trainer.learner.state()))


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping | list | tuple):
        for value in tree.values() if isinstance(tree, Mapping) else tree:
            yield from _tensors(value)


def _kept(train: Any, steps: int) -> int:
    """Checkpoints that lie there at the most, with the one that is being written."""
    saved = (steps // train.save_every if train.save_every else 0) + 1
    return (
        min(saved, train.keep_last)
        + (steps // train.keep_every if train.keep_every else 0)
        + int(train.weak_snapshot)
        + 1
    )


def _peak_mb(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else memory_mb()
