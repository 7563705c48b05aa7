"""From a call of `studio.train` to a trainer: what can be refused is checked here, and nothing is written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from samplers.heads.gradient import grad_of
from samplers.objective import Objective
from studio.checkpoints import own_network
from studio.checkpoints.build import Info
from studio.checkpoints.networks import together
from studio.codecs.codec import build_codec, kind_of
from studio.config import Config, load_config, tree_of
from studio.data import Data, from_dataset, load_data, takes
from studio.data.finite import check_data
from studio.data.floats import as_recorded
from studio.data.loader import fetch, spread
from studio.model.loading import load as load_model
from studio.runtime.devices import keep_freed_memory, pick_device, pick_dtype
from studio.runtime.lock import RunLock
from studio.runtime.progress import silent
from studio.tasks import build_task, name_of_own
from studio.tasks.base import Task
from studio.training import objects
from studio.training.defaults import settled
from studio.training.form import fitting
from studio.training.from_base import adapted, as_base, config_of
from studio.training.loop import Trainer
from studio.training.procedure import Procedure
from studio.training.resolve import resolve
from studio.training.resume import (
    check_base,
    check_parts,
    check_task,
    meta_of,
    plain,
    recorded_config,
    resumed,
)
from studio.training.same_data import same_data

LOOKED_AT = 512  # samples whose deviation is measured


def prepared(
    source: str | Path | Mapping[str, Any] | Config,
    overrides: Sequence[str],
    folder: Path,
    notes: tuple[str, ...] = (),
    lock: RunLock | None = None,
    *,
    data: Any = None,
    held_out: Any = None,
    classes: Any = None,
    backbone: nn.Module | None = None,
    parts: Mapping[str, Any] | None = None,
    procedure: Procedure | None = None,
    task: Task | None = None,
    resume: bool = False,
    start_from: str | None = None,
    device: str = "auto",
    quiet: bool = False,
    on_log: Callable[[dict[str, Any]], Any] | None = None,
) -> Trainer:
    """What `train` runs in a folder that is this process's, after every check; nothing is written yet."""
    config, given = load_config(source, overrides), plain(tree_of(source))
    recorded = recorded_config(folder) if resume and (folder / "config.yaml").is_file() else None
    base = None
    section, unnamed = (None, "") if backbone is None else own_network.section(backbone)
    if recorded is not None:
        if start_from is not None:
            check_base(start_from, folder)
        if section is not None and recorded.backbone.get("name") == "custom":
            section = recorded.backbone  # what a run could not name stays so
        own = section is not None and (
            section["name"] == "custom" or section["name"] != recorded.backbone.get("name")
        )
        config, given, changes = resumed(
            recorded, folder, source, overrides, own_network=own, own_procedure=procedure is not None
        )
        check_task(folder, task)
        notes += changes
    elif start_from is not None:
        base = load_model(start_from, device="cpu", dtype="fp32")
        config = load_config(config_of(source, base), overrides)
    asked = [k for k, v in (parts or {}).items() if v is not None]
    config, parts, unsaid = objects.recorded(config, parts or {})
    notes += unsaid
    if recorded is not None:
        check_parts(recorded, config, asked, folder)
    if config.train.steps is None and config.train.minutes is None:
        raise ValueError("train has neither steps nor minutes, expected one; set e.g. train.steps=10000")
    where = pick_device(device)
    dtype = pick_dtype(config.train.dtype, where)
    if recorded is None and data is None and backbone is None:
        config = settled(
            config, source, overrides, where, dtype, like=None if base is None else base.info, quiet=quiet
        )
    if classes is not None and (data is None or isinstance(data, Data)):
        raise ValueError(
            "got classes without a data set of your own, expected data=DATASET; what is read from files "
            "tells its own classes"
        )
    called = "" if task is None else name_of_own(task)
    if data is None or isinstance(data, Data):
        with silent(quiet):
            source_data = _read(config, recorded, folder) if data is None else data
        check_data(source_data)
    else:
        source_data = from_dataset(data, held_out, classes=classes, task=called)
    source_data = replace(source_data, task=called or source_data.task)
    info = Info.of(source_data)
    build_task(info.task, info.codec, task)  # a name that nobody has is refused now
    if recorded is not None:
        moved = data is None and config.data.get("path") != recorded.data.get("path")
        source_data, info = same_data(folder, source_data, info, moved=moved)
    elif base is not None:
        source_data, info, changes = as_base(source_data, info, base, config.backbone)
        notes += changes
    if recorded is None and base is None and backbone is None:
        config, changes = fitting(config, source, overrides, info)
        notes += changes
    source_data = as_recorded(source_data, info.codec)
    resolved = resolve(
        config,
        source_data,
        info,
        own=backbone,
        section=section,
        parts=parts,
        procedure=procedure,
        task=task,
        recorded=recorded,
        overrides=overrides,
    )
    if where.type == "cpu":
        keep_freed_memory()
    if dtype != torch.float32 and grad_of(resolved.objective.parameterization) != "none":
        dtype = torch.float32
        notes = (*notes, "train.dtype: auto is fp32, since the head takes gradients of its network")
    networks = resolved.networks()
    config = adapted(resolved.config, together(networks), info, base)
    if unnamed:
        notes = (*notes, f"the network is recorded as custom, which no command can load: {unnamed}")
    notes = (*notes, *source_data.notes, *_of_deviation(resolved.objective, source_data, info))
    resolved = replace(resolved, config=config, data=replace(source_data, notes=notes))
    return Trainer(resolved, networks, folder, where, dtype, quiet, on_log, given, lock)


def _read(config: Config, recorded: Config | None, folder: Path) -> Data:
    spec = dict(config.data)
    if (
        recorded is not None
        and (meta := meta_of(folder))
        and takes(spec.get("name"), "stratify")
        and not meta.get("stratified")
    ):
        spec["stratify"] = False  # what an older run kept from training stays the same
    try:
        return load_data(spec)
    except ValueError as error:
        path = config.data.get("path")
        if recorded is None or not isinstance(path, str) or Path(path).expanduser().exists():
            raise
        raise ValueError(
            f"{error}; if the data of this run lies elsewhere now, pass data.path=PLACE"
        ) from None


def _of_deviation(objective: Objective, data: Data, info: Info) -> tuple[str, ...]:
    """A note where preconditioning counts on data of another deviation than the network will see; measured on
    pixels and numbers, not on latents."""
    assumed = getattr(objective.parameterization, "sigma_data", None)
    if assumed is None or not kind_of(info.codec).rescales:
        return ()
    values = fetch(data.train, [(0, i) for i in spread(data.train, LOOKED_AT)])[0]
    found = float(build_codec(info.codec).encode(values).std())
    if 0.8 < found / assumed < 1.25 or not found > 0:
        return ()
    return (
        f"the data has deviation {found:.3g}, the objective counts on sigma_data={assumed:g}; try "
        f"objective.parameterization={{name: edm, sigma_data: {found:.2g}}}",
    )
