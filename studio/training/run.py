"""`studio.train`: everything that can be refused is checked here, before anything is written; then
`studio.training.loop` runs."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from samplers.couplings.coupling import Coupling
from samplers.heads.gradient import grad_of
from samplers.objective import Head, Objective, TrainingPath
from samplers.times import TimeSampler
from samplers.weights import LossWeight
from studio.checkpoints import own_network, repair
from studio.checkpoints.build import Info
from studio.checkpoints.networks import together
from studio.codecs.codec import are_numbers, build_codec, kind_of, makes_pictures
from studio.config import Config, files_of, load_config, tree_of
from studio.data import Data, from_dataset, load_data, takes
from studio.data.finite import check_data
from studio.data.floats import as_recorded, taken
from studio.data.loader import fetch, spread
from studio.model import finetune
from studio.model.loading import load as load_model
from studio.model.model import Model
from studio.runtime.devices import keep_freed_memory, pick_device, pick_dtype
from studio.runtime.lock import RunLock
from studio.runtime.progress import silent
from studio.sampling.forms import Guidance, Solver
from studio.tasks import build_task, name_of_own
from studio.tasks.base import Task
from studio.training import objects
from studio.training.defaults import settled
from studio.training.loop import Diverged, Trainer
from studio.training.procedure import Procedure
from studio.training.processes import is_first
from studio.training.resolve import resolve
from studio.training.resume import (
    check_base,
    check_folder,
    check_parts,
    check_source,
    check_task,
    folder_of,
    meta_of,
    plain,
    recorded_config,
    resumed,
    run_of,
)
from studio.training.rollback import Beginning, restore
from studio.training.same_data import restandardised, same_data

__all__ = ["Diverged", "Run", "train"]
LOOKED_AT = 512  # samples whose deviation is measured


@dataclass(frozen=True, repr=False)
class Run:
    """A finished (or interrupted) run: its folder, config, last step and last logged metrics.

    ``interrupted``: Ctrl-C, SIGTERM or ``on_log`` ended it early, with a checkpoint to go on from. A script
    that trains in a loop asks for it: ``if run.interrupted: break``. A second signal ends the process: at
    once, or if it comes in a later training of the same script, after that one's checkpoint.
    """

    folder: Path
    config: Config
    step: int
    metrics: dict[str, Any]
    interrupted: bool = False
    backbone: nn.Module | None = field(default=None, repr=False, compare=False)
    procedure: Procedure | None = field(default=None, repr=False, compare=False)
    task: Task | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        last = ", ".join(
            f"{k} {v:.4g}" for k, v in self.metrics.items() if k != "step" and isinstance(v, float)
        )
        return (
            f"Run {self.folder}: step {self.step}"
            + (", interrupted" if self.interrupted else "")
            + (f"\n  {last}" if last else "")
        )

    def load(
        self,
        *,
        weights: str = "auto",
        device: str = "auto",
        dtype: str = "auto",
        backbone: nn.Module | None = None,
    ) -> Model:
        """The trained `studio.Model`, as `studio.load` has it; of a network of your own with a copy of that
        network, or of ``backbone``; of a procedure or a task of your own with that."""
        net = self.backbone if backbone is None else backbone
        return load_model(
            self.folder,
            weights=weights,
            device=device,
            dtype=dtype,
            backbone=net,
            procedure=self.procedure,
            task=self.task,
        )


def train(
    source: str | Path | Mapping[str, Any] | Config,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    data: Any = None,
    held_out: Any = None,
    classes: Any = None,
    backbone: nn.Module | None = None,
    path: str | Mapping[str, Any] | TrainingPath | None = None,
    parameterization: str | Mapping[str, Any] | Head | None = None,
    coupling: str | Mapping[str, Any] | Coupling | None = None,
    times: str | Mapping[str, Any] | TimeSampler | None = None,
    weight: str | Mapping[str, Any] | LossWeight | None = None,
    sampler: Solver = None,
    guidance: Guidance = None,
    procedure: Procedure | None = None,
    task: Task | None = None,
    resume: bool = False,
    overwrite: bool = False,
    start_from: str | None = None,
    device: str = "auto",
    quiet: bool = False,
    on_log: Callable[[dict[str, Any]], Any] | None = None,
) -> Run:
    """Train as a config says and return the `Run`.

    - ``source``: YAML file, shipped config, run, ``images:DIR``, ``npz:FILE``, dict or Config.
    - ``overrides``: ``key=value`` on top of it.
    - ``out``: run folder, by default the run that the source lies in, otherwise ``runs/<name>``; one process
      at a time (`studio.runtime.lock`).
    - ``data``, ``held_out``: your own map-style data sets, of items as `studio.data.items` lists them; or a
      `studio.data.Data`, as `studio.data.from_arrays` makes one.
    - ``classes``: how many there are in your own data, or their names, where it does not tell.
    - ``backbone``: your own module ``net(x, t, cond, ctx)``; of a class that a registry has, with its options
      as attributes, it is recorded by its name, so that every command can build it again.
    - ``procedure``: an object such as `studio.training.procedure.Plain`, passed again to resume and to load.
    - ``task``: an object such as `studio.tasks.base.Task`, by which your own ``data`` is shown, listed and
      augmented instead of by the task that it names; passed again to resume and to load.
    - ``path``, ``parameterization``, ``coupling``, ``times``, ``weight``: parts of the objective, as names,
      trees or objects; of objects that no config can name see `studio.training.objects`.
    - ``sampler``, ``guidance``: what the model samples with unless told otherwise, as in `Model.sample`.
    - ``resume``: go on with a run, see `studio.training.resume`; ``overwrite``: remove it and start again.
    - ``start_from``: a MODEL whose weights to begin with, its averaged ones; see `studio.model.finetune`.
    - ``device``: as in `studio.load`; ``quiet``: tell nothing.
    - ``on_log``: called with every line of metrics. It ends the run by returning False, and an exception in
      it is raised when the run has its checkpoint. A signal ends this training alone, see `Run`.

    Raises ``FileExistsError`` for an existing run without ``resume`` or ``overwrite``, ``ValueError`` for
    anything in the config or data that does not fit, `Diverged` when the loss stops being finite.
    """
    if backbone is not None:
        own_network.checked(backbone)
    parts = dict(path=path, parameterization=parameterization, coupling=coupling, times=times, weight=weight)
    overrides = [*overrides, *objects.sampled(sampler, guidance)]
    if resume:
        check_source(source)
    folder = folder_of(source, overrides, out, resume)
    check_folder(
        folder,
        resume,
        overwrite,
        load_config(source, overrides) if out is None and run_of(source) is None else None,
    )
    with RunLock(folder) if is_first() else nullcontext() as lock:
        told = (lock.told, restore(folder)) if lock is not None else ()
        check_folder(folder, resume, overwrite)  # again: another process may have been here until now
        mended = repair.header(folder) if resume and lock is not None else ()
        fresh = not (resume and (folder / "config.yaml").is_file())
        trainer = prepared(
            source,
            overrides,
            folder,
            (*filter(None, told), *mended),
            lock,
            data=data,
            held_out=held_out,
            classes=classes,
            backbone=backbone,
            parts=parts,
            procedure=procedure,
            task=task,
            resume=resume,
            start_from=start_from,
            device=device,
            quiet=quiet,
            on_log=on_log,
        )
        start = (
            Beginning(folder, over=overwrite, own=tuple(trainer.data.beside))
            if trainer.main and fresh
            else None
        )
        trainer.accelerator.wait_for_everyone()  # nothing of the new run can be refused any more
        if start is not None:
            trainer.observer.kept = start.kept
        with start or nullcontext():
            interrupted = trainer.run()
        last = trainer.observer.last
        return Run(folder, trainer.config, trainer.at.step, last, interrupted, backbone, procedure, task)


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
        config = load_config(_of_base(source, base), overrides)
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
        source_data, info, changes = _as_base(source_data, info, base)
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
    config = _adapted(resolved.config, together(networks), info, base)
    if unnamed:
        notes = (*notes, f"the network is recorded as custom, which no command can load: {unnamed}")
    notes = (*notes, *source_data.notes, *_of_deviation(resolved.objective, source_data, info))
    resolved = replace(resolved, config=config, data=replace(source_data, notes=notes))
    return Trainer(resolved, networks, folder, where, dtype, quiet, on_log, given, lock)


def _adapted(config: Config, net: nn.Module, info: Info, base: Model | None) -> Config:
    """Give a network the weights of its base, and adapters where the config says so; the config, which then
    names the tables that are new."""
    if base is not None:
        fresh = finetune.tables(net, info, base.info)
        finetune.begin(net, base, fresh)
        if config.lora:
            config = replace(config, lora={**config.lora, "tables": list(fresh)})
    if config.lora:
        if not info.base:
            raise ValueError("got a lora section without a base; pass --from MODEL, or leave it out")
        finetune.adapt(net, config.lora, seed=config.seed)
    return config


def _as_base(data: Data, info: Info, base: Model) -> tuple[Data, Info, tuple[str, ...]]:
    """Data as a base reads it, what is then known of it, and what a user should be told."""
    # it learned from such floats as they are
    own = taken(data) and are_numbers(base.info.codec, pictures=False)
    info = _after_base(replace(info, codec=base.info.codec) if own else info, base)
    if info.numeric != base.info.numeric or (info.numeric_mean, info.numeric_std) == (
        base.info.numeric_mean,
        base.info.numeric_std,
    ):
        return data, info, ()
    told = (
        f"{', '.join(info.numeric)}: standardised as {base.name} has them, so that numbers keep their meaning"
    )
    return (
        restandardised(data, base.info.numeric_mean, base.info.numeric_std),
        replace(info, numeric_mean=base.info.numeric_mean, numeric_std=base.info.numeric_std),
        (told,),
    )


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


def _of_base(source: Any, base: Model) -> Any:
    """Data without a config of its own takes the base's network and objective."""
    if files_of(source) is None:
        return source
    given = base.config
    backbone = {k: v for k, v in given.backbone.items() if k not in ("num_classes", "num_numeric", "fields")}
    return replace(
        load_config(source), backbone=backbone, objective=dict(given.objective), sample=given.sample
    )


def _after_base(info: Info, base: Model) -> Info:
    """The data's info with the base's name and codec. Raises ``ValueError`` where the base works on something
    else."""
    if info.task != base.info.task or info.shape != base.info.shape:
        pictures = info.task == base.info.task and makes_pictures(info.codec)
        hint = f"; set data.size={base.info.shape[-1]}" if pictures else ""
        raise ValueError(
            f"got {info.task} of shape {info.shape} to fine-tune {base.name}, which works on "
            f"{base.info.task} of {base.info.shape}{hint}"
        )
    if info.codec.get("name") != base.info.codec.get("name"):
        raise ValueError(
            f"got data for the codec {info.codec.get('name')}, {base.name} uses "
            f"{base.info.codec.get('name')}; choose another base"
        )
    if why := base.codec.misread(build_codec(info.codec), base.name):
        raise ValueError(why)
    return replace(info, codec=base.info.codec, base=finetune.entry_of(base))


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
