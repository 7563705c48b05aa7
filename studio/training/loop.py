"""The loop of training steps, with checkpoints that resume to the same bytes.

One step: data → codec → batch → coupling → path → network → objective → optimiser → EMA. Everything random is
a function of (seed, step, place in the effective batch), so a resumed run needs only the step, and the number
of processes changes nothing but rounding.
"""

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from backbones.types import RunContext
from samplers.objective import Objective
from studio.checkpoints import checkpoint
from studio.checkpoints.build import Info, built_buffers
from studio.codecs.codec import build_codec
from studio.config import AUTO, Config
from studio.data import Data
from studio.data.loader import held_out
from studio.data.notes import of_data
from studio.runtime import files
from studio.runtime.devices import DTYPE_NAMES
from studio.runtime.lock import RunLock
from studio.runtime.progress import Bar, memory_mb, step_text
from studio.runtime.signals import StopSignal
from studio.runtime.strict_json import to_json
from studio.runtime.version import __version__
from studio.tasks import build_task
from studio.training import loss_curve
from studio.training.batches import Feed, Ready
from studio.training.ema import EMA
from studio.training.held_out import held_out_loss, preview
from studio.training.optim import build_optimizers, forget, load_state, lr_factor, state_of
from studio.training.procedure import Phase, Setting, build_procedure
from studio.training.processes import Group
from studio.training.tracking import Trackers, accelerates

DRAWN_EVERY = 60  # seconds between drawings of the loss curve, at the least


class Diverged(RuntimeError):
    """The loss or the weights stopped being finite."""


