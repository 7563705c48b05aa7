"""Whether floats of a user's own data set are pictures, as ``ToTensor()`` makes them (0 is black, 1 is
white), or numbers with a meaning of their own."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import TensorDataset

from studio.codecs.codec import SLACK, makes_pictures
from studio.data.colour import MODES

FOUND = "floats that all lie in 0..1"
# items over the whole length of a data set that does not lie open; `studio.codecs.codec.Pixels` looks at the
# rest
LOOKED_AT = 256


def codec_of(dataset: Any, item: Callable[[int], Tensor]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The codec of a data set whose values ``item`` gives, and what a user should know of it. uint8 is
    pictures, as are floats (C, H, W) of 1, 3 or 4 channels that all lie in 0..1; other floats are used as
    they are."""
    first = item(0)
    if first.dtype.itemsize == 1 and not first.is_floating_point():
        return {"name": "pixels"}, ()
    own = {"name": "scale", "std": 1.0}
    if first.ndim != 3 or first.shape[0] not in MODES or not first.is_floating_point():
        return own, ()
    if type(dataset) is TensorDataset:
        return ({"name": "pixels"}, (_told(""),)) if in_unit(dataset.tensors[0]) else (own, ())
    some = np.unique(np.linspace(0, len(dataset) - 1, LOOKED_AT).round().astype(int)).tolist()
    if not all(in_unit(item(i)) for i in some):
        return own, ()
    return {"name": "pixels"}, (
        _told("" if len(some) == len(dataset) else f" in the {len(some)} items looked at"),
    )


def in_unit(values: Tensor) -> bool:
    low, high = values.aminmax()
    return bool(low >= -SLACK) and bool(high <= 1 + SLACK)


def _told(where: str) -> str:
    return (
        f"{FOUND}{where}: taken as pictures, 0 is black and 1 is white, and samples are uint8; give -1..1 "
        "to keep floats"
    )


def taken(data: Any) -> bool:
    """Whether a `Data` was found to hold pictures as floats."""
    return any(note.startswith(FOUND) for note in data.notes)


def as_recorded(data: Any, codec: Mapping[str, Any]) -> Any:
    """A `Data` that tells of its floats what is true of a run or base which uses them as they are."""
    if not taken(data) or makes_pictures(codec):
        return data
    others = tuple(note for note in data.notes if not note.startswith(FOUND))
    return replace(data, notes=(f"{FOUND}: used as they are, as before", *others))
