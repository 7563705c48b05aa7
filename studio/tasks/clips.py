"""Clips: (B, T, C, H, W) uint8 frames with 1, 3 or 4 channels. Each is shown as a strip, all together as a
sheet and a moving GIF."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from studio.runtime import files
from studio.tasks.base import Augment, Task
from studio.tasks.image import MODES, ImageTask, contact_sheet
from studio.tasks.views import View

SHOWN = 36  # of a whole set, on its sheets
PACE = 150  # milliseconds of a frame


class ClipsTask(Task):
    name, dtype, array, beside, previewed = "clips", "uint8", "values", True, 8
    listing = ("sheet.png", "sheet.gif")
    parts_of = "image"
    measures = "studio.evaluation.series_measures:CLIPS"

    @property
    def augments(self) -> Mapping[str, Augment]:
        return ImageTask().augments

    @classmethod
    def misfit(cls, array: np.ndarray) -> str:
        fits = array.dtype == np.uint8 and array.ndim == 5 and array.shape[2] in MODES
        return "" if fits else "uint8 clips (N, T, C, H, W)"

    def shows(self, shape: Sequence[int]) -> bool:
        return len(shape) == 4 and shape[1] in MODES

    def pictures(self, values: Tensor) -> list[Image.Image]:
        """A strip of frames for each, a white line between two."""
        lines = F.pad(values, (0, 1), value=255).permute(0, 2, 3, 1, 4).flatten(3)  # (B, C, H, T(W + 1))
        return ImageTask().pictures(lines[..., :-1])

    def sheet(
        self, values: Tensor, *, columns: int | None = None, captions: Sequence[str] = ()
    ) -> Image.Image:
        """Strips in rows, below each other where there are few."""
        return contact_sheet(
            self.pictures(values), columns=columns or (1 if len(values) <= 8 else 2), captions=captions
        )

    def views(self, shape: Sequence[int]) -> tuple[View, ...]:
        return (View("Moving", "sheet.gif", "animation"),)

    def film(self, values: Tensor) -> list[Image.Image]:
        """A contact sheet of every frame."""
        return [contact_sheet(ImageTask().pictures(frame)) for frame in values.unbind(1)]

    def write(self, folder: Path, values: Tensor, recipes: Sequence[Mapping[str, Any]]) -> None:
        """Sheets of the first of them, still and moving."""
        with files.replacing(folder / "sheet.png") as draft:
            self.sheet(values[:SHOWN]).save(draft, format="PNG")
        first, *others = self.film(values[:SHOWN])
        with files.replacing(folder / "sheet.gif") as draft:
            first.save(draft, format="GIF", save_all=True, append_images=others, duration=PACE, loop=0)
