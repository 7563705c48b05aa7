"""Which run a call means: its folder, by name or by source, and whether that may be begun, gone on with or
removed."""

import difflib
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio.checkpoints import checkpoint
from studio.config import Config, former_name, load_config, shipped
from studio.runtime import files, lock
from studio.training.rollback import ASIDE, only_begun

FLAT = ("model.safetensors", "adapter.safetensors")


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, not an export's nor any that holds a config."""
    return (
        (folder / "config.yaml").is_file()
        and not any((folder / name).is_file() for name in FLAT)
        and ((folder / "meta.json").is_file() or bool(checkpoint.listing(folder)))
    )


def run_of(source: Any) -> Path | None:
    """The run that a source means, by its folder or by the config.yaml in it; None for any other source."""
    if not isinstance(source, str | Path) or str(source) in shipped():
        return None
    path = Path(source).expanduser()
    configs = [path / "config.yaml"] if path.is_dir() else [path, path.resolve()]
    return next((p.parent for p in configs if p.name == "config.yaml" and is_run(p.parent)), None)


def folder_of(source: Any, overrides: Sequence[str], out: str | Path | None, resume: bool) -> Path:
    """The run folder of a call: ``out``, or the run that the source means, or ``runs/<name>``. Raises
    ``ValueError`` where the first two contradict."""
    home = run_of(source)
    if resume and home is not None and out is not None and Path(out).resolve() != home.resolve():
        raise ValueError(
            f"{source} is the config of the run {home}, but --out says {out}; leave out --out, or pass "
            f"{out} itself to go on with it"
        )
    if resume and home is None and out is None and isinstance(source, str | Path):
        path = Path(source).expanduser()
        folder = path if path.is_dir() else path.parent
        if (
            path.name in ("config.yaml", folder.name)
            and any((folder / flat).is_file() for flat in FLAT)
            and str(source) not in shipped()
        ):
            raise ValueError(
                f"{folder} is an exported model, which cannot go on; start a new run with --from {folder} "
                "--out NEW"
            )
    if out is not None or home is not None:
        return Path(out) if out is not None else typing.cast(Path, home)
    config = load_config(source, overrides)
    if not config.name.strip() or config.name in (".", "..") or not config.name.isprintable():
        raise ValueError(
            f"got the name {config.name!r} for a run, expected printable text that a folder can be called "
            "by; set name=NAME or --out"
        )
    folder, before = Path("runs") / config.name, Path("runs") / former_name(source)
    return (
        before
        if resume and not is_run(folder) and is_run(before) and not _other_data(before, config)
        else folder
    )


def _other_data(folder: Path, config: Config) -> str | None:
    """In words, the data that a run learns from where a config names other data; None where they are one."""
    try:
        data = load_config(folder / "config.yaml").data
    except ValueError:
        return None
    differs = any(data.get(k) != config.data[k] for k in ("name", "path") if k in config.data)
    return str(data.get("path", data.get("name"))) if differs else None


def check_source(source: Any) -> None:
    """Raises ``ValueError`` for a run that is not there, with those that may have been meant."""
    if isinstance(source, str | Path) and ":" not in str(source) and not Path(source).expanduser().exists():
        if str(source).removesuffix(".yaml") not in shipped():
            raise ValueError(
                f"got {str(source)!r} to resume, expected a run or the config of "
                f"one{_near(Path(source).expanduser())}"
            )


def check_folder(folder: Path, resume: bool, overwrite: bool, config: Config | None = None) -> None:
    """Refuse a folder that may not be touched, and to resume where nothing is. ``config``: of a call that
    left the folder to its default name."""
    if resume and overwrite:
        raise ValueError("got both resume and overwrite, expected one: go on with the run, or start it again")
    exists = (folder / "config.yaml").is_file()
    if exists and (resume or overwrite or only_begun(folder)):
        return files.check_writable(folder)
    if exists:
        other = None if config is None else _other_data(folder, config)
        if other is not None:
            raise FileExistsError(
                f"{folder}, which this run would be called by its name, holds one on other data ({other}, "
                f"{_progress(folder)}); "
                f"pass --out {_free(folder)}, or name=OTHER"
            )
        raise FileExistsError(
            f"{folder} holds a run already; pass --resume to go on, --overwrite to start again, or "
            "another --out"
        )
    there = list(folder.iterdir()) if folder.is_dir() else [folder] if folder.exists() else []
    # of a run that was killed in its first moment
    drafts = [p for p in there if p.name.startswith((".config.yaml.", lock.NAME)) or p.name == ASIDE]
    if not exists and len(drafts) < len(there):
        raise FileExistsError(
            f"{folder} exists and is not a run; choose another --out"
            + (f" to resume{_near(folder)}" if resume else "")
        )
    files.check_writable(folder)
    if resume and not drafts:
        raise ValueError(
            f"got --resume, but there is nothing to resume in {folder}{_near(folder)}; leave --resume out "
            "to begin there"
        )


def _free(folder: Path) -> Path:
    """A name beside a folder that nothing has."""
    return next(p for k in range(2, 10**6) if not (p := folder.with_name(f"{folder.name}-{k}")).exists())


def _near(folder: Path) -> str:
    """Runs that may have been meant: those in the folder, beside it and in runs/, the most alike by name
    first."""
    found: dict[Path, Path] = {}
    for place in (folder, folder.parent, Path("runs"), Path(".")):
        for p in (place, *(sorted(place.iterdir()) if place.is_dir() else ())):
            if is_run(p):
                found.setdefault(p.resolve(), p)
    if not found:
        return "; there is no run near by"
    likeness = {
        p: difflib.SequenceMatcher(None, p.resolve().name, folder.resolve().name).ratio()
        for p in found.values()
    }
    runs = sorted(found.values(), key=lambda p: -likeness[p])
    told = ", ".join(f"{p} ({_progress(p)})" for p in runs[:5]) + (
        f" and {len(runs) - 5} more" if len(runs) > 5 else ""
    )
    return f"; did you mean {told}?" if likeness[runs[0]] > 0.6 else f"; there is {told}"


def _progress(run: Path) -> str:
    steps = checkpoint.listing(run)
    return f"step {int(steps[-1].name)}" if steps else "no checkpoint yet"
