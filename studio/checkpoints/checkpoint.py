"""Checkpoints: ``RUN/checkpoints/000050000/{<network>.safetensors, ema-<decay>.safetensors, state.pt,
meta.json, preview.png}``.

A checkpoint is written to a temporary folder and renamed, so a folder with its final name is complete.
``meta.json`` holds every file's size and SHA-256.
"""

import json
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from studio.runtime import files

VERSION = 1


def listing(run: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    folder = run / "checkpoints"
    return (
        sorted(p for p in folder.glob("[0-9]*") if p.is_dir() and (p / "meta.json").is_file())
        if folder.is_dir()
        else []
    )


def find(run: Path, step: int | None = None) -> Path:
    """The checkpoint of a step, the newest without one. Raises ``ValueError`` with the steps there are."""
    there = listing(run)
    if not there:
        raise ValueError(f"{run} has no checkpoint yet; train it first, or resume with --resume")
    if step is None:
        return there[-1]
    chosen = [p for p in there if int(p.name) == step]
    if not chosen:
        raise ValueError(
            f"{run} has no checkpoint at step {step}, expected one of "
            f"{', '.join(str(int(p.name)) for p in there)}"
        )
    return chosen[0]


def read_meta(folder: Path) -> dict[str, Any]:
    """meta.json of a checkpoint or export; raises ``ValueError`` for one from a newer version."""
    meta, why = _meta(folder)
    if meta is None:
        raise ValueError(f"{folder / 'meta.json'} is {why}; use another checkpoint")
    if meta.get("version", 1) > VERSION:
        raise ValueError(
            f"{folder} was written by checkpoint version {meta['version']}, this version reads up to "
            f"{VERSION}; upgrade drift-studio"
        )
    return meta


def _meta(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """meta.json, or None and why it cannot be read."""
    try:
        text = (folder / "meta.json").read_text(errors="replace")
        meta = json.loads(text)
    except OSError as error:
        return None, f"not readable ({error})"
    except ValueError:
        return None, "empty" if not text.strip("\0\n ") else "cut off"
    return (meta, "") if isinstance(meta, dict) else (None, "not what was written")


def verify(folder: Path, weights: str = "") -> dict[str, Any]:
    """meta.json after checking that every file is there at its size, and the ``weights`` that are to be read
    by their digest; raises ``ValueError`` naming the damaged file and the newest good checkpoint."""
    reason = damage(folder, digests=(weights,))
    if reason is not None:
        run, good = folder.parent.parent, newest_good(folder.parent.parent, digests=None)
        hint = (
            f"use {run}@{int(good.name)}, the newest that is whole"
            if good is not None
            else "restore it from a backup"
        )
        raise ValueError(f"{folder} is cut off or damaged ({reason}); {hint}")
    return read_meta(folder)


def damage(folder: Path, *, digests: Collection[str] | None = ()) -> str | None:
    """What is wrong with a checkpoint, in words; None where every file has its size and, those named in
    ``digests`` (None: all), its content."""
    meta, why = _meta(folder)
    if meta is None:
        return f"meta.json: it is {why}"
    for name, entry in meta.get("files", {}).items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != entry["bytes"]:
            return (
                f"{name}: {'it is missing' if size is None else f'got {size} bytes'}, expected "
                f"{entry['bytes']} bytes"
            )
        if (digests is None or name in digests) and files.sha256(path) != entry.get("sha256"):
            return f"{name}: its content is not what was written"
    return None


def newest_good(run: Path, *, digests: Collection[str] | None = ()) -> Path | None:
    """The newest checkpoint that is whole."""
    return next((p for p in reversed(listing(run)) if damage(p, digests=digests) is None), None)


def last_good(run: Path) -> tuple[Path | None, dict[Path, str]]:
    """The checkpoint that a run goes on from, None for one without any, and the newer ones that are broken,
    with the reason. Raises ``ValueError`` where none is whole."""
    broken: dict[Path, str] = {}
    for folder in reversed(listing(run)):
        reason = damage(folder, digests=None)
        if reason is None:
            return folder, broken
        broken[folder] = reason
    if broken:
        told = ", ".join(f"checkpoint {int(p.name)} is broken ({why})" for p, why in broken.items())
        raise ValueError(
            f"no checkpoint of {run} is whole: {told}; restore one from a backup, or begin a new run, "
            "with --from MODEL or --overwrite"
        )
    return None, broken


def set_aside(folder: Path) -> Path:
    """Rename a broken checkpoint, which makes room for another of its step; returns where it is."""
    aside = folder.with_name(f"broken-{folder.name}")
    while aside.exists():
        aside = aside.with_name(f"{aside.name}~")
    folder.rename(aside)
    return aside


def save(
    run: Path,
    step: int,
    networks: Mapping[str, nn.Module],
    averages: Mapping[str, Mapping[str, Tensor]],
    state: dict[str, Any],
    meta: dict[str, Any],
    *,
    preview: Any = None,
) -> Path:
    """Write one checkpoint and return its folder. Checks the disk first; an existing folder of this step is
    kept as it is."""
    target = run / "checkpoints" / f"{step:09d}"
    if target.exists():
        return target
    size = sum(p.numel() * 4 for net in networks.values() for p in net.parameters())
    files.check_writable(target.parent, need=size * (3 + len(averages)))
    draft = target.parent / f"tmp-{step:09d}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        for name, net in networks.items():
            files.save_tensors(draft / f"{name}.safetensors", net.state_dict())
        for profile, tensors in averages.items():
            files.save_tensors(draft / f"ema-{profile}.safetensors", tensors)
        torch.save(state, draft / "state.pt")
        if preview is not None:
            preview.save(draft / "preview.png")
        listed = {
            p.name: {"bytes": p.stat().st_size, "sha256": files.sha256(p)} for p in sorted(draft.iterdir())
        }
        files.write_json(draft / "meta.json", {"version": VERSION, "step": step, **meta, "files": listed})
        files.put_in_place(draft, target)
    except BaseException:  # a full disk keeps no half
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return target


def write_header(run: Path, config: str, meta: dict[str, Any]) -> None:
    """The run's ``config.yaml`` and ``meta.json``; drafts of a process that was killed while writing are
    removed."""
    run.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "meta.json", "metrics.jsonl"):
        for draft in run.glob(f".{name}.*"):
            draft.unlink(missing_ok=True)
    files.write_text(run / "config.yaml", config)
    files.write_json(run / "meta.json", meta)


def forget_after(run: Path, last: Path) -> str | None:
    """Remove what a killed run left behind after a checkpoint: lines of metrics, which will be written again,
    and drafts. Tells of lines that cannot be read, which go too, and of those that are missing."""
    metrics, told, step = run / "metrics.jsonl", None, int(last.name)
    if metrics.is_file():
        text = metrics.read_text(errors="replace")
        # the last may be torn, as a kill leaves it
        lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        steps = [_step_of(line) for line in lines]
        kept = "".join(line for line, at in zip(lines, steps) if at is not None and at <= step)
        if None in steps or len(kept.encode()) < read_meta(last).get("metrics", 0):
            told = (
                f"{metrics} was cut off or damaged, as after a power cut; {kept.count(chr(10))} lines of "
                f"it up to step {step} could be kept"
            )
        files.write_text(metrics, kept)
    for draft in (run / "checkpoints").glob("tmp-*"):
        shutil.rmtree(draft, ignore_errors=True)
    return told


def _step_of(line: str) -> int | None:
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return None
    return step if isinstance(step, int) else None


def prune(run: Path, keep_last: int, keep_every: int) -> list[Path]:
    """Remove older checkpoints but the last ``keep_last``, multiples of ``keep_every`` and those marked
    ``keep`` in their meta. Broken ones do not count; returns them."""
    broken, metas = [], {}
    for folder in listing(run):
        try:
            metas[folder] = read_meta(folder)
        except ValueError:
            broken.append(folder)
    for folder in list(metas)[:-keep_last]:
        if not (keep_every and int(folder.name) % keep_every == 0) and not metas[folder].get("keep"):
            shutil.rmtree(folder)
    return broken


def load_state(folder: Path) -> dict[str, Any]:
    """state.pt, tensors and plain values only (never a pickle of objects)."""
    try:
        return torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{folder / 'state.pt'} is not a readable training state ({str(error).splitlines()[0]}); use "
            "another checkpoint"
        ) from None


def restore(
    folder: Path, networks: Mapping[str, nn.Module], profiles: Iterable[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Load weights into place; the state, and the averages by profile. Raises ``ValueError`` for an average
    that is not there."""
    verify(folder)
    for name, net in networks.items():
        load_into(net, files.load_tensors(folder / f"{name}.safetensors"), folder / f"{name}.safetensors")
    averages = {}
    for profile in profiles:
        path = folder / f"ema-{profile}.safetensors"
        if not path.is_file():
            raise ValueError(f"{folder} has no average {profile!r}; keep train.ema as it was when resuming")
        averages[profile] = files.load_tensors(path)
    return load_state(folder), averages


def load_into(net: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Strict load with an error that names the first tensor that differs."""
    own = net.state_dict()
    missing, extra = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    if missing or extra:
        raise ValueError(
            f"{source} does not fit the model: missing {missing[:3]}, unexpected {extra[:3]}; check the "
            "config's backbone"
        )
    for key, value in tensors.items():
        if value.shape != own[key].shape:
            raise ValueError(
                f"{source}: {key} has shape {tuple(value.shape)}, expected {tuple(own[key].shape)}; check "
                "the config's backbone"
            )
    net.load_state_dict(tensors)
