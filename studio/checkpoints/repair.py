"""What a power cut or a full disk leaves of a run: empty or cut files are found and told, and written again
where another file of the run has a copy.

``config.yaml`` and ``meta.json`` of a run hold each other's config, and ``meta.json`` of every checkpoint a
copy of the run's. Only a file that was cut is written again, never one that a user has changed.
"""

import functools
import json
from pathlib import Path
from typing import Any

from studio.checkpoints import checkpoint
from studio.config import from_tree
from studio.runtime import files


def header(run: Path) -> tuple[str, ...]:
    """Write ``config.yaml`` and ``meta.json`` of a run again where they were cut; what was done, in words.
    Raises ``ValueError`` where nothing has a copy."""
    broken = cut(run)
    if not broken:
        return ()
    meta, where = _record(run)
    if meta is None and not checkpoint.listing(run):  # no step is lost
        for name in broken:
            (run / name).unlink()
        return (
            f"{' and '.join(str(run / name) for name in broken)} were cut off before the first "
            "checkpoint; the run begins again",
        )
    for name in broken:
        if meta is None or "config" not in meta:
            raise ValueError(
                f"{run / name} is empty or cut off, as after a power cut, and no checkpoint has a copy; "
                "restore it from a backup, "
                f"or begin a new run (another --out)"
            )
        if name == "meta.json":
            files.write_json(run / name, meta)
        else:
            files.write_text(run / name, from_tree(meta["config"]).yaml())
    return tuple(
        f"{run / name} was empty or cut off, as after a power cut; written again from {where}"
        for name in broken
    )


def check(folder: Path) -> None:
    """Raises ``ValueError`` for a model whose ``config.yaml`` or ``meta.json`` was cut, with the way out."""
    for name in cut(folder):
        hint = (
            f"`studio train {folder} --resume` writes it again"
            if _record(folder)[0] is not None
            else "restore it from a backup"
        )
        raise ValueError(f"{folder / name} is empty or cut off, as after a power cut; {hint}")


def cut(folder: Path) -> list[str]:
    """Which of ``config.yaml`` and ``meta.json`` are there, but not to their end."""
    found = []
    config, meta = folder / "config.yaml", folder / "meta.json"
    if config.is_file() and _is_cut(config.read_text(errors="replace"), _record(folder)[0]):
        found.append(config.name)
    if meta.is_file() and _json(meta) is None:
        found.append(meta.name)
    return found


def _is_cut(text: str, meta: dict[str, Any] | None) -> bool:
    """Nothing, or the beginning of what was written: YAML has no end by which one could tell."""
    start = text.rstrip("\0")
    if not start.strip() or "\0" in start:
        return True
    try:
        whole = _written(json.dumps(meta["config"])) if meta is not None and "config" in meta else ""
    except ValueError:  # of another version
        return False
    return len(start) < len(whole) and whole.startswith(start)


@functools.lru_cache(maxsize=256)
def _written(config: str) -> str:
    """The YAML of a config that stands in JSON."""
    return from_tree(json.loads(config)).yaml()


def _record(run: Path) -> tuple[dict[str, Any] | None, str]:
    """What a run's ``meta.json`` says, from there or the newest checkpoint that has it, and where that
    was."""
    meta = _json(run / "meta.json")
    if meta is not None:
        return meta, "meta.json"
    for folder in reversed(checkpoint.listing(run)):
        copy = (_json(folder / "meta.json") or {}).get("run")
        if isinstance(copy, dict):
            return copy, f"checkpoint {int(folder.name)}"
    return None, ""


def _json(path: Path) -> dict[str, Any] | None:
    try:
        tree = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return tree if isinstance(tree, dict) else None
