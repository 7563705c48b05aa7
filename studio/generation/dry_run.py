"""``studio generate --dry-run``: what a set would cost, from a few of its own samples, which are thrown away.
Nothing is written; what generation would refuse is refused."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from studio.generation import identity
from studio.generation import store as stores
from studio.generation.encoding import encoded, threads_for
from studio.generation.plan import MANIFEST, check_claim, read_manifest
from studio.generation.prepare import Prepared, prepared
from studio.runtime import files
from studio.runtime.devices import set_threads
from studio.runtime.progress import duration

ROWS = 8  # samples that are enough to tell the pace on a CPU, which grows with them
PATIENCE = 20.0  # seconds after which the rest of the steps is reckoned


def of_generation(model: Any, out: str | Path, **options: Any) -> dict[str, Any]:
    """Seconds, megabytes and network evaluations of what is missing of a set, and of a thousand samples.
    ``options``: those of `studio.generate`, which raises the same. Local processes are taken to work side by
    side without slowing each other."""
    p = prepared(model, out, **options)
    if p.world > 1:
        raise ValueError(
            f"got --dry-run in {p.world} processes of a launcher, expected one; leave torchrun or "
            "accelerate out and give the same options"
        )
    todo = _missing(p, overwrite=bool(options.get("overwrite")))
    left = sum(stores.size_of(first, p.store, p.plan) for first in todo)
    count, before = p.processes(left), torch.get_num_threads()
    if count > 1 or p.threads:
        set_threads(p.job["threads"])
    try:
        each, queries, values, rows = _samples(p, range(todo[0] if todo else 0, p.plan.num))
        size, encoding = _size(p, values, rows)
    finally:
        torch.set_num_threads(before)
    seconds = (each + encoding) / count
    return {
        "out": str(p.folder),
        "num": p.plan.num,
        "missing": left,
        "format": p.form,
        "sampler": p.plan.request.sampler,
        "num_steps": p.plan.request.num_steps,
        "guidance": p.plan.request.guidance,
        "processes": count,
        "batch": p.plan.request.batch,
        "evaluations": round(queries, 1),
        "seconds": round(left * seconds, 1),
        "mb": round(left * size / 1e6, 1),
        "seconds_a_thousand": round(1000 * seconds, 2),
        "mb_a_thousand": round(size / 1e3, 3),
        "free_disk_mb": round(files.free(p.folder) / 1e6),
    }


def lines(result: Mapping[str, Any]) -> list[str]:
    """What `of_generation` found, for the eye."""
    r = result
    processes = f" by {r['processes']} processes" if r["processes"] > 1 else ""
    told = {
        "samples": f"{r['num']:,}, of which {r['missing']:,} are missing in {r['out']}",
        "made by": f"{r['num_steps']} steps of {r['sampler']}"
        + (f", guidance {r['guidance']}" if r["guidance"] else "")
        + f", batches of {r['batch']}",
        "time": f"{duration(r['seconds'])}{processes}",
        "disk": f"{r['mb']:,} MB as {r['format']}; {r['free_disk_mb']:,} MB are free",
        "a thousand": f"{duration(r['seconds_a_thousand'])}, {r['mb_a_thousand']:,} MB, "
        f"{1000 * r['evaluations']:,.0f} evaluations of the network",
    }
    if r["mb"] > r["free_disk_mb"]:
        told["disk"] += ", which is too little: make room, or choose another --out"
    return [f"{name}: {text}" for name, text in told.items()]


def _missing(p: Prepared, *, overwrite: bool) -> Sequence[int]:
    """Parts of this call's share that are not there."""
    wanted = stores.units(p.plan, p.store, p.part)
    if again := overwrite and (p.folder / MANIFEST).is_file():
        read_manifest(p.folder)  # a damaged one is not removed
        files.check_writable(p.folder)
    if again or check_claim(p.folder, p.plan) is None:
        return wanted
    manifest = read_manifest(p.folder)
    p.store.hear(manifest)
    p.store.earlier = (*p.store.earlier, identity.digest(manifest["pinned"]))
    if p.form == "npz" and stores.npz_is_whole(p.folder / "samples.npz", p.plan, older=p.store.older):
        return []
    return p.store.absent(wanted)


def _samples(p: Prepared, index: Sequence[int]) -> tuple[float, float, Tensor, list[int]]:
    """Of one micro-batch: seconds and network evaluations a sample, decoded samples (as far as there was
    time) and which they are."""
    plan, model = p.plan, p.plan.model
    most = plan.request.batch if model.device.type == "cuda" else min(plan.request.batch, ROWS)
    chosen = index[:most]
    steps = model.stream(
        replace(plan.batch(chosen), batch=most),
        model.rules(plan.request.guidance),
        denoiser=model.denoiser.lowered(),
    )
    began = first = time.perf_counter()
    for k, progress in enumerate(steps, 1):
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        now = time.perf_counter()
        if k == 1:
            first = now
        if progress.finished or now - began > PATIENCE:
            break
    rows = [chosen[i] for i in progress.rows if i is not None]
    places = [place for place, i in enumerate(progress.rows) if i is not None]
    start = time.perf_counter()
    values = model.codec.decode(progress.step.x if progress.finished else progress.step.data_hat).cpu()[
        places
    ]
    decoding = time.perf_counter() - start
    done = progress.step.index + 1
    seconds = (now - first) / (k - 1) if k > 1 else now - began  # the first step is slower than the rest
    total = k if progress.finished else max(done, progress.step.num_steps)
    return (seconds * total + decoding) / len(rows), progress.step.evaluations / done * total, values, rows


def _size(p: Prepared, values: Tensor, rows: Sequence[int]) -> tuple[float, float]:
    """Bytes that a sample takes on disk, and seconds of making its file."""
    shape, dtype = stores.layout(p.plan)
    array = math.prod(shape[1:]) * np.dtype(dtype).itemsize
    if not p.plan.model.task.one_each:
        return 2.0 * array, 0.0  # in files of a thousand and in samples.npz
    if p.form == "npz":
        return float(array), 0.0
    start = time.perf_counter()
    recipes, threads = p.plan.model.recipes(p.plan.batch(rows)), threads_for(values, p.plan.model.device)
    made = [len(data) for data in encoded(p.plan.model.task, values, recipes, threads)]
    seconds = (time.perf_counter() - start) / len(rows)
    return sum(made) / len(rows) + (array if p.form == "both" else 0.0) + (
        1024 if p.form == "tar" else 0
    ), seconds
