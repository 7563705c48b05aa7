"""The loop of training steps, with checkpoints that resume to the same bytes.

One update: source → codec → batch → loss of the networks → optimiser → averages. Everything random is a
function of (seed, step, place in the effective batch), so a resumed run needs only the step, and the number
of processes changes nothing but rounding.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backbones.types import RunContext
from studio.codecs.codec import build_codec
from studio.config import AUTO
from studio.data.notes import of_data
from studio.runtime.lock import RunLock
from studio.runtime.progress import Bar, step_text
from studio.runtime.signals import StopSignal
from studio.training.batches import Feed, Ready
from studio.training.keeping import Diverged, Keeper, Position
from studio.training.learner import Learner
from studio.training.looking import Observer
from studio.training.procedure import Phase, Setting, checked
from studio.training.processes import Group
from studio.training.resolve import Resolved
from studio.training.tracking import Trackers, accelerates

__all__ = ["Diverged", "Trainer"]
Stream = Iterator[list[Ready]]


class Trainer:
    """One run. Made by `studio.train`, which has checked everything; ``run`` goes on from the newest
    checkpoint in the folder. ``networks``: the live ones, by the names of the procedure."""

    def __init__(
        self,
        resolved: Resolved,
        networks: Mapping[str, nn.Module],
        folder: Path,
        device: torch.device,
        dtype: torch.dtype,
        quiet: bool = True,
        on_log: Callable[[dict[str, Any]], Any] | None = None,
        source: Mapping[str, Any] | None = None,
        lock: RunLock | None = None,
    ):
        self.resolved, self.config, self.data = resolved, resolved.config, resolved.data
        cfg = self.config.train
        self.group = Group(device, dtype, folder, accelerates(cfg.trackers), cfg.ddp)
        self.accelerator, self.device, self.main, world = (
            self.group.accelerator,
            self.group.device,
            self.group.main,
            self.group.world,
        )
        for part in ("coupling", "times"):
            if world > 1 and getattr(getattr(resolved.objective, part, None), "remembers", False):
                raise ValueError(
                    f"objective.{part} keeps values from batch to batch, which processes do not share; "
                    "train with one process, or choose another"
                )
        if cfg.batch_size % (world * cfg.accumulate):
            raise ValueError(
                f"train.batch_size={cfg.batch_size} does not divide into {world} processes × "
                f"accumulate={cfg.accumulate}"
            )
        self.quiet = quiet or not self.main
        self.codec = build_codec(resolved.info.codec)
        self.task = resolved.task
        self.learner = Learner(resolved, networks, self.group, dtype)
        self.feed = Feed(self.config, self.codec, self.task, self.device, self.group.rank, world)
        # a sixteenth of so short a run is nothing
        self.at = Position(weak_done=not cfg.weak_snapshot or (cfg.steps is not None and cfg.steps < 16))
        self.keeper = Keeper(resolved, folder, self.learner, self.at, source or {}, lock)
        self.observer = Observer(resolved, folder, self.learner, self.at, self.codec, on_log)
        self.bar = Bar(self.config.name, float(cfg.steps or cfg.minutes or 0), quiet=self.quiet)
        self.looked: set[tuple[str, ...]] = set()  # that were looked at for parameters without a gradient
        # broken: a loss was not finite since the processes last met
        self.stop, self.broken = StopSignal(), False
        self.whole = True  # not while a step changes the weights
        # of a warm-up that takes too much of a run by minutes, which is known when its pace is
        self.warned = False

    def phases(self) -> Sequence[Phase]:
        """Those of the procedure, checked."""
        procedure, learner = self.resolved.procedure, self.learner
        setting = Setting(
            learner.networks,
            lambda name: learner.average()[name],
            self.resolved.objective,
            self.data,
            self.codec,
            self.config.train.batch_size,
            self.config.seed,
            self.device,
            self.observer.looking_dtype(),
            self.bar.note,
            self.config.train.workers,
        )
        return checked(procedure.phases(setting), learner.specs, learner.settings)

    def run(self) -> bool:
        """Train to the end of the run; True when a signal stopped it early. ``at.step`` and
        ``observer.last`` tell how far it came."""
        at, bar = self.at, self.bar
        phases = self.phases()
        self.learner.remember_first(phases)
        self.keeper.note = self.observer.note = bar.note
        self.keeper.restore()
        if self.group.world > 1:  # before anything is written
            self._look_for_unused(phases[at.phase])
        if self.main:
            self.keeper.header()
        bar.note(of_data(self.data, self.task.says))
        if self.data.skipped:
            bar.note(f"{self.data.skipped} files did not decode and were left out")
        for note in (*self.data.notes, *self._warnings()):
            bar.note(note)
        self.group.start(at.step, at.elapsed)
        trackers = self.observer.trackers = Trackers(
            self.accelerator,
            self.config.train.trackers,
            self.keeper.folder,
            self.config.name,
            at.step,
            bar.note,
        )
        interrupted, first = False, at.step
        try:
            with self.stop:
                for index, phase in enumerate(phases):
                    if index < at.phase:
                        continue
                    if index > at.phase:
                        at.phase, at.phase_start = index, at.step
                    if at.step == at.phase_start:
                        self.learner.restart(phase.fresh)
                        if phase.begin is not None:
                            phase.begin(at.context)
                    interrupted = self._phase(phase)
                    if interrupted:
                        break
                if interrupted:
                    bar.note(
                        f"stopping at step {at.step}; a second signal ends the process at once, without "
                        "a checkpoint"
                    )
                elif (
                    self.config.train.log_every
                    and at.recent
                    and at.step > first
                    and "loss" not in self.observer.last
                ):  # the whole run was shorter than an interval
                    self._log_training(at.step / max(at.elapsed, 1e-9), keep=True)
                if self.keeper.saved != at.step:
                    self._save()
                self.observer.draw()
                # for the first process to have written: whoever goes on may read it
                self.accelerator.wait_for_everyone()
            interrupted = interrupted or self.stop.asked
        except Exception:
            self._save_after_error()
            raise
        finally:
            bar.close()
            trackers.end()
            self.learner.focus()
        if interrupted:
            bar.note(f"stopped at step {at.step}; go on with --resume")
        if self.observer.raised is not None:
            raise self.observer.raised
        return interrupted

    def _asked(self) -> bool:
        """Whether a signal or ``on_log`` asked for the end of the run."""
        return self.stop.asked or self.observer.ended

    def _save(self, *, keep: bool = False) -> None:
        picture = self.keeper.save(self.observer.preview, keep=keep)
        if self.main:
            if self.observer.trackers is not None:
                self.observer.trackers.picture("samples", picture, self.at.step)
            self.observer.kept()
            self.observer.draw(now=False)

    def _save_after_error(self) -> None:
        """Keep what was trained since the last checkpoint, where an error came between two steps' changes of
        the weights."""
        step, saved = self.at.step, self.keeper.saved
        begun = saved >= 0 or (self.keeper.folder / "metrics.jsonl").is_file()
        if not (self.whole and begun and step > saved and self.group.world == 1):
            return
        try:
            self._save()
        except Exception as error:  # the first error is the one to tell
            self.bar.note(f"no checkpoint could be written at step {step}: {error}")
        else:
            self.bar.note(f"an error ended the run; step {step} is kept, go on with --resume")

    def _progress(self) -> float:
        """The share of the run that is done, the same on all processes."""
        cfg = self.config.train
        elapsed = self.at.elapsed if self.group.world == 1 else self.group.elapsed
        return self.at.step / cfg.steps if cfg.steps else elapsed / (60 * cfg.minutes) if cfg.minutes else 0.0

    def _warnings(self) -> list[str]:
        cfg, found = self.config.train, []
        if cfg.steps is not None and cfg.warmup != AUTO and cfg.warmup > cfg.steps:
            share = cfg.steps / cfg.warmup
            found.append(
                f"train.warmup={cfg.warmup} is longer than the run of {cfg.steps} steps: the rate ends at "
                f"{share:.2g} of train.lr; try train.warmup=auto"
            )
        for name, net in self.learner.networks.items():
            if not net.training and not self.learner.specs[name].frozen:
                found.append(
                    f"{name} is in eval mode: dropout and batch statistics stand still in training; call "
                    ".train() on it first"
                )
        if self.learner.one_count:
            found.append(
                "averages of this run, of an earlier version, count the steps of all networks together, "
                "and go on so"
            )
        return found

    def _warn_of_warmup(self) -> None:
        self.warned, whole, warmup = True, self.at.step / self._progress(), self.config.train.warmup
        if warmup != AUTO and 2 * warmup > whole:
            self.bar.note(
                f"train.warmup={warmup} is much of this run of about {whole:.0f} steps; try train.warmup=auto"
            )

    # ---- steps -----------------------------------------------------------------------------------

    def streams(self, phase: Phase) -> list[Stream]:
        """The batches of each update of a phase from the step that comes next."""
        at = self.at
        return [
            self.feed.steps(update, number, at.step, at.phase_start, at.context)
            for number, update in enumerate(phase.updates)
        ]

    def train_step(self, phase: Phase, streams: Sequence[Stream]) -> Tensor:
        """One step of every update that is due; returns the sum of their mean losses, detached."""
        at, total = self.at, torch.zeros((), device=self.device)
        progress = self._progress()
        for number, (update, stream) in enumerate(zip(phase.updates, streams, strict=True)):
            if (at.step - at.phase_start) % update.every:
                continue
            for k in range(update.repeat):
                self.learner.focus(update.train)
                work = next(stream)
                self.whole = self.whole and not at.context.states  # which the loss changes
                loss, logs = self.learner.backward(
                    update, number, at.step * update.repeat + k, work, at.context
                )
                self.whole = False
                self.learner.apply(update, at.step, progress)
                total = total + loss / update.repeat
                if len(phase.updates) > 1:
                    name = "+".join(update.train)
                    logs = {f"{name}.{key}": value for key, value in {"loss": [loss], **logs}.items()}
                for key, values in logs.items():
                    at.logs.setdefault(key, []).extend(values)
        at.step += 1
        self.whole = True
        return total

    def _phase(self, phase: Phase) -> bool:
        """Train until the phase ends; True when a signal asked to stop."""
        cfg, at, streams, bar = self.config.train, self.at, self.streams(phase), self.bar
        clock, rate, together = time.monotonic(), 0.0, self.group.world > 1
        while self._progress() < phase.until:
            if together:
                self._look_for_unused(phase)
            loss = self.train_step(phase, streams)
            now = time.monotonic()
            rate = 1 / max(now - clock, 1e-9) if not rate else 0.95 * rate + 0.05 / max(now - clock, 1e-9)
            at.elapsed, clock = at.elapsed + now - clock, now
            at.recent.append(loss)
            shown = float(loss) if self.device.type == "cpu" else None
            if not bar.quiet:
                bar.update(
                    at.step if cfg.steps else at.elapsed / 60,
                    step_text(at.step, shown, rate, cfg.batch_size),
                )
            if not self.warned and cfg.minutes and self._progress() >= 0.1:
                self._warn_of_warmup()
            broken = shown is not None and not math.isfinite(shown)
            if together:
                stop = self._meet(phase, broken)
            elif broken:
                self.keeper.diverged(float(loss))
            if cfg.log_every and at.step % cfg.log_every == 0:
                self._log_training(rate)
            if cfg.eval_every and at.step % cfg.eval_every == 0:
                self.observer.evaluate(phase)
            if not at.weak_done and self._progress() >= 1 / 16:
                at.weak_done = True
                self._save(keep=True)
            elif cfg.save_every and at.step % cfg.save_every == 0:
                self._save()
            if stop if together else self._asked():
                return True
        return False

    def _log_training(self, rate: float, *, keep: bool = False) -> None:
        loss = self.observer.log_training(rate, keep=keep)
        if not math.isfinite(loss):
            self.keeper.diverged(loss)

    def _meet(self, phase: Phase, broken: bool) -> bool:
        """Agree with the other processes, every few steps and before anything that is done together; True
        when a signal asked one of them to stop."""
        cfg, at, self.broken = self.config.train, self.at, self.broken or broken
        due = any(every and at.step % every == 0 for every in (cfg.log_every, cfg.eval_every, cfg.save_every))
        done = self._progress()
        if not (
            due or at.step >= self.group.next or done >= phase.until or (not at.weak_done and done >= 1 / 16)
        ):
            return False
        stop, broken = self.group.meet(at.step, at.elapsed, stop=self._asked(), broken=self.broken)
        if broken:
            self.keeper.diverged(math.nan)
        return stop

    def _look_for_unused(self, phase: Phase) -> None:
        """Before the first step of networks on several processes, by batches of their own."""
        for number, update in enumerate(phase.updates):
            if update.train in self.looked:
                continue
            self.looked.add(update.train)
            if not self.config.train.ddp.find_unused_parameters:
                ctx = RunContext(states=copy.deepcopy(self.at.context.states))
                work = next(self.feed.steps(update, number, self.at.step, self.at.phase_start, ctx))
                self.learner.look_for_unused(update, number, work[0])
