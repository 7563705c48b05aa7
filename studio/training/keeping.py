"""What a run keeps: how far it is, and checkpoints to go on from to the same bytes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from backbones.types import RunContext
from studio.checkpoints import checkpoint
from studio.checkpoints.networks import CUSTOM
from studio.runtime import files
from studio.runtime.devices import DTYPE_NAMES
from studio.runtime.lock import RunLock
from studio.runtime.version import __version__
from studio.training.learner import Learner
from studio.training.resolve import Resolved


class Diverged(RuntimeError):
    """The loss or the weights stopped being finite."""


@dataclass
class Position:
    """How far a run is. ``recent`` and ``logs``: of the steps since the last line of the log; ``context``:
    what couplings, samplers of time and sources remember lives in its ``states``."""

    step: int = 0
    elapsed: float = 0.0
    phase: int = 0
    phase_start: int = 0
    weak_done: bool = False
    recent: list[Tensor] = field(default_factory=list)
    logs: dict[str, list[Tensor]] = field(default_factory=dict)
    context: RunContext = field(default_factory=RunContext)

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "elapsed": self.elapsed,
            "phase": self.phase,
            "phase_start": self.phase_start,
            "states": self.context.states,
            "weak_done": self.weak_done,
            "logs": {k: [float(v) for v in values] for k, values in self.logs.items()},
            "recent": [float(v) for v in self.recent],
        }

    def load(self, state: Mapping[str, Any], device: torch.device) -> None:
        self.step, self.elapsed, self.phase = state["step"], state["elapsed"], state["phase"]
        self.weak_done = state["weak_done"]
        self.recent = [torch.tensor(v, device=device) for v in state["recent"]]
        self.logs = {
            k: [torch.tensor(v, dtype=torch.float64) for v in values]
            for k, values in state.get("logs", {}).items()
        }
        self.phase_start, self.context.states = state.get("phase_start", 0), state.get("states", {})


class Keeper:
    """The folder of a run. ``source``: the tree it was given, for its record."""

    def __init__(
        self,
        resolved: Resolved,
        folder: Path,
        learner: Learner,
        at: Position,
        source: Mapping[str, Any],
        lock: RunLock | None,
    ):
        self.resolved, self.folder, self.learner, self.at = resolved, folder, learner, at
        self.source, self.lock = source, lock
        self.saved = -1
        self.told: set[Path] = set()  # broken checkpoints that were named
        self.note: Callable[[str], None] = lambda text: None

    def header(self) -> None:
        """config.yaml, meta.json, and what lies beside the data."""
        checkpoint.write_header(self.folder, self.resolved.config.yaml(), self._about())
        for name, text in self.resolved.data.beside.items():
            files.write_text(self.folder / name, text)

    def _about(self) -> dict[str, Any]:
        """The run's ``meta.json``, of which every checkpoint keeps a copy."""
        config, networks = self.resolved.config, self.learner.networks
        parameters = sum(p.numel() for net in networks.values() for p in net.parameters())
        entries = {
            "version": checkpoint.VERSION,
            **self.resolved.info.tree(),
            "parameters": parameters,
            **_versions(),
        }
        if (
            self.resolved.own is not None and config.backbone.get("name") == CUSTOM
        ):  # to tell how it is loaded
            entries["network"] = type(self.resolved.own).__name__
        if self.resolved.custom:
            entries["trained_by"] = type(self.resolved.procedure).__name__
        if self.resolved.own_task:
            entries["shown_by"] = type(self.resolved.task).__name__
        return {**entries, "source": self.source, "config": config.tree()}

    def save(self, preview: Callable[[], Any], *, keep: bool = False) -> Any:
        """Write a checkpoint, on the first of the processes; its picture. Raises `Diverged` for weights that
        are not finite."""
        group = self.learner.group
        self.saved = self.at.step  # on every process: all of them meet in the barrier or none
        if not self.learner.finite():
            self.diverged(float("nan"))
        group.accelerator.wait_for_everyone()
        if not group.main:
            return None
        if self.lock is not None:
            self.lock.check()
        train = self.resolved.config.train
        meta = {
            "keep": keep,
            "elapsed": round(self.at.elapsed, 2),
            "dtype": DTYPE_NAMES[self.learner.dtype],
            **_versions(),
            "run": self._about(),
        }
        metrics = self.folder / "metrics.jsonl"
        if metrics.is_file():
            files.sync(metrics)
            meta["metrics"] = metrics.stat().st_size
        picture = preview()
        checkpoint.save(
            self.folder,
            self.at.step,
            self.learner.networks,
            {profile: self.learner.ema.tensors(profile) for profile in self.learner.profiles},
            {**self.at.state(), **self.learner.state()},
            meta,
            preview=picture,
        )
        for broken in checkpoint.prune(self.folder, train.keep_last, train.keep_every):
            if broken not in self.told:
                self.told.add(broken)
                self.note(
                    f"checkpoint {int(broken.name)} is broken ({checkpoint.damage(broken)}); it is passed "
                    "over and left as it is"
                )
        return picture

    def restore(self) -> bool:
        """Go on from the newest checkpoint that is whole; False where there is none. Broken ones make room
        for those that are written again; lines of metrics after the last good one go."""
        group = self.learner.group
        last, broken = checkpoint.last_good(self.folder)
        if last is None:
            if group.main:  # of a run that was killed before its first checkpoint
                (self.folder / "metrics.jsonl").unlink(missing_ok=True)
            return False
        state, averages = checkpoint.restore(last, self.learner.networks, self.learner.profiles)
        try:
            self.learner.load(state, averages)
        except ValueError as error:
            raise ValueError(
                f"{last} was trained with another optimizer ({error}); keep train.optimizer as it was "
                "when resuming"
            ) from None
        self.at.load(state, group.device)
        self.saved = self.at.step
        group.accelerator.wait_for_everyone()  # all have looked at them
        if group.main:
            for folder, why in broken.items():
                aside = checkpoint.set_aside(folder)
                self.note(f"checkpoint {int(folder.name)} is broken ({why}) and is now {aside}")
            if broken:
                self.note(f"{self.folder} goes on from checkpoint {int(last.name)}")
            told = checkpoint.forget_after(self.folder, last)
            if told is not None:
                self.note(told)
        return True

    def diverged(self, loss: float) -> NoReturn:
        good = checkpoint.newest_good(self.folder)
        last = (
            f"the last good checkpoint is {self.folder}@{int(good.name)}"
            if good is not None
            else "there is no checkpoint yet"
        )
        raise Diverged(
            f"the loss became {loss} at step {self.at.step}; {last}. Nothing was overwritten; try a lower "
            "train.lr or train.clip=1.0"
        )


def _versions() -> dict[str, str]:
    return {"studio": __version__, "torch": torch.__version__.split("+")[0]}
