"""Looking at a run: lines of the log, held-out losses, previews, the curve."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from studio.checkpoints.networks import together
from studio.codecs.codec import Codec
from studio.runtime.progress import memory_mb
from studio.runtime.strict_json import to_json
from studio.training import loss_curve
from studio.training.held_out import held_out_loss, plain_loss, preview
from studio.training.keeping import Position
from studio.training.learner import Learner
from studio.training.procedure import Phase
from studio.training.resolve import Resolved
from studio.training.tracking import Trackers

DRAWN_EVERY = 60  # seconds between drawings of the loss curve, at the least


class Observer:
    """``ended`` and ``raised``: what ``on_log`` answered. ``kept`` is called when there is something of the
    run to keep."""

    def __init__(
        self,
        resolved: Resolved,
        folder: Path,
        learner: Learner,
        at: Position,
        codec: Codec,
        on_log: Callable[[dict[str, Any]], Any] | None,
    ):
        self.resolved, self.folder, self.learner, self.at, self.codec = resolved, folder, learner, at, codec
        self.on_log, self.main = on_log, learner.group.main
        self.last: dict[str, Any] = {}
        self.ended = False
        self.raised: Exception | SystemExit | None = None
        self.note: Callable[[str], None] = lambda text: None
        self.kept: Callable[[], None] = lambda: None
        self.trackers: Trackers | None = None
        self.drawn = time.monotonic()

    def log(self, values: dict[str, Any]) -> None:
        """A line of the log."""
        entry = {"step": self.at.step, "elapsed": round(self.at.elapsed, 3), **values}
        self.last = {**self.last, **entry}
        if self.main:
            with open(self.folder / "metrics.jsonl", "a") as handle:
                handle.write(to_json(entry) + "\n")
            self.kept()
        if self.trackers is not None:
            self.trackers.log(values, self.at.step)
        if self.on_log is not None and self.main and not self.ended:
            try:
                going = self.on_log(entry)
                self.ended = isinstance(going, bool | np.bool_) and not going
            except (Exception, SystemExit) as error:  # raised again when the run is kept
                self.raised, self.ended = error, True

    def log_training(self, rate: float, *, keep: bool = False) -> float:
        """A line of the mean loss since the last one, which is returned; of one that is not finite there is
        no line. ``keep``: what was averaged also counts for the next line, of a run that is made longer."""
        at, kept = self.at, (self.at.recent, self.at.logs)
        loss = float(self.learner.group.accelerator.reduce(torch.stack(at.recent).double().mean(), "mean"))
        at.recent = []
        if not math.isfinite(loss):
            return loss
        means = {
            k: sum(map(float, v)) / len(v) for k, v in at.logs.items() if k != "error" or len(at.logs) > 1
        }
        at.logs = {}
        optimizers = next(iter(self.learner.optimizers.values()))
        self.log(
            {
                "loss": loss,
                **{k: round(v, 6) for k, v in means.items()},
                "lr": optimizers[0].param_groups[0]["lr"],
                "samples_per_s": round(rate * self.resolved.config.train.batch_size, 1),
                "memory_mb": round(memory_mb()),
            }
        )
        if keep:
            at.recent, at.logs = kept
        return loss

    def evaluate(self, phase: Phase) -> None:
        """Lines of the held-out loss of what the phase watches, of the weights and of every average."""
        watched = phase.watch or phase.updates[0]
        held_out: Any = getattr(watched.source, "held_out", None)
        if not self.main or held_out is None:  # of simulated pairs none are held out
            return
        kept = held_out(self.resolved.config.train.eval_samples)
        if kept is None:
            return
        loss: Any = watched.loss
        objective = getattr(loss, "objective", None)

        def bins_of(nets: Mapping[str, nn.Module]) -> list[float]:
            options: dict[str, Any] = dict(
                source=kept.source,
                seed=self.resolved.config.seed + 1,
                device=self.learner.group.device,
                dtype=self.looking_dtype(),
            )
            if objective is None:
                return [plain_loss(nets, loss, self.codec, kept.values, kept.cond, **options)]
            net = nets[loss.network]
            return held_out_loss(net, objective, self.codec, kept.values, kept.cond, **options)

        entry: dict[str, Any] = _told("held_out", bins_of(self.learner.networks))
        for profile in self.learner.profiles:
            entry |= _told(f"held_out_ema_{profile}", bins_of(self.learner.average(profile)))
        lost = [k for k, v in entry.items() if not k.endswith("_bins") and not math.isfinite(v)]
        if lost:
            self.note(
                f"step {self.at.step}: {', '.join(lost)} is not finite (null in metrics.jsonl); the network "
                "diverges somewhere along the path: try a lower train.lr"
            )
        self.log(entry)

    def preview(self) -> Any:
        """A grid with the first average, the live weights without one."""
        resolved = self.resolved
        if not resolved.config.train.preview:
            return None
        try:
            return preview(
                together(self.learner.average()),
                resolved.config,
                resolved.info,
                self.codec,
                resolved.data,
                resolved.task,
                device=self.learner.group.device,
                dtype=self.looking_dtype(),
                procedure=resolved.procedure,
            )
        # a network of one's own may not know what sampling asks; what was trained is kept all the same
        except Exception as error:
            self.note(f"step {self.at.step}: no preview: {error}")
            return None

    def looking_dtype(self) -> torch.dtype:
        """Evaluation runs in the training precision, but never in fp16."""
        return torch.float32 if self.learner.dtype == torch.float16 else self.learner.dtype

    def draw(self, *, now: bool = True) -> None:
        """The curve so far, where anything came to it; a run is not lost over it."""
        if not now and time.monotonic() - self.drawn <= DRAWN_EVERY:
            return
        self.drawn = time.monotonic()
        if self.main and self.last:
            try:
                loss_curve.draw(self.folder)
            except Exception as error:
                self.note(f"{loss_curve.NAME} was not drawn: {error}")


def _told(name: str, bins: list[float]) -> dict[str, Any]:
    entry: dict[str, Any] = {name: sum(bins) / len(bins)}
    return entry | ({f"{name}_bins": [round(v, 5) for v in bins]} if len(bins) > 1 else {})
