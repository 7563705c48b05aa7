"""How samples came about, as a moving picture: the data as seen from each step of a run, then the samples."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from studio.runtime import files
from studio.sampling.engine import Progress
from studio.sampling.samples import Samples

if TYPE_CHECKING:
    from PIL.Image import Image

    from studio.model.loaded import Loaded

NAME = "trajectory.gif"
STEPS = 59  # shown at most, evenly; the samples come after
SHOWN = 36  # of samples that are drawn one by one
BYTES = 256_000_000  # that what is kept may take
SIDE = 1024  # pixels of a frame at most
PACE, REST = 100, 1500  # milliseconds of a frame, and of the last


class Trajectory:
    """What `Model.sample` tells its ``on_step`` in one run, kept of the first samples: of as many as are
    shown and fit into memory. Of more steps than are shown every second is kept, every third, and so on.

    It is to lie in the folder ``out``. Raises ``ValueError`` for samples that are not drawn, and
    ``FileExistsError`` for a file that is there unless ``overwrite``."""

    def __init__(self, model: "Loaded", out: str | Path, *, overwrite: bool = False):
        if not model.task.shows(model.sample_shape):
            sides = ", ".join(map(str, model.sample_shape))
            raise ValueError(
                f"got --gif, but {model.name} makes samples of shape ({sides}), which {model.task.name} as a "
                "task does not draw; leave it out"
            )
        self.model, self.path = model, Path(out) / NAME
        files.check_file(self.path, overwrite=overwrite)
        each = (STEPS + 1) * math.prod(model.sample_shape) * np.dtype(model.task.dtype).itemsize
        self.most = max(1, BYTES // each)
        if not model.task.together:
            self.most = min(self.most, SHOWN)
        self.kept: dict[int, list[Tensor]] = {}  # decoded, by the row of the request
        self.rows: tuple[int | None, ...] | None = None
        self.every = self.count = 0

    def __call__(self, progress: Progress) -> None:
        if progress.rows != self.rows:
            self.rows, self.count = progress.rows, 0
            self.every = self.every or math.ceil(progress.step.num_steps / STEPS)
        shown = {row: i for i, row in enumerate(progress.rows) if row is not None and row < self.most}
        if shown and self.count % self.every == 0:
            values = self.model.codec.decode(progress.step.data_hat[[*shown.values()]]).cpu()
            for row, value in zip(shown, values):
                self.kept.setdefault(row, []).append(value)
            if max(map(len, self.kept.values())) > STEPS:  # of a solver that finds its steps on the way
                self.kept = {row: seen[::2] for row, seen in self.kept.items()}
                self.every *= 2
        self.count += 1

    def beside(self, other: Callable[[Progress], object]) -> Callable[[Progress], object]:
        """Both are told; the other may stop the run."""

        def told(progress: Progress) -> object:
            self(progress)
            return other(progress)

        return told

    def frames(self, samples: Samples) -> list[Tensor]:
        """(B, ...) decoded at each step that is kept, and the samples; those that arrived earlier wait."""
        ends = samples.values[: self.most]
        seen = [[*self.kept[row], end] for row, end in enumerate(ends)]
        return [torch.stack([one[min(k, len(one) - 1)] for one in seen]) for k in range(max(map(len, seen)))]

    def save(self, samples: Samples) -> Path:
        """Write it as an endless GIF, with the captions of the grid."""
        frames = self.frames(samples)
        texts = [str(r.get("class", "")) for r in samples.recipes[: self.most]]
        drawn = self.model.task.frames(frames, captions=texts if any(texts) else ())
        pages = map(_fitting, drawn)
        pace = [PACE] * (len(frames) - 1) + [REST]
        with files.replacing(self.path) as draft:
            next(pages).save(draft, format="GIF", save_all=True, append_images=pages, duration=pace, loop=0)
        return self.path


def _fitting(picture: "Image") -> "Image":
    picture.thumbnail((SIDE, SIDE))
    return picture
