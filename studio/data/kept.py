"""Decoded pictures in the user's cache: the array, and beside it what was read how and what there was to
tell."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from studio.data.depth import Reading
from studio.runtime.files import cache_home, used, write_bytes

Entry = tuple[Path, int]  # a file and the number of a page or frame in it


@dataclass
class Decoded:
    """``values`` (N, C, H, W) uint8 of the entries ``kept``; ``failed``: reasons by file; ``notes``: what was
    changed or left out."""

    values: np.ndarray
    kept: np.ndarray
    entries: list[Entry]
    reading: Reading
    failed: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def cache_path(root: Path, files: Sequence[Path], options: Sequence[Any]) -> Path:
    """``options``: all that decides how the files are read, the version of the decoder among them."""
    digest = hashlib.sha256(f"{root.resolve()}|{options}".encode())
    for p in files:
        stat = p.stat()
        digest.update(f"{p.relative_to(root)}|{stat.st_size}|{stat.st_mtime_ns}".encode())
    return cache_home() / digest.hexdigest()[:24]


def keep(store: Path, found: Decoded) -> str | None:
    """Best effort: a cache that cannot be written costs time, never the run; what there is to tell of it."""
    about = {
        "entries": [[str(f), k] for f, k in found.entries],
        "kept": found.kept.tolist(),
        "background": found.reading.background,
        "bits": found.reading.bits,
        "unit": found.reading.unit,
        "failed": found.failed,
        "notes": found.notes,
    }
    try:
        write_bytes(store.with_suffix(".npy"), lambda handle: np.save(handle, found.values))
        write_bytes(store.with_suffix(".json"), lambda handle: handle.write(json.dumps(about).encode()))
    except OSError as error:
        for suffix in (".npy", ".json"):
            with contextlib.suppress(OSError):
                store.with_suffix(suffix).unlink()
        return (
            f"decoded pictures could not be kept in {store.parent} ({error.strerror or error}); they are "
            "decoded anew each time"
        )
    return None


def cached(store: Path) -> Decoded | None:
    """What was kept, mapped from disk; None where there is nothing or it cannot be read."""
    try:
        about = json.loads(store.with_suffix(".json").read_text())
        values = np.load(store.with_suffix(".npy"), mmap_mode="r")
    except (OSError, ValueError):
        return None
    used(store.with_suffix(".json"), store.with_suffix(".npy"))
    reading = Reading(tuple(about["background"]), about["bits"], about["unit"])
    entries = [(Path(f), k) for f, k in about["entries"]]
    return Decoded(
        values,
        np.array(about["kept"], dtype=np.int64),
        entries,
        reading,
        about["failed"],
        tuple(about["notes"]),
    )
