"""One decoder of picture files: a file, one of its frames or a PIL picture to uint8 (C, H, W)."""

from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image

from studio.data.colour import ORIENTATION, filled_up, flattened, in_srgb, turned, upright
from studio.data.depth import (
    Misfit,
    Reading,
    eight_bits,
    is_deep,
    key_alpha,
    values,
)
from studio.data.sides import Size, sides_of
from studio.runtime.untrusted import open_picture

MAX_PIXELS = 64_000_000  # of a file as it is decoded
MOST_ENLARGED = 16_000_000  # pixels of a whole picture at the size that is asked for, before it is cropped


class TooLarge(ValueError):
    """A picture with more pixels than is reasonable to decode."""


def open_file(file: str | Path | Image.Image, frame: int = 0, size: Size | None = None) -> Image.Image:
    """``size``: what has to be covered of a picture as it is seen, where a large file can be decoded at less
    than its own size (JPEG)."""
    if isinstance(file, Image.Image):
        return file.copy()
    try:
        picture = open_picture(file)
    except Image.DecompressionBombError:  # Pillow looks at the size before we can
        raise TooLarge(
            f"{file} has too many pixels, expected at most {MAX_PIXELS:,}; scale it down first"
        ) from None
    width, height = picture.size
    if size is not None and width * height > MAX_PIXELS:
        down, across = sides_of(size)[:: -1 if turned(picture) else 1]
        # twice what is wanted: the rest is averaged as carefully as ever
        scale = 2 * max(across / width, down / height)
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
    size: Size | None = None,
    channels: int | None = None,
    reading: Reading | None = None,
    frame: int = 0,
    told: dict[str, str] | None = None,
    whole: bool = False,
) -> np.ndarray:
    """One picture as uint8 (C, H, W), as it is seen: upright, in sRGB, in front of the background. Grey stays
    grey, all else is RGB, unless ``channels`` says otherwise.

    ``size``: the sides of a square, or height and width, of which it fills all with its middle or, ``whole``,
    fits in with the background beside. ``told`` gets what was done to it and what of the file was left out.
    Raises `TooLarge` above 64 million pixels, and `Misfit` for numbers that are no picture's.
    """
    reading, told = reading or Reading(), told if told is not None else {}
    with open_file(file, frame, size) as handle:
        if frame == 0 and (count := _frames(handle, file)) > 1:
            told["frames"] = str(count)
        if is_deep(handle):
            picture = _shallow(handle, file, frame, reading)
        else:
            handle.load()
            picture = handle
        picture = flattened(in_srgb(upright(picture, told), told), channels, reading.background, told)
    if size is not None:
        picture = (_fitted if whole else _covering)(picture, *sides_of(size), reading)
    array = np.asarray(picture)
    return np.ascontiguousarray(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))


def _fitted(picture: Image.Image, height: int, width: int, reading: Reading) -> Image.Image:
    """All of it, as large as fits."""
    scale = min(width / picture.width, height / picture.height)
    across, down = (max(1, round(v * scale)) for v in picture.size)
    small = picture.resize((across, down), Image.Resampling.LANCZOS)
    return filled_up(small, (height, width), reading.background)


def _covering(picture: Image.Image, height: int, width: int, reading: Reading) -> Image.Image:
    """Its middle, as small as covers both sides."""
    w, h = picture.size
    scale = max(width / w, height / h)
    if max(width * h, height * w) * scale > MOST_ENLARGED:  # a long strip, of which only the middle is seen
        w, h = min(w, -(-width * h // height)), min(h, -(-height * w // width))
        picture, scale = _middle(picture, h, w), max(width / w, height / h)
    sides = (max(width, round(w * scale)), max(height, round(h * scale)))
    return _middle(picture.resize(sides, Image.Resampling.LANCZOS), height, width)


def _frames(handle: Image.Image, file: str | Path | Image.Image) -> int:
    try:
        return int(getattr(handle, "n_frames", 1))
    except TypeError:  # Pillow, of a TIFF whose next frame has no size
        raise OSError(f"{file} has a frame without a size; it is damaged") from None


def _middle(picture: Image.Image, height: int, width: int) -> Image.Image:
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


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
