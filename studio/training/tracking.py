"""Trackers beside metrics.jsonl: scalars and the pictures of each checkpoint, through those that Accelerate
knows (TensorBoard, Weights & Biases, ...).

``wandb-offline`` is ``wandb`` that writes to the run folder and sends nothing. A tracker that fails is told
once and left alone; it never ends a run.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

OFFLINE = "wandb-offline"


def accelerates(names: Sequence[str]) -> list[str]:
    """Accelerate's names of trackers; raises ``ValueError`` for one that is not installed."""
    if not names:
        return []
    from accelerate.tracking import get_available_trackers

    there = [str(getattr(t, "value", t)) for t in get_available_trackers()]
    for name in names:
        if name.removesuffix("-offline" if name == OFFLINE else "") not in there:
            raise ValueError(
                f"got tracker {name!r}, which is not installed; there is {', '.join(there) or 'none'}. "
                "pip install tensorboard, or leave "
                "train.trackers out: metrics.jsonl is always written"
            )
    return [name.removesuffix("-offline") for name in names]


class Trackers:
    """The trackers of one run, begun when it knows its step. ``note`` tells a user of one that fails."""

    def __init__(
        self,
        accelerator: Any,
        names: Sequence[str],
        folder: Path,
        name: str,
        step: int,
        note: Callable[[str], None],
    ):
        self.accelerator, self.note, self.failed = accelerator, note, False
        wandb = {"dir": str(folder), "name": name, **({"mode": "offline"} if OFFLINE in names else {})}
        begun = {"tensorboard": {"purge_step": step + 1} if step else {}, "wandb": wandb}
        if names:
            kinds = accelerates(names)
            self._try(
                lambda: accelerator.init_trackers(
                    "trackers", init_kwargs={k: v for k, v in begun.items() if k in kinds}
                )
            )

    def log(self, values: Mapping[str, Any], step: int) -> None:
        numbers = {k: v for k, v in values.items() if isinstance(v, int | float)}
        self._try(lambda: self.accelerator.log(numbers, step=step))

    def picture(self, name: str, picture: Any, step: int) -> None:
        """A PIL picture, such as a grid of samples."""
        if picture is None or not self.accelerator.trackers:
            return
        values = np.asarray(picture.convert("RGB"))[None]  # (1, H, W, 3)
        for tracker in self.accelerator.trackers:
            if hasattr(tracker, "log_images"):
                order = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                self._try(partial(tracker.log_images, {name: values}, step=step, **order))

    def end(self) -> None:
        self._try(self.accelerator.end_training)

    def _try(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as error:
            if not self.failed:
                self.note(f"a tracker failed: {error}; metrics.jsonl goes on")
            self.failed = True
