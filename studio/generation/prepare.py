"""What `studio generate` is asked for, checked and completed before anything is written: the plan, the form
of its files, the processes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from backbones.registry import plain
from guidance.grammar import CUSTOM
from studio.generation import store as stores
from studio.generation.plan import MANIFEST, Plan, continued, make_plan, ranges
from studio.model.loading import load
from studio.model.model import Model
from studio.runtime.devices import cores
from studio.runtime.launch import launched, shard_of
from studio.sampling import sampler_spec

SMALL = 256  # below this many missing samples further processes are not worth their start


@dataclass(frozen=True)
class Prepared:
    """A checked call. ``part``: shard k of n; ``rank`` of ``world`` processes of a launcher; ``workers``:
    local processes, at most; ``job``: what each of them is told."""

    plan: Plan
    store: stores.Store
    folder: Path
    form: str
    part: tuple[int, int]
    rank: int
    world: int
    workers: int
    threads: int | None
    few: bool
    job: Mapping[str, Any]

    def processes(self, left: int) -> int:
        """Local ones for so many samples that are missing: with ``few``, one where further ones are not worth
        their start."""
        return 1 if self.few and left < SMALL else self.workers


def prepared(
    model: str | Model,
    out: str | Path,
    *,
    num: int | None = None,
    seeds: Any = None,
    labels: Any = None,
    conditions: Mapping[str, Any] | None = None,
    num_steps: int | None = None,
    guidance: Any = "default",
    sampler: Any = None,
    batch: int | str = "auto",
    format: str | None = None,
    deterministic: bool = False,
    overwrite: bool = False,
    weights: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    workers: int | str = "auto",
    shard: str | None = None,
    path: str = "",
    plan: str = "none",
    cache_limit: int | str | None = None,
    attention: str = "auto",
) -> Prepared:
    """The options are those of `studio.generate`. Raises ``ValueError`` for what does not fit; nothing is
    written."""
    part = parse_shard(shard)
    if threads is not None and threads < 1:
        raise ValueError(f"got threads={threads}, expected at least 1")
    if (line := sampler_spec.said(sampler)) != CUSTOM:  # which the plan refuses
        sampler = line
    labels = labels.tolist() if hasattr(labels, "tolist") else labels
    conditions = {k: plain(v) for k, v in (conditions or {}).items()}  # workers read them as JSON
    if deterministic:
        threads = threads or 1
    rank, world = (0, 1) if shard == "env" else launched()
    device = _device(device, world, alone=shard == "env")
    loaded = (
        model
        if isinstance(model, Model)
        else load(model, weights=weights, device=device, dtype=dtype, attention=attention)
    )
    loaded = loaded.on_path(path) if path else loaded
    if plan != "none" or cache_limit is not None:
        loaded = loaded.planned(loaded.plan if plan == "none" else plan, cache_limit)
    size = parse_batch(batch, loaded)
    made = make_plan(
        loaded,
        num=num,
        seeds=seeds,
        labels=labels,
        conditions=conditions,
        num_steps=num_steps,
        guidance=guidance,
        sampler=sampler,
        batch=size,
        deterministic=deterministic,
        threads=threads,
    )
    folder = Path(out)
    form = _format(format, made, folder, overwrite)
    loaded.task.ready()
    made = made if overwrite else continued(made, folder, sampler)
    count = _workers(workers, model, loaded, world, threads)
    store = stores.store_of(folder / ".parts" if form == "npz" else folder, made, form)
    job = {
        "model": loaded.name if isinstance(model, Model) else str(model),
        "sampler": made.request.sampler,
        "path": path,
        "plan": loaded.plan,
        "cache_limit": loaded.cache_limit,
        "attention": loaded.attention,
        "weights": weights,
        "device": device,
        "dtype": dtype,
        "options": {
            "num": made.num,
            "seeds": ranges(made.seeds) if seeds is not None else None,
            "labels": labels,
            "conditions": conditions,
            "num_steps": made.request.num_steps,
            "guidance": made.request.guidance,
            "sampler": sampler,
            "batch": size,
            "deterministic": deterministic,
        },
        "threads": threads or max(1, cores() // count),
        "root": str(store.root),
        "form": form,
    }
    return Prepared(made, store, folder, form, part, rank, world, count, threads, workers == "auto", job)


def parse_shard(text: str | None) -> tuple[int, int]:
    """``"3/8"`` to (3, 8); ``env``: as the environment says. Raises ``ValueError`` for anything but K/N with
    1 ≤ K ≤ N."""
    if text is None:
        return 1, 1
    if text == "env":
        return shard_of(os.environ)
    k, slash, n = text.partition("/")
    if not (slash and k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n)):
        raise ValueError(f"got shard {text!r}, expected K/N with K from 1 to N, such as 3/8, or env")
    return int(k), int(n)


def number(name: str) -> str:
    """A variable of the environment that is a whole number; "" for any other."""
    text = os.environ.get(name, "")
    return text if text.isdecimal() else ""


def _device(device: str, world: int, *, alone: bool) -> str:
    """Each process of a machine its own GPU."""
    place = number("LOCAL_RANK") or (number("SLURM_LOCALID") if alone else "")
    if (world > 1 or alone) and device in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{int(place or 0) % torch.cuda.device_count()}"
    return device


def parse_batch(batch: int | str, model: Model) -> int:
    if batch == "auto":
        return 256 if model.device.type == "cuda" else 64
    batch = plain(batch)
    if not str(batch).isdigit() or int(batch) < 1:
        raise ValueError(f"got batch={batch}, expected auto or a number of at least 1")
    return int(batch)


def _format(format: str | None, plan: Plan, folder: Path, overwrite: bool) -> str:
    pictures, archives = plan.model.task.one_each, not overwrite and stores.in_archives(folder)
    if format is None:
        return "tar" if archives and pictures else "png" if pictures else "both"
    if format not in ("png", "npz", "both", "tar"):
        raise ValueError(f"got format {format!r}, expected png, npz or both, or tar")
    if not pictures and format in ("png", "tar"):
        raise ValueError(f"got format {format!r}, but these samples are no pictures; expected npz")
    single = (
        not overwrite and not archives and (folder / MANIFEST).is_file() and any(folder.glob("[0-9]*/*.png"))
    )
    if archives and format != "tar" or single and format == "tar":
        there = "archives" if archives else "single pictures"
        raise ValueError(
            f"got format {format!r}, but {folder} holds its samples as {there}; leave --format out, "
            "choose another --out, or pass --overwrite"
        )
    return format if pictures else "both"


def _workers(workers: int | str, name: str | Model, model: Model, world: int, threads: int | None) -> int:
    if workers != "auto" and (not str(workers).isdigit() or int(workers) < 1):
        raise ValueError(f"got workers={workers}, expected auto or a number of at least 1")
    loadable = not isinstance(name, Model)
    if workers != "auto" and int(workers) > 1 and (world > 1 or not loadable):
        reason = (
            "torchrun already started several processes"
            if world > 1
            else "a model object cannot be loaded again by other processes"
        )
        raise ValueError(f"got workers={workers}, but {reason}; leave --workers out")
    if workers != "auto":
        return int(workers)
    return max(1, cores() // (threads or 1)) if loadable and world == 1 and model.device.type == "cpu" else 1
