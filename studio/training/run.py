"""`studio.train`: `studio.training.prepare` checks everything that can be refused before anything is written,
then `studio.training.loop` runs."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from samplers.couplings.coupling import Coupling
from samplers.objective import Head, TrainingPath
from samplers.times import TimeSampler
from samplers.weights import LossWeight
from studio.checkpoints import own_network, repair
from studio.config import Config, load_config
from studio.model.loading import load as load_model
from studio.model.model import Model
from studio.runtime.lock import RunLock
from studio.sampling.forms import Guidance, Solver
from studio.tasks.base import Task
from studio.training import objects
from studio.training.loop import Diverged
from studio.training.prepare import prepared
from studio.training.procedure import Procedure
from studio.training.processes import is_first
from studio.training.rollback import Beginning, restore
from studio.training.run_folder import check_folder, check_source, folder_of, run_of

__all__ = ["Diverged", "Run", "train"]


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
