"""Going on with a run: what has changed in its source since it began. Which run a call means:
`studio.training.run_folder`.

``meta.json`` keeps two trees: ``source``, what the run was given when it was last started, and ``config``,
the resolved one. A key that differs from them now was changed by hand: it is taken where it may change
(length, rates, intervals, sampling) and refused where it says what is trained. A run of an earlier version
has no such record and goes on with what its config.yaml says.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backbones import registry
from studio.checkpoints import checkpoint
from studio.checkpoints.build import unfilled
from studio.checkpoints.find import locate, parted
from studio.checkpoints.networks import CUSTOM
from studio.config import Config, from_tree, load_config, tree_of
from studio.tasks import REGISTRY as TASKS
from studio.training.run_folder import run_of

MEANING = ("backbone", "objective", "procedure", "lora", "data", "seed")  # what is trained, on what
# of ``data``: how its content is got, which the hash of the content looks after
READING = ("path", "strict", "cache", "workers")
# steps, in a run whose record does not say them: what they were before they became a share of the run
SILENT_WARMUP = 200


def recorded_config(folder: Path) -> Config:
    """The config that a run has recorded."""
    tree = tree_of(folder / "config.yaml")
    return from_tree({**tree, "train": {"warmup": SILENT_WARMUP, **tree.get("train", {})}})


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
