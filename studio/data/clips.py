"""Clips: a user's own (N, T, C, H, W) uint8 frames, or a disc and a square that bounce off the walls."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from backbones.noise import NoiseSource
from studio.data.arrays import Data, from_arrays
from studio.data.colour import MODES
from studio.data.layout import layout_of
from studio.data.npz_files import array_of, beside, named_array, opened
from studio.data.parts import HELD_OUT, parted

RADIUS = 2.0  # of the toy's disc, and half of its square, in pixels


def bouncing(seeds: range, frames: int = 8, size: int = 12) -> np.ndarray:
    """(N, frames, 1, size, size) uint8: a white disc and a grey square, each with a place and a velocity of
    its own (at most one pixel a frame along each side), which the walls turn round. Drawn from their seeds;
    what follows the first two frames is determined."""
    u = (
        NoiseSource(seeds).uniform((2, 2, 2), stream="bouncing").double().numpy()
    )  # shape, start or speed, axis
    room = size - 1 - 2 * RADIUS  # that a centre has
    time = np.arange(frames)[None, None, :, None]
    way = u[:, :, None, 0] * room + (u[:, :, None, 1] - 0.5) * 2 * time  # (N, shape, T, axis)
    centre = RADIUS + room - np.abs(way % (2 * room) - room)
    grid = np.arange(size)
    dy, dx = (np.abs(grid - centre[..., k, None]) for k in (0, 1))  # (N, shape, T, size) each
    disc = np.hypot(dy[:, 0, :, :, None], dx[:, 0, :, None])
    square = np.maximum(dy[:, 1, :, :, None], dx[:, 1, :, None])
    drawn = np.maximum(
        *(np.clip(RADIUS + 0.5 - far, 0, 1) * bright for far, bright in ((disc, 1), (square, 0.6)))
    )
    return (255 * drawn).round().astype(np.uint8)[:, :, None]


def clips(
    *,
    path: str = "",
    frames: str = "frames",
    layout: Literal["chw", "hwc"] | None = None,
    labels: str | None = None,
    conditions: tuple[str, ...] = (),
    count: int = 6000,
    length: int = 8,
    size: int = 12,
    held_out: float = HELD_OUT,
    stratify: bool = True,
) -> Data:
    """An .npz with uint8 clips (N, T, C, H, W), (N, T, H, W, C) or, of one channel, (N, T, H, W) under the
    name that ``frames`` says; ``layout``: where the channels of a frame are, for shapes that do not tell.
    ``labels``, ``classes``, ``numeric``, ``conditions`` and ``held_out`` as of `studio.data.sources.npz`.
    Without a ``path``, ``count`` clips of ``length`` frames of ``size`` × ``size`` (`bouncing`).

    Raises ``ValueError`` for other shapes and types.
    """
    extra: dict[str, Any] = {"labels": None, "classes": ()}
    if path:
        where = Path(path).expanduser()
        with opened(where) as file:
            key = str(named_array(list(file), frames, (), "frames", where))
            values = laid_out(array_of(file, key, where, "uint8 clips"), f"{where} ({key})", layout)
            extra = beside(file, where, len(values), labels=labels, conditions=conditions)
        name = where.stem.replace("_", "-")
    else:
        if count < 2 or length < 1 or size < 4 * RADIUS:
            raise ValueError(
                f"got {count} clips of {length} frames of {size}×{size}, expected two or more of one or "
                f"more of {4 * RADIUS:g}×{4 * RADIUS:g} or more"
            )
        values, name = bouncing(range(count), length, size), "bouncing"
    y, classes = extra.pop("labels"), extra.pop("classes")
    data = from_arrays(
        name,
        values,
        y,
        classes,
        held_out=held_out,
        task="clips",
        codec={"name": "pixels"},
        parts=parted(len(values), y, held_out, stratify),
        **extra,
    )
    return replace(data, stratified=stratify)


def laid_out(values: np.ndarray, where: str, layout: str | None = None) -> np.ndarray:
    """(N, T, C, H, W) of clips in one of the forms of `clips`. Raises ``ValueError`` for what is none, and
    for shapes that could be two."""
    if values.dtype != np.uint8 or values.ndim not in (4, 5) or not values.size:
        raise ValueError(
            f"{where}: got {values.dtype} of shape {values.shape}, expected uint8 clips (N, T, C, H, W), (N, "
            "T, H, W, C) or (N, T, H, W), of one frame or more; of floats in 0..1 try (255 * "
            "frames).round().astype(np.uint8)"
        )
    if values.ndim == 4:
        return values[:, :, None]
    last = (layout or layout_of(values.shape[2:], where)) == "hwc"
    values = np.ascontiguousarray(values.transpose(0, 1, 4, 2, 3)) if last else values
    if values.shape[2] not in MODES:
        raise ValueError(
            f"{where}: got frames of {values.shape[2]} channels, expected 1, 3 or 4; see data.layout"
        )
    return values
