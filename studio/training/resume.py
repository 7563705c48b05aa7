"""Going on with a run: which folder a call means, and what has changed in its source since it began.

``meta.json`` keeps two trees: ``source``, what the run was given when it was last started, and ``config``,
the resolved one. A key that differs from them now was changed by hand: it is taken where it may change
(length, rates, intervals, sampling) and refused where it says what is trained. A run of an earlier version
has no such record and goes on with what its config.yaml says.
"""

import difflib
import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backbones import registry
from studio.checkpoints import checkpoint
from studio.checkpoints.build import unfilled
from studio.checkpoints.find import locate, parted
from studio.checkpoints.networks import CUSTOM
from studio.config import Config, former_name, from_tree, load_config, shipped, tree_of
from studio.runtime import files, lock
from studio.tasks import REGISTRY as TASKS
from studio.training.rollback import ASIDE, only_begun

MEANING = ("backbone", "objective", "procedure", "lora", "data", "seed")  # what is trained, on what
# of ``data``: how its content is got, which the hash of the content looks after
READING = ("path", "strict", "cache", "workers")
# steps, in a run whose record does not say them: what they were before they became a share of the run
SILENT_WARMUP = 200
FLAT = ("model.safetensors", "adapter.safetensors")


# ---- which run is meant --------------------------------------------------------------------------


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


def recorded_config(folder: Path) -> Config:
    """The config that a run has recorded."""
    tree = tree_of(folder / "config.yaml")
    return from_tree({**tree, "train": {"warmup": SILENT_WARMUP, **tree.get("train", {})}})


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


def check_base(start_from: str, folder: Path) -> None:
    """Raises ``ValueError`` for another base than the run being resumed began from."""
    meta = meta_of(folder)
    if "base" not in meta:  # of an earlier version
        return
    was = meta["base"].get("model", "")
    step, now = parted(was)[1], parted(start_from)[1]
    if not was or _home(was) != _home(start_from) or (step is not None and now is not None and step != now):
        raise ValueError(
            f"got --from {start_from}, but the run being resumed began from {was or 'nothing'}; leave "
            "--from out, or choose another --out"
        )


def _home(model: str) -> str:
    if model.startswith("hf:"):
        return model
    name = parted(model)[0]
    try:
        return str(locate(name)[0].resolve())
    except ValueError:  # it is gone, which does not hinder
        return str(Path(name).expanduser().resolve())


def check_task(folder: Path, task: Any) -> None:
    """Raises ``ValueError`` for a run whose task is an object and is not given again."""
    meta = meta_of(folder)
    if task is None and "shown_by" in meta and meta.get("task") not in TASKS:
        raise ValueError(
            f"{folder} makes samples of a task of your own ({meta['shown_by']}); pass it again: task=OBJECT"
        )


def meta_of(folder: Path) -> dict[str, Any]:
    return checkpoint.read_meta(folder) if (folder / "meta.json").is_file() else {}


# ---- what has changed in its source --------------------------------------------------------------


def plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A tree as JSON holds it."""
    return json.loads(
        json.dumps(tree, default=lambda v: n if isinstance(n := registry.plain(v), int | float) else str(v))
    )


def resumed(
    recorded: Config,
    folder: Path,
    source: Any,
    overrides: Sequence[str],
    *,
    own_network: bool = False,
    own_procedure: bool = False,
) -> tuple[Config, dict[str, Any], tuple[str, ...]]:
    """The config to go on with, the source to keep as its record, and what a user should be told of changes.
    Raises ``ValueError`` for a change of what is trained: in the source, in the run's own config.yaml, or in
    ``overrides``."""
    meta, told = meta_of(folder), []
    if "config" in meta:
        before, now = plain(from_tree(meta["config"]).tree()), plain(recorded.tree())
        for key in _differing(before, now):
            _refuse_meaning(key, folder / "config.yaml", _at(now, key), _at(before, key), folder)
            told.append(f"{key} {_at(before, key)} → {_at(now, key)} in {folder / 'config.yaml'}")
    custom = recorded.backbone.get("name") == CUSTOM
    if custom and not own_network:
        raise ValueError(f"{folder} trains a network of your own; pass it again: backbone=MyNet()")
    mine = recorded.procedure.get("name") == CUSTOM
    if mine and not own_procedure:
        raise ValueError(
            f"{folder} is trained by a procedure of your own ({meta.get('trained_by', 'an object')}); pass "
            "it again: procedure=OBJECT"
        )
    home = run_of(source)
    asked, kept = recorded, meta.get("source")
    if home is None or home.resolve() != folder.resolve():
        asked = load_config(source) if kept is not None else load_config(source, overrides)
        asked = replace(asked, backbone=recorded.backbone) if custom else asked
        asked = replace(asked, procedure=recorded.procedure) if mine else asked
        given = plain(tree_of(source))
        changed = _differing(kept, given) if kept is not None else _differing({}, given)
        for section in dict.fromkeys(key.partition(".")[0] for key in changed):
            if section in MEANING:
                _compare(
                    section,
                    recorded,
                    asked,
                    folder,
                    str(source) if isinstance(source, str | Path) else "the source",
                    changed,
                    kept is not None,
                )
        taken, read = _taken(recorded, asked, [k for k in changed if k.removeprefix("data.") in READING])
        recorded, told = from_tree(taken), [*told, *read]
        taken, left = _taken(recorded, asked, [k for k in changed if k.partition(".")[0] not in MEANING])
        if kept is not None:
            told += left
            recorded = from_tree(taken)
        elif left:
            told.append(
                "this run has no record of its source and keeps its own settings, where the source "
                f"differs: {', '.join(left)}"
            )
        kept = given
    final = load_config(recorded, overrides)
    for section in MEANING:
        _compare(section, recorded, final, folder, "this call", None, False)
    if own_network and not custom:
        raise ValueError(
            "backbone differs from the run being resumed: got a network of your own, it has "
            f"{recorded.backbone.get('name')}; {way_out(folder)}"
        )
    if own_procedure and not mine:
        raise ValueError(
            "procedure differs from the run being resumed: got an object of your own, it has "
            f"{recorded.procedure.get('name', 'plain')}; {way_out(folder)}"
        )
    notes: tuple[str, ...] = (f"changed since the run was last started: {', '.join(told)}",) if told else ()
    if not checkpoint.listing(folder):
        notes += (f"{folder} has no checkpoint yet; it begins again",)
    return final, kept if kept is not None else plain(final.tree()), notes


def way_out(folder: Path) -> str:
    return f"start a new run with --from {folder}, or leave out --resume"


def _compare(
    section: str,
    recorded: Config,
    now: Config,
    folder: Path,
    where: str,
    keys: Sequence[str] | None,
    removed: bool,
) -> None:
    """Raises where a section that says what is trained differs from the record: at the given keys, or
    anywhere; ``removed``: also where it is silent."""
    theirs = getattr(now, section)
    if not isinstance(theirs, Mapping):
        if theirs != getattr(recorded, section):
            _refuse(section, where, theirs, getattr(recorded, section), folder)
        return
    ours = unfilled(getattr(recorded, section), theirs)
    names = set(theirs) | set(ours) if removed else set(theirs)
    if keys is not None:
        names &= {k.partition(".")[2].partition(".")[0] for k in keys if k.partition(".")[0] == section} | (
            # an empty section that was filled, or the other way round
            set(theirs) | set(ours) if section in keys else set()
        )
    for name in sorted(names - (set(READING) if section == "data" else set())):
        if _bare(theirs.get(name)) != _bare(ours.get(name)):
            _refuse(f"{section}.{name}", where, theirs.get(name), ours.get(name), folder)


def check_parts(recorded: Config, now: Config, keys: Sequence[str], folder: Path) -> None:
    """Raises where parts of the objective that were given to this call are not those of the run."""
    for key in keys:
        if _bare(now.objective.get(key)) != _bare(recorded.objective.get(key)):
            _refuse(
                f"objective.{key}", "this call", now.objective.get(key), recorded.objective.get(key), folder
            )


def _refuse_meaning(key: str, where: Path, got: Any, was: Any, folder: Path) -> None:
    section, _, name = key.partition(".")
    if section in MEANING and not (section == "data" and name in READING):
        _refuse(key, str(where), got, was, folder)


def _refuse(key: str, where: str, got: Any, was: Any, folder: Path) -> None:
    raise ValueError(
        f"{key.partition('.')[0]} differs from the run being resumed: got "
        f"{'no ' if got is None else ''}{key}{'' if got is None else f'={got}'} in {where}, "
        f"it has {was}; {way_out(folder)}"
    )


def _bare(value: Any) -> Any:
    """``{name: x}`` and ``x`` name the same part."""
    return value["name"] if isinstance(value, Mapping) and set(value) == {"name"} else value


def _taken(recorded: Config, asked: Config, keys: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The recorded tree with what was asked for at some keys, and what that changed, in words."""
    tree, wanted, told = recorded.tree(), asked.tree(), []
    for key in dict.fromkeys(".".join(k.split(".")[:2]) for k in keys):
        section, _, name = key.partition(".")
        part, new = (tree[section], wanted[section]) if name else (tree, wanted)
        was, now = part.get(name or section), new.get(name or section)
        if section != "schema" and was != now:
            told.append(f"{key} {was} → {now}")
            part[name or section] = now
    # a length that was asked for replaces the other
    if tree["train"]["steps"] is not None and tree["train"]["minutes"] is not None:
        tree["train"][
            "minutes" if any(k == "train.steps" for k in keys) and asked.train.steps is not None else "steps"
        ] = None
    return tree, told


def _differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Dotted keys at which two trees differ."""
    one, other = _leaves(then), _leaves(now)
    return [k for k in dict.fromkeys((*other, *one)) if k not in one or k not in other or one[k] != other[k]]


def _leaves(tree: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= (
            _leaves(value, f"{where}{key}.")
            if isinstance(value, Mapping) and value
            else {f"{where}{key}": value}
        )
    return flat


def _at(tree: Mapping[str, Any], key: str) -> Any:
    return _leaves(tree).get(key)
