"""One decoder of picture files: a file, one of its frames or a PIL picture to uint8 (C, H, W)."""

from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image

from studio.data.colour import ORIENTATION, filled_up, flattened, in_srgb, upright
from studio.data.depth import (
    Misfit,
    Reading,
    eight_bits,
    is_deep,
    key_alpha,
    values,
)
from studio.runtime.untrusted import open_picture

MAX_PIXELS = 64_000_000  # of a file as it is decoded
MOST_ENLARGED = 16_000_000  # pixels of a whole picture at the size that is asked for, before it is cropped


class TooLarge(ValueError):
    """A picture with more pixels than is reasonable to decode."""


def open_file(file: str | Path | Image.Image, frame: int = 0, size: int | None = None) -> Image.Image:
    """``size``: what the shorter side may be read as, where a large file can be decoded at less than its own
    size (JPEG)."""
    if isinstance(file, Image.Image):
        return file.copy()
    try:
        picture = open_picture(file)
    except Image.DecompressionBombError as error:  # Pillow looks at the size before we can
        raise TooLarge(
            f"{file} has too many pixels ({error}), expected at most {MAX_PIXELS:,}; scale it down first"
        ) from None
    width, height = picture.size
    if size is not None and width * height > MAX_PIXELS:
        # twice what is wanted: the rest is averaged as carefully as ever
        scale = 2 * size / min(width, height)
        picture.draft(None, (ceil(width * scale), ceil(height * scale)))
    if picture.width * picture.height > MAX_PIXELS:
        picture.close()
        raise TooLarge(
            f"{file} has {width}×{height} pixels, expected at most {MAX_PIXELS:,}; scale it down first"
        )
    if frame:
        picture.seek(frame)
    if getattr(picture, "tag_v2", {}).get(ORIENTATION, 1) > 4:
        # Pillow maps such files into memory with their sides exchanged, unless it knows no name
        picture.filename = ""
    return picture


def numbers_in(file: str | Path | Image.Image, frame: int) -> np.ndarray:
    opened: list[Image.Image] = []

    def reopen() -> Image.Image:
        opened.append(open_file(file, frame))
        return opened[-1]

    try:
        return values(reopen)
    except Misfit as error:
        raise Misfit(f"{file} {error}") from None
    finally:
        for picture in opened:
            picture.close()


def decode(
    file: str | Path | Image.Image,
    size: int | None = None,
    channels: int | None = None,
    reading: Reading | None = None,
    frame: int = 0,
    told: dict[str, str] | None = None,
    whole: bool = False,
) -> np.ndarray:
    """One picture as uint8 (C, H, W), as it is seen: upright, in sRGB, in front of the background. Grey stays
    grey, all else is RGB, unless ``channels`` says otherwise.

    ``size`` makes it square: the middle of it, or, ``whole``, all of it with the background beside. ``told``
    gets what was done to it and what of the file was left out. Raises `TooLarge` above 64 million pixels, and
    `Misfit` for numbers that are no picture's.
    """
    reading, told = reading or Reading(), told if told is not None else {}
    with open_file(file, frame, size) as handle:
        if frame == 0 and (count := getattr(handle, "n_frames", 1)) > 1:
            told["frames"] = str(count)
        if is_deep(handle):
            picture = _shallow(handle, file, frame, reading)
        else:
            handle.load()
            picture = handle
        picture = flattened(in_srgb(upright(picture, told), told), channels, reading.background, told)
    if size is not None and whole:
        scale = size / max(picture.size)
        width, height = (max(1, round(v * scale)) for v in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        picture = filled_up(picture, size, reading.background)
    elif size is not None:
        scale = size / min(picture.size)
        if size * max(picture.size) * scale > MOST_ENLARGED:  # a long strip, of which only the middle is seen
            picture = _middle(picture, min(picture.size))
            scale = size / min(picture.size)
        picture = picture.resize(
            (max(size, round(picture.width * scale)), max(size, round(picture.height * scale))),
            Image.Resampling.LANCZOS,
        )
        picture = _middle(picture, size)
    array = np.asarray(picture)
    return np.ascontiguousarray(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))


def _middle(picture: Image.Image, size: int) -> Image.Image:
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    return picture.crop((left, top, left + size, top + size))


def _shallow(
    handle: Image.Image, file: str | Path | Image.Image, frame: int, reading: Reading
) -> Image.Image:
    """A deep picture with eight bits a channel, and what its file tells of its colours and how it stands."""
    array = numbers_in(file, frame)
    try:
        made = eight_bits(array, reading)
    except Misfit as error:
        raise Misfit(f"{file} {error}") from None
    # TIFF: white is zero, which Pillow only turns at eight bits
    if getattr(handle, "tag_v2", {}).get(262) == 0:
        made = 255 - made
    key = handle.info.get("transparency")
    alpha = None if key is None else key_alpha(array, key)
    if alpha is not None:
        made = np.concatenate([made[..., None] if made.ndim == 2 else made, alpha[..., None]], -1)
    picture = Image.fromarray(made)
    handle.load()
    picture.info = {k: v for k, v in handle.info.items() if k != "transparency"}
    picture.getexif().update(handle.getexif())
    return picture
