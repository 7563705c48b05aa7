"""Checkpoints: ``RUN/checkpoints/000050000/{<network>.safetensors, ema-<decay>.safetensors, state.pt, meta.json, preview.png}``.

A checkpoint is written to a temporary folder and renamed, so a folder with its final name is complete. ``meta.json`` holds every file's size
and SHA-256.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from studio import files
from studio.ema import EMA

VERSION = 1


def listing(run: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    folder = run / "checkpoints"
    return sorted(p for p in folder.glob("[0-9]*") if p.is_dir() and (p / "meta.json").is_file()) if folder.is_dir() else []


def find(run: Path, step: int | None = None) -> Path:
    """The checkpoint of a step, the newest without one. Raises ``ValueError`` with the steps there are."""
    there = listing(run)
    if not there:
        raise ValueError(f"{run} has no checkpoint yet; train it first, or resume with --resume")
    if step is None:
        return there[-1]
    chosen = [p for p in there if int(p.name) == step]
    if not chosen:
        raise ValueError(f"{run} has no checkpoint at step {step}, expected one of {', '.join(str(int(p.name)) for p in there)}")
    return chosen[0]


def read_meta(folder: Path) -> dict[str, Any]:
    """meta.json of a checkpoint or export; raises ``ValueError`` for one from a newer version."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / 'meta.json'} is not readable ({error}); use another checkpoint") from None
    if meta.get("version", 1) > VERSION:
        raise ValueError(f"{folder} was written by checkpoint version {meta['version']}, this version reads up to {VERSION}; upgrade drift-studio")
    return meta


def verify(folder: Path) -> dict[str, Any]:
    """meta.json after checking that every file is there at its size; raises ``ValueError`` naming the damaged file and the last good checkpoint."""
    meta = read_meta(folder)
    for name, entry in meta.get("files", {}).items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != entry["bytes"]:
            good = [p for p in listing(folder.parent.parent) if p != folder]
            hint = f"use {folder.parent.parent}@{int(good[-1].name)}, or remove {folder} to resume from it" if good else "restore it from a backup"
            got = "it is missing" if size is None else f"got {size} bytes"
            raise ValueError(f"{path} is cut off or damaged: {got}, expected {entry['bytes']}; {hint}")
    return meta


def save(run: Path, step: int, networks: dict[str, nn.Module], ema: EMA, state: dict[str, Any], meta: dict[str, Any], *, preview: Any = None) -> Path:
    """Write one checkpoint and return its folder. Checks the disk first; an existing folder of this step is kept as it is."""
    target = run / "checkpoints" / f"{step:09d}"
    if target.exists():
        return target
    size = sum(p.numel() * 4 for net in networks.values() for p in net.parameters())
    files.check_writable(target.parent, need=size * (3 + len(ema.shadow)))
    draft = target.parent / f"tmp-{step:09d}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for name, net in networks.items():
        files.save_tensors(draft / f"{name}.safetensors", net.state_dict())
    for profile in ema.shadow:
        files.save_tensors(draft / f"ema-{profile}.safetensors", ema.tensors(profile))
    torch.save(state, draft / "state.pt")
    if preview is not None:
        preview.save(draft / "preview.png")
    listed = {p.name: {"bytes": p.stat().st_size, "sha256": files.sha256(p)} for p in sorted(draft.iterdir())}
    files.write_json(draft / "meta.json", {"version": VERSION, "step": step, **meta, "files": listed})
    draft.rename(target)
    return target


def write_header(run: Path, config: str, meta: dict[str, Any]) -> None:
    """The run's ``config.yaml`` and ``meta.json``; drafts of a process that was killed while writing are removed."""
    run.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "meta.json", "metrics.jsonl"):
        for draft in run.glob(f".{name}.*"):
            draft.unlink(missing_ok=True)
    files.write_text(run / "config.yaml", config)
    files.write_json(run / "meta.json", meta)


def forget_after(run: Path, step: int) -> None:
    """Remove what a killed run left behind after the checkpoint of a step: lines of metrics, which will be written again, and drafts."""
    metrics = run / "metrics.jsonl"
    if metrics.is_file():
        lines = [line for line in metrics.read_text().splitlines(keepends=True) if line.endswith("\n") and json.loads(line)["step"] <= step]
        files.write_text(metrics, "".join(lines))
    for draft in (run / "checkpoints").glob("tmp-*"):
        shutil.rmtree(draft, ignore_errors=True)


def prune(run: Path, keep_last: int, keep_every: int) -> None:
    """Remove older checkpoints but the last ``keep_last``, multiples of ``keep_every`` and those marked ``keep`` in their meta."""
    for folder in listing(run)[:-keep_last]:
        if not (keep_every and int(folder.name) % keep_every == 0) and not read_meta(folder).get("keep"):
            shutil.rmtree(folder)


def load_state(folder: Path) -> dict[str, Any]:
    """state.pt, tensors and plain values only (never a pickle of objects)."""
    try:
        return torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{folder / 'state.pt'} is not a readable training state ({str(error).splitlines()[0]}); use another checkpoint") from None


def restore(folder: Path, networks: dict[str, nn.Module], ema: EMA) -> dict[str, Any]:
    """Load weights and averages into place and return the state."""
    verify(folder)
    for name, net in networks.items():
        load_into(net, files.load_tensors(folder / f"{name}.safetensors"), folder / f"{name}.safetensors")
    for profile in ema.shadow:
        path = folder / f"ema-{profile}.safetensors"
        if not path.is_file():
            raise ValueError(f"{folder} has no average {profile!r}; keep train.ema as it was when resuming")
        ema.load(profile, files.load_tensors(path))
    return load_state(folder)


def load_into(net: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Strict load with an error that names the first tensor that differs."""
    own = net.state_dict()
    missing, extra = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    if missing or extra:
        raise ValueError(f"{source} does not fit the model: missing {missing[:3]}, unexpected {extra[:3]}; check the config's backbone")
    for key, value in tensors.items():
        if value.shape != own[key].shape:
            raise ValueError(f"{source}: {key} has shape {tuple(value.shape)}, expected {tuple(own[key].shape)}; check the config's backbone")
    net.load_state_dict(tensors)
