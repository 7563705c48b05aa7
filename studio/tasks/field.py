"""Arrays (B, C, H, W) of floats that are no pictures: a user's own fields, or latents without a decoder. Kept
exactly in ``samples.npz``; pictures beside them only show them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from studio.runtime import files
from studio.tasks.base import Augment, Task
from studio.tasks.image import ImageTask, contact_sheet

SHOWN = 100  # of a whole set, on its sheet


class FieldTask(Task):
    name, beside, says = "field", True, "floats of its own"
    listing = ("sheet.png",)

    @property
    def augments(self) -> Mapping[str, Augment]:
        return ImageTask().augments

    def pictures(self, values: Tensor) -> list[Image.Image]:
        """0 is middle grey; −1 is black and 1 is white, or as far as the greatest of these values goes. One
        and three channels are grey and RGB; of others each is a grey picture, side by side."""
        values = values.float()
        scaled = values / values.abs().amax().clamp(min=1) if values.numel() else values
        shown = ((scaled + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        if shown.shape[1] not in (1, 3):
            shown = torch.cat(shown.split(1, dim=1), dim=-1)
        return ImageTask().pictures(shown)

    def sheet(
        self, values: Tensor, *, columns: int | None = None, captions: Sequence[str] = ()
    ) -> Image.Image:
        return contact_sheet(self.pictures(values), columns=columns, captions=captions)

    def frames(self, steps: Sequence[Tensor], *, captions: Sequence[str] = ()) -> Iterator[Image.Image]:
        """In one scale of greys."""
        drawn, each = self.pictures(torch.cat([*steps])), len(steps[0])
        return (contact_sheet(drawn[i : i + each], captions=captions) for i in range(0, len(drawn), each))

    def write(self, folder: Path, values: Tensor, recipes: Sequence[Mapping[str, Any]]) -> None:
        """A sheet of the first hundred."""
        with files.replacing(folder / "sheet.png") as draft:
            self.sheet(values[:SHOWN]).save(draft, format="PNG")
