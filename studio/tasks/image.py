"""Pictures: (B, C, H, W) uint8 with 1, 3 or 4 channels."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from backbones.types import NoiseSource
from studio.tasks.base import Augment, Task

MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class ImageTask(Task):
    name, dtype, one_each, channels_last = "image", "uint8", True, True
    measures = "studio.evaluation.picture_judge:JUDGE"

    @property
    def augments(self) -> Mapping[str, Augment]:
        """``flip``: half of the samples mirrored, left to right."""
        return {"flip": Augment(mirrored, raw=False)}

    @classmethod
    def misfit(cls, array: np.ndarray) -> str:
        return "" if array.dtype == np.uint8 and array.ndim in (3, 4) else "uint8 pictures (N, H, W[, C])"

    def shows(self, shape: Sequence[int]) -> bool:
        return shape[0] in MODES

    def pictures(self, values: Tensor) -> list[Image.Image]:
        """PIL pictures at their own size. Raises ``ValueError`` for a number of channels that is not a
        picture's."""
        if values.shape[1] not in MODES:
            raise ValueError(
                f"got samples with {values.shape[1]} channels, expected 1 (grey), 3 (RGB) or 4 (RGBA)"
            )
        arrays = values.cpu().permute(0, 2, 3, 1).numpy()
        return [Image.fromarray(a[..., 0] if a.shape[-1] == 1 else a, MODES[a.shape[-1]]) for a in arrays]

    def sheet(
        self, values: Tensor, *, columns: int | None = None, captions: Sequence[str] = ()
    ) -> Image.Image:
        """A contact sheet; small pictures are enlarged by a whole factor, captions stand below each."""
        return contact_sheet(self.pictures(values), columns=columns, captions=captions)


def mirrored(values: Tensor, noise: NoiseSource) -> Tensor:
    """(B, ..., W) with each row of numbers turned round, of half of the samples (stream ``flip``)."""
    turned = noise.uniform(stream="flip") < 0.5
    return torch.where(turned.view(-1, *[1] * (values.ndim - 1)), values.flip(-1), values)


def contact_sheet(
    pictures: Sequence[Image.Image], *, columns: int | None = None, captions: Sequence[str] = ()
) -> Image.Image:
    """Pictures of one size in rows; small ones are enlarged by a whole factor."""
    columns = columns or min(
        len(pictures),
        10 if len(pictures) % 10 == 0 else math.ceil(math.sqrt(len(pictures))) if len(pictures) > 8 else 8,
    )
    zoom = max(1, round(72 / pictures[0].height))
    width, height = pictures[0].width * zoom, pictures[0].height * zoom
    gap, label = 4, 14 if captions else 0
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap + label) + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for i, picture in enumerate(pictures):
        x, y = gap + i % columns * (width + gap), gap + i // columns * (height + gap + label)
        sheet.paste(picture.convert("RGB").resize((width, height), Image.Resampling.NEAREST), (x, y))
        if captions:
            draw.text((x, y + height + 1), captions[i][: max(4, width // 6)], fill="black")
    return sheet
