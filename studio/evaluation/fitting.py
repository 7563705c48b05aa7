"""Pictures brought to one size and one number of channels before they are measured, where a caller asks for
it: scaled to cover both sides and the middle cut out, colours to grey or grey to RGB, as training reads
pictures."""

from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from backbones.registry import plain
from studio.data.decode import decode
from studio.data.sides import Size, as_size, said, sides_of
from studio.evaluation.picture_files import PictureFiles
from studio.evaluation.samples import SampleSet
from studio.tasks import kind_of


class Fitted:
    """(N, C, H, W) uint8 of pictures in memory, fitted when they are read."""

    dtype = np.dtype("uint8")

    def __init__(self, values: Any, size: Size | None, channels: int | None):
        self.values, self.size, self.channels = values, size, channels
        self.shape = (len(values), *self._one(np.asarray(values[0:1])[0]).shape)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> np.ndarray:
        some = [self._one(v) for v in np.asarray(self.values[index])]
        return np.stack(some) if some else np.zeros((0, *self.shape[1:]), np.uint8)

    def _one(self, value: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(
            value[0] if len(value) == 1 else np.ascontiguousarray(value.transpose(1, 2, 0))
        )
        return decode(picture, self.size, self.channels)


def fitted(found: SampleSet, size: Any = None, channels: Any = None) -> SampleSet:
    """The set with pictures of ``size`` pixels a side, or height and width, and of 1 or 3 ``channels``; as it
    is where neither is given. Raises ``ValueError`` for others than pictures."""
    if size is None and channels is None:
        return found
    size, channels = plain(size), plain(channels)
    if size is not None:
        whole = int(size) if isinstance(size, float) and size.is_integer() else size
        size = as_size(sides_of(whole, "size"))
    if channels not in (None, 1, 3):
        raise ValueError(f"got channels={channels!r}, expected 1 (grey) or 3 (RGB)")
    if not kind_of(found.task).one_each:
        raise ValueError(
            f"got {'size' if size is not None else 'channels'} for {found.task} samples, expected "
            "pictures; leave it out"
        )
    values = (
        PictureFiles(list(found.values.paths), found.values.reading, size, channels)
        if isinstance(found.values, PictureFiles)
        else Fitted(found.values, size, channels)
    )
    told = ", ".join(
        f"{name}={said(value)}"
        for name, value in (("size", size), ("channels", channels))
        if value is not None
    )
    test = None if found.test is None else fitted(found.test, size, channels)
    return replace(found, values=values, test=test, about={**found.about, "fitted": told})