class Trainer:
    """One run. Made by `studio.train`, which has checked everything; ``run`` goes on from the newest
    checkpoint in the folder."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        data: Data,
        info: Info,
        net: nn.Module,
        objective: Objective,
        device: torch.device,
        dtype: torch.dtype,
        quiet: bool,
        on_log: Callable[[dict[str, Any]], Any] | None,
        source: Mapping[str, Any],
        lock: RunLock | None = None,
    ):
        self.config, self.folder, self.data, self.objective, self.dtype, self.on_log = (
            config,
            folder,
            data,
            objective,
            dtype,
            on_log,
        )
        self.source, self.lock = source, lock
        cfg = config.train
        self.group = Group(device, dtype, folder, accelerates(cfg.trackers), cfg.ddp)
        self.accelerator, self.device, self.main, world = (
            self.group.accelerator,
            self.group.device,
            self.group.main,
            self.group.world,
        )
        for part in ("coupling", "times"):
            if world > 1 and getattr(getattr(objective, part, None), "remembers", False):
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
        self.codec, self.info = build_codec(info.codec), info
        net = net.to(self.device)
        self.networks: dict[str, nn.Module] = (
            dict(net.items()) if isinstance(net, nn.ModuleDict) else {"net": net}
        )
        self.wrapped: dict[str, Any] = {
            n: torch.compile(m) if cfg.compile else m for n, m in self.networks.items()
        }
        self.wrapped = {
            n: self.accelerator.prepare_model(m) if world > 1 else m for n, m in self.wrapped.items()
        }
        self.group.share_buffers(list(self.networks.values()))
        self.ema = EMA(self.networks, cfg.ema, known=built_buffers(config))
        self.updates = dict.fromkeys(self.networks, 0)  # of each network's weights
        self.one_count = False  # one of all together, in runs of earlier versions
        # holds averages for evaluation
        self.shown = {
            name: copy.deepcopy(n).eval().requires_grad_(False) for name, n in self.networks.items()
        }
        self.optimizers = build_optimizers(self.networks, cfg)
        self.context = RunContext()  # what couplings and samplers of time remember lives in its ``states``
        task = build_task(info.task, info.codec)
        self.feed = Feed(config, self.codec, task, self.device, self.group.rank, world)
        self.step, self.elapsed, self.phase, self.phase_start, self.saved = 0, 0.0, 0, 0, -1
        # a sixteenth of so short a run is nothing
        self.weak_done = not cfg.weak_snapshot or (cfg.steps is not None and cfg.steps < 16)
        self.recent: list[Tensor] = []
        self.logs: dict[str, list[Tensor]] = {}  # since the last line of the log
        self.last: dict[str, Any] = {}
        self.looked: set[str] = set()  # networks that were looked at for parameters without a gradient
        # broken: a loss was not finite since the processes last met
        self.stop, self.broken = StopSignal(), False
        self.ended, self.raised = False, None  # type: bool, Exception | SystemExit | None  # by on_log
        self.whole = True  # not while a step changes the weights
        self.note: Callable[[str], None] = lambda text: None
        self.kept: Callable[[], None] = lambda: None  # called when there is something of the run to keep
        self.told: set[Path] = set()  # broken checkpoints that were named
        self.drawn = time.monotonic()
        # of a warm-up that takes too much of a run by minutes, which is known when its pace is
        self.warned = False

    # ---- the run ---------------------------------------------------------------------------------

    def run(self) -> bool:
        """Train to the end of the run; True when a signal stopped it early. `step` and `last` tell how far it
        came."""
        length = self.config.train.steps or self.config.train.minutes
        bar = Bar(self.config.name, float(length or 0), quiet=self.quiet)
        phases: Iterable[Phase] = build_procedure(self.config.procedure)(self._setting(bar))
        self.note = bar.note
        last, broken = checkpoint.last_good(self.folder)
        if last is not None:
            self._restore(last)
            self._pass_over(last, broken)
        elif self.main:
            # of a run that was killed before its first checkpoint
            (self.folder / "metrics.jsonl").unlink(missing_ok=True)
        if self.group.world > 1:  # before anything is written
            phases = listed = list(phases)
            phase = listed[self.phase]
            self._look_for_unused(
                phase, next(self.feed.steps(phase, self.step, self.phase_start, self.context))[0]
            )
        if self.main:
            self._write_header()
        bar.note(of_data(self.data, build_task(self.info.task, self.info.codec).says))
        if self.data.skipped:
            bar.note(f"{self.data.skipped} files did not decode and were left out")
        for note in (*self.data.notes, *self._warnings()):
            bar.note(note)
        self.group.start(self.step, self.elapsed)
        self.trackers = Trackers(
            self.accelerator, self.config.train.trackers, self.folder, self.config.name, self.step, bar.note
        )
        interrupted = False
        try:
            with self.stop:
                for index, phase in enumerate(phases):
                    if index < self.phase:
                        continue
                    if index > self.phase:
                        self.phase, self.phase_start = index, self.step
                    if self.step == self.phase_start:
                        self._restart(phase)
                    interrupted = self._phase(phase, bar)
                    if interrupted:
                        break
                if interrupted:
                    bar.note(
                        f"stopping at step {self.step}; a second signal ends the process at once, without "
                        "a checkpoint"
                    )
                elif self.config.train.log_every and self.recent and "loss" not in self.last:
                    # the whole run was shorter than an interval
                    self._log_training(self.step / max(self.elapsed, 1e-9), keep=True)
                if self.saved != self.step:
                    self._save()
                self._draw()
                # for the first process to have written: whoever goes on may read it
                self.accelerator.wait_for_everyone()
            interrupted = interrupted or self.stop.asked
        except Exception:
            self._save_after_error()
            raise
        finally:
            bar.close()
            self.trackers.end()
        if interrupted:
            bar.note(f"stopped at step {self.step}; go on with --resume")
        if self.raised is not None:
            raise self.raised
        return interrupted

    def _asked(self) -> bool:
        """Whether a signal or ``on_log`` asked for the end of the run."""
        return self.stop.asked or self.ended

    def _save_after_error(self) -> None:
        """Keep what was trained since the last checkpoint, where an error came between two steps' changes of
        the weights."""
        begun = self.saved >= 0 or (self.folder / "metrics.jsonl").is_file()
        if not (self.whole and begun and self.step > self.saved and self.group.world == 1):
            return
        try:
            self._save()
        except Exception as error:  # the first error is the one to tell
            self.note(f"no checkpoint could be written at step {self.step}: {error}")
        else:
            self.note(f"an error ended the run; step {self.step} is kept, go on with --resume")

    def _progress(self) -> float:
        """The share of the run that is done, the same on all processes."""
        cfg = self.config.train
        elapsed = self.elapsed if self.group.world == 1 else self.group.elapsed
        return self.step / cfg.steps if cfg.steps else elapsed / (60 * cfg.minutes) if cfg.minutes else 0.0

    def _warnings(self) -> list[str]:
        cfg, found = self.config.train, []
        if cfg.steps is not None and cfg.warmup != AUTO and cfg.warmup > cfg.steps:
            share = cfg.steps / cfg.warmup
            found.append(
                f"train.warmup={cfg.warmup} is longer than the run of {cfg.steps} steps: the rate ends at "
                f"{share:.2g} of train.lr; try train.warmup=auto"
            )
        for name, net in self.networks.items():
            if not net.training:
                found.append(
                    f"{name} is in eval mode: dropout and batch statistics stand still in training; call "
                    ".train() on it first"
                )
        if self.one_count:
            found.append(
                "averages of this run, of an earlier version, count the steps of all networks together, "
                "and go on so"
            )
        return found

    def _warn_of_warmup(self) -> None:
        self.warned, whole, warmup = True, self.step / self._progress(), self.config.train.warmup
        if warmup != AUTO and 2 * warmup > whole:
            self.note(
                f"train.warmup={warmup} is much of this run of about {whole:.0f} steps; try train.warmup=auto"
            )

    def _restart(self, phase: Phase) -> None:
        """Networks that a phase begins anew: their weights, and with them their averages and moments (runs of
        earlier versions keep those)."""
        for name, weights in phase.restart.items():
            self.networks[name].load_state_dict(weights)
            if not self.one_count:
                self.ema.restart(name)
                forget(self.optimizers, self.networks[name].parameters())
                self.updates[name] = 0

    def _phase(self, phase: Phase, bar: Bar) -> bool:
        """Train until the phase ends; True when a signal asked to stop."""
        cfg, stream = self.config.train, self.feed.steps(phase, self.step, self.phase_start, self.context)
        clock, rate, together = time.monotonic(), 0.0, self.group.world > 1
        while self._progress() < phase.until:
            work = next(stream)
            if together and phase.network not in self.looked:
                self._look_for_unused(phase, work[0])
            loss = self._step(phase, work)
            now = time.monotonic()
            rate = 1 / max(now - clock, 1e-9) if not rate else 0.95 * rate + 0.05 / max(now - clock, 1e-9)
            self.elapsed, clock = self.elapsed + now - clock, now
            self.step += 1
            self.whole = True
            self.recent.append(loss)
            shown = float(self.recent[-1]) if self.device.type == "cpu" else None
            if not bar.quiet:
                bar.update(
                    self.step if cfg.steps else self.elapsed / 60,
                    step_text(self.step, shown, rate, cfg.batch_size),
                )
            if not self.warned and cfg.minutes and self._progress() >= 0.1:
                self._warn_of_warmup()
            broken = shown is not None and not math.isfinite(shown)
            if together:
                stop = self._meet(phase, broken)
            elif broken:
                self._diverged(float(loss))
            if cfg.log_every and self.step % cfg.log_every == 0:
                self._log_training(rate)
            if cfg.eval_every and self.step % cfg.eval_every == 0:
                self._evaluate(phase)
            if not self.weak_done and self._progress() >= 1 / 16:
                self.weak_done = True
                self._save(keep=True)
            elif cfg.save_every and self.step % cfg.save_every == 0:
                self._save()
            if stop if together else self._asked():
                return True
        return False

    def _meet(self, phase: Phase, broken: bool) -> bool:
        """Agree with the other processes, every few steps and before anything that is done together; True
        when a signal asked one of them to stop."""
        cfg, self.broken = self.config.train, self.broken or broken
        due = any(
            every and self.step % every == 0 for every in (cfg.log_every, cfg.eval_every, cfg.save_every)
        )
        at = self._progress()
        if not (
            due or self.step >= self.group.next or at >= phase.until or (not self.weak_done and at >= 1 / 16)
        ):
            return False
        stop, broken = self.group.meet(self.step, self.elapsed, stop=self._asked(), broken=self.broken)
        if broken:
            self._diverged(math.nan)
        return stop

    def _look_for_unused(self, phase: Phase, ready: Ready) -> None:
        """Before a network's first step: a backward pass by itself, which leaves no trace."""
        self.looked.add(phase.network)
        if self.config.train.ddp.find_unused_parameters:
            return
        net, low = self.networks[phase.network], self.dtype if self.dtype != torch.float32 else None
        kept = [b.clone() for b in net.buffers()]
        with self._generator(0), torch.autocast(self.device.type, dtype=low, enabled=low is not None):
            phase.objective.loss(
                net, ready.batch, ready.noise, RunContext(), pairs=ready.pairs
            ).per_sample.mean().backward()
        with torch.no_grad():
            for buffer, value in zip(net.buffers(), kept):
                buffer.copy_(value)
        self.group.refuse_unused(net)
        net.zero_grad()

    def _step(self, phase: Phase, work: Iterable[Ready]) -> Tensor:
        """One optimiser step; returns the mean loss, detached."""
        self.whole = not self.context.states  # which the loss changes
        cfg = self.config.train
        factor = lr_factor(cfg, self.step, self._progress())
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
        net = self.wrapped[phase.network]
        low = self.dtype if self.dtype != torch.float32 else None
        total = torch.zeros((), device=self.device)
        for k, ready in enumerate(work):
            last = k + 1 == cfg.accumulate
            with contextlib.nullcontext() if last else self.accelerator.no_sync(net):
                with self._generator(k), torch.autocast(self.device.type, dtype=low, enabled=low is not None):
                    loss = phase.objective.loss(
                        net, ready.batch, ready.noise, self.context, pairs=ready.pairs
                    )
                    mean = loss.per_sample.mean() / cfg.accumulate
                self.accelerator.backward(mean)
            total += mean.detach()
            for name, value in loss.logs.items():
                self.logs.setdefault(name, []).append(value.detach())
        scaler = self.accelerator.scaler
        if scaler is not None:
            for optimizer in self.optimizers:
                scaler.unscale_(optimizer)
        if cfg.clip:
            torch.nn.utils.clip_grad_norm_(
                [p for n in phase.networks for p in self.networks[n].parameters()], cfg.clip, foreach=True
            )
        self.whole = False
        for optimizer in self.optimizers:
            scaler.step(optimizer) if scaler is not None else optimizer.step()
            optimizer.zero_grad()
        if scaler is not None:
            scaler.update()
        self.group.share_buffers([self.networks[n] for n in phase.networks])
        for name in self.networks if self.one_count else phase.networks:
            self.updates[name] += 1
        for name in phase.networks:
            self.ema.update(self.updates[name], (name,))
        return total

    @contextlib.contextmanager
    def _generator(self, k: int) -> Iterator[None]:
        """torch's own generator for layers that draw from it (dropout in a network of yours): a function of
        (seed, step); the caller's is put back."""
        place = (
            self.step * self.config.train.accumulate + k
        ) * self.accelerator.num_processes + self.accelerator.process_index
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed((self.config.seed * 0x9E3779B1 + place) % 2**63)
            yield

    def _setting(self, bar: Bar) -> Setting:
        def average(name: str) -> nn.Module:
            if self.ema.shadow:
                self.ema.copy_to(next(iter(self.ema.shadow)), self.shown)
            else:
                self.shown[name].load_state_dict(self.networks[name].state_dict())
            return self.shown[name]

        return Setting(
            self.networks,
            average,
            self.objective,
            self.data,
            self.codec,
            self.config.train.batch_size,
            self.feed.places,
            self.config.seed,
            self.device,
            self._looking_dtype(),
            bar.note,
        )

    # ---- looking at it ---------------------------------------------------------------------------

    def _log(self, values: dict[str, Any]) -> None:
        entry = {"step": self.step, "elapsed": round(self.elapsed, 3), **values}
        self.last = {**self.last, **entry}
        if self.main:
            with open(self.folder / "metrics.jsonl", "a") as handle:
                handle.write(to_json(entry) + "\n")
            self.kept()
        self.trackers.log(values, self.step)
        if self.on_log is not None and self.main and not self.ended:
            try:
                going = self.on_log(entry)
                self.ended = isinstance(going, bool | np.bool_) and not going
            except (Exception, SystemExit) as error:  # raised again when the run is kept
                self.raised, self.ended = error, True

    def _log_training(self, rate: float, *, keep: bool = False) -> None:
        """``keep``: what was averaged also counts for the next line, of a run that is made longer."""
        loss, kept = (
            self.accelerator.reduce(torch.stack(self.recent).double().mean(), "mean"),
            (self.recent, self.logs),
        )
        self.recent = []
        if not math.isfinite(float(loss)):
            self._diverged(float(loss))
        means = {
            k: sum(map(float, v)) / len(v) for k, v in self.logs.items() if k != "error" or len(self.logs) > 1
        }
        self.logs = {}
        learning = [o.param_groups[0]["lr"] for o in self.optimizers]
        self._log(
            {
                "loss": float(loss),
                **{k: round(v, 6) for k, v in means.items()},
                "lr": learning[0],
                "samples_per_s": round(rate * self.config.train.batch_size, 1),
                "memory_mb": round(memory_mb()),
            }
        )
        if keep:
            self.recent, self.logs = kept

    def _draw(self) -> None:
        """The curve so far; a run is not lost over it."""
        self.drawn = time.monotonic()
        if self.main:
            try:
                loss_curve.draw(self.folder)
            except Exception as error:
                self.note(f"{loss_curve.NAME} was not drawn: {error}")

    def _evaluate(self, phase: Phase) -> None:
        if not self.main or phase.pairs is not None:  # of simulated pairs none are held out
            return
        count = self.config.train.eval_samples
        kept = held_out(self.data, count)
        if kept is None:
            return
        values, cond, source = kept.values, kept.cond, kept.source
        ends = (source, values) if phase.swap and source is not None else (values, source)
        options = dict(
            source=ends[1], seed=self.config.seed + 1, device=self.device, dtype=self._looking_dtype()
        )
        live = held_out_loss(
            self.networks[phase.network], phase.objective, self.codec, ends[0], cond, **options
        )
        entry: dict[str, Any] = {
            "held_out": sum(live) / len(live),
            "held_out_bins": [round(v, 5) for v in live],
        }
        for profile in self.ema.shadow:
            self.ema.copy_to(profile, self.shown)
            bins = held_out_loss(
                self.shown[phase.network], phase.objective, self.codec, ends[0], cond, **options
            )
            entry |= {
                f"held_out_ema_{profile}": sum(bins) / len(bins),
                f"held_out_ema_{profile}_bins": [round(v, 5) for v in bins],
            }
        lost = [k for k, v in entry.items() if not k.endswith("_bins") and not math.isfinite(v)]
        if lost:
            self.note(
                f"step {self.step}: {', '.join(lost)} is not finite (null in metrics.jsonl); the network "
                "diverges somewhere along the path: try a lower train.lr"
            )
        self._log(entry)

    def _preview(self) -> Any:
        """A grid with the first average, the live weights without one."""
        if not self.config.train.preview:
            return None
        if self.ema.shadow:
            self.ema.copy_to(next(iter(self.ema.shadow)), self.shown)
        else:
            for name, net in self.shown.items():
                net.load_state_dict(self.networks[name].state_dict())
        net = self.shown["net"] if "net" in self.shown else nn.ModuleDict(self.shown)
        try:
            return preview(
                net,
                self.config,
                self.info,
                self.codec,
                self.data,
                device=self.device,
                dtype=self._looking_dtype(),
            )
        # a network of one's own may not know what sampling asks; what was trained is kept all the same
        except Exception as error:
            self.note(f"step {self.step}: no preview: {error}")
            return None

    def _looking_dtype(self) -> torch.dtype:
        """Evaluation runs in the training precision, but never in fp16."""
        return torch.float32 if self.dtype == torch.float16 else self.dtype

    # ---- keeping it ------------------------------------------------------------------------------

    def _write_header(self) -> None:
        checkpoint.write_header(self.folder, self.config.yaml(), self._about())
        for name, text in self.data.beside.items():
            files.write_text(self.folder / name, text)

    def _about(self) -> dict[str, Any]:
        """The run's ``meta.json``, of which every checkpoint keeps a copy."""
        parameters = sum(p.numel() for net in self.networks.values() for p in net.parameters())
        entries = {"version": checkpoint.VERSION, **self.info.tree(), "parameters": parameters, **_versions()}
        if self.config.backbone.get("name") == "custom":  # to tell how it is loaded
            entries["network"] = type(next(iter(self.networks.values()))).__name__
        return {**entries, "source": self.source, "config": self.config.tree()}

    def _save(self, keep: bool = False) -> None:
        self.saved = self.step  # on every process: all of them meet in the barrier or none
        if not all(bool(torch.isfinite(p).all()) for net in self.networks.values() for p in net.parameters()):
            self._diverged(float("nan"))
        self.accelerator.wait_for_everyone()
        if not self.main:
            return
        if self.lock is not None:
            self.lock.check()
        state = {
            "step": self.step,
            "elapsed": self.elapsed,
            "phase": self.phase,
            "phase_start": self.phase_start,
            "states": self.context.states,
            "weak_done": self.weak_done,
            "updates": self.updates,
            "one_count": self.one_count,
            "logs": {k: [float(v) for v in values] for k, values in self.logs.items()},
            "optimizers": state_of(self.networks, self.optimizers),
            "recent": [float(v) for v in self.recent],
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
        }
        meta = {
            "keep": keep,
            "elapsed": round(self.elapsed, 2),
            "dtype": DTYPE_NAMES[self.dtype],
            **_versions(),
            "run": self._about(),
        }
        metrics = self.folder / "metrics.jsonl"
        if metrics.is_file():
            files.sync(metrics)
            meta["metrics"] = metrics.stat().st_size
        picture = self._preview()
        averages = {profile: self.ema.tensors(profile) for profile in self.ema.shadow}
        checkpoint.save(self.folder, self.step, self.networks, averages, state, meta, preview=picture)
        self.trackers.picture("samples", picture, self.step)
        self.kept()
        if time.monotonic() - self.drawn > DRAWN_EVERY:
            self._draw()
        for broken in checkpoint.prune(
            self.folder, self.config.train.keep_last, self.config.train.keep_every
        ):
            if broken not in self.told:
                self.told.add(broken)
                self.note(
                    f"checkpoint {int(broken.name)} is broken ({checkpoint.damage(broken)}); it is passed "
                    "over and left as it is"
                )

    def _restore(self, folder: Path) -> None:
        state, averages = checkpoint.restore(folder, self.networks, self.ema.shadow)
        for profile, tensors in averages.items():
            self.ema.load(profile, tensors)
        try:
            load_state(self.networks, self.optimizers, state["optimizers"])
        except ValueError as error:
            raise ValueError(
                f"{folder} was trained with another optimizer ({error}); keep train.optimizer as it was "
                "when resuming"
            ) from None
        if state["scaler"] is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.elapsed, self.phase, self.weak_done = (
            state["step"],
            state["elapsed"],
            state["phase"],
            state["weak_done"],
        )
        self.recent = [torch.tensor(v, device=self.device) for v in state["recent"]]
        self.logs = {
            k: [torch.tensor(v, dtype=torch.float64) for v in values]
            for k, values in state.get("logs", {}).items()
        }
        self.phase_start, self.context.states = state.get("phase_start", 0), state.get("states", {})
        self.updates = state.get("updates", dict.fromkeys(self.networks, self.step))
        self.one_count = state.get("one_count", "updates" not in state and len(self.networks) > 1)
        self.saved = self.step

    def _pass_over(self, last: Path, broken: dict[Path, str]) -> None:
        """Broken checkpoints make room for those that are written again; lines of metrics after the last good
        one go."""
        self.accelerator.wait_for_everyone()  # all have looked at them
        if self.main:
            for folder, why in broken.items():
                self.note(
                    f"checkpoint {int(folder.name)} is broken ({why}) and is now "
                    f"{checkpoint.set_aside(folder)}"
                )
            if broken:
                self.note(f"{self.folder} goes on from checkpoint {int(last.name)}")
            told = checkpoint.forget_after(self.folder, last)
            if told is not None:
                self.note(told)

    def _diverged(self, loss: float) -> None:
        good = checkpoint.newest_good(self.folder)
        last = (
            f"the last good checkpoint is {self.folder}@{int(good.name)}"
            if good is not None
            else "there is no checkpoint yet"
        )
        raise Diverged(
            f"the loss became {loss} at step {self.step}; {last}. Nothing was overwritten; try a lower "
            "train.lr or train.clip=1.0"
        )


def _versions() -> dict[str, str]:
    return {"studio": __version__, "torch": torch.__version__.split("+")[0]}
