"""Pictures with more than eight bits a channel, which Pillow would cut off or drown in black: 12 bits in
16-bit files, 8 bits in 32-bit files, floats in 0..1.

Whole numbers use the smallest of 8, 10, 12, 14 and 16 bits that holds the greatest of them, of a whole data
set or of one file alone: value v becomes 255 v / (2^bits - 1). Floats that all lie in 0..1 mean that range.
"""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

BITS = (8, 10, 12, 14, 16)
WIDE = re.compile(r"(\w+);16([BLN])")  # several channels of 16 bits, of which Pillow keeps the upper bytes
SPLIT = ("RGB", "RGBA", "RGBX", "LA")  # layouts whose lower bytes can be read too

UNCLEAR = (
    "holds floats up to {top:g}, expected 0..1 or whole numbers; scale them to 0..1, or set data.bits=8 "
    "for 0..255 (or 10, 12, 14, 16)"
)


class Misfit(ValueError):
    """A file that can be read, but holds no picture's numbers."""


@dataclass(frozen=True)
class Reading:
    """How picture files become numbers: the colour behind what is transparent; ``bits`` of deep files, each
    file's own where None; ``unit``: whether floats mean 0..1, where None as their values tell."""

    background: tuple[int, int, int] = (255, 255, 255)
    bits: int | None = None
    unit: bool | None = None


@dataclass(frozen=True)
class Span:
    """The greatest number of a deep picture, whether it holds floats, and whether all of its numbers are
    whole."""

    top: float
    floats: bool
    whole: bool


def is_deep(picture: Image.Image) -> bool:
    """Whether a picture, as it was opened, has more than eight bits a channel."""
    return picture.mode in ("I", "F") or picture.mode.startswith("I;16") or _wide(picture) is not None


def _rawmodes(picture: Image.Image) -> list[str]:
    """What the decoder makes of a file's bytes; of a picture that is in memory already nothing."""
    args = [t[3] for t in getattr(picture, "tile", ()) or ()]
    return [a for arg in args for a in (arg if isinstance(arg, tuple) else (arg,)) if isinstance(a, str)]


def _wide(picture: Image.Image) -> str | None:
    found = [m for raw in _rawmodes(picture) if (m := WIDE.fullmatch(raw)) and m[1] != "I"]
    return found[0][1] if found else None


def values(reopen: Callable[[], Image.Image]) -> np.ndarray:
    """(H, W) or (H, W, C) numbers as the file has them. ``reopen`` opens it again. Raises `Misfit` for what
    is no picture's number."""
    picture = reopen()
    layout = _wide(picture)
    if layout is None:
        array = np.asarray(picture)
    elif layout not in SPLIT:
        raise Misfit(
            f"holds 16 bits a channel as {layout}, which is not read; save it with 8 bits a channel, or "
            "as 16-bit RGB"
        )
    elif layout == "LA":
        # grey and alpha are two bytes each
        both = np.asarray(_with_rawmode(picture, lambda raw: "RGBA")).astype(np.int64)
        array = both[..., 0::2] * 256 + both[..., 1::2]
    else:
        upper, lower = np.asarray(picture).astype(np.int64), np.asarray(_with_rawmode(reopen(), _swapped))
        array = (upper * 256 + lower)[..., : 3 if layout == "RGBX" else None]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = ~np.isfinite(array)
        row, column = (int(i) for i in np.argwhere(bad)[0][:2])
        raise Misfit(
            f"holds {int(bad.sum())} values that are not finite, the first at row {row}, column {column}; "
            "mend or remove it"
        )
    if array.size and array.min() < 0:
        raise Misfit(
            f"holds values from {array.min():g} to {array.max():g}, expected none below 0; shift and "
            "scale them to 0..65535, or floats to 0..1"
        )
    if array.size and array.max() > 65535:
        raise Misfit(f"holds values up to {array.max():g}, expected at most 65535 (16 bits); scale them down")
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)


def _with_rawmode(picture: Any, change: Callable[[str], str]) -> Image.Image:
    """A picture that is not read yet, whose bytes are to be unpacked in another way. It has ``tile``,
    as pictures that are opened from files do."""
    made = []
    for codec, extents, offset, args in picture.tile:
        if isinstance(args, tuple):
            args = tuple(change(a) if isinstance(a, str) and WIDE.fullmatch(a) else a for a in args)
        else:
            args = change(args)
        made.append(
            type(picture.tile[0])(
                *((codec, extents, offset, args),)
                if type(picture.tile[0]) is tuple
                else (codec, extents, offset, args)
            )
        )
    picture.tile = made
    return picture


def _swapped(raw: str) -> str:
    """The other byte order, which puts the lower bytes where the upper ones are looked for."""
    order = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
    return raw[:-1] + order[raw[-1]]


def span(array: np.ndarray) -> Span:
    """Of the numbers of one file; of pictures with alpha, of their colours."""
    colours = _colours(array)
    floats = array.dtype.kind == "f"
    return Span(
        float(colours.max(initial=0)), floats, not floats or bool((colours == np.round(colours)).all())
    )


def _colours(array: np.ndarray) -> np.ndarray:
    return array[..., :-1] if array.ndim == 3 and array.shape[2] in (2, 4) else array


def reading_of(spans: Sequence[Span], asked: Reading) -> Reading:
    """One `Reading` for all of a data set: the bits that hold its greatest number, unless told otherwise, and
    whether its floats mean 0..1."""
    floats = [s for s in spans if s.floats]
    unit = max(s.top for s in floats) <= 1 if floats else None
    counted = [s.top for s in spans if not (s.floats and unit)]
    return replace(
        asked, bits=bits_for(max(counted)) if asked.bits is None and counted else asked.bits, unit=unit
    )


def unclear(seen: Span, bits: int | None, unit: bool | None) -> str:
    """Why nobody can say what the floats of a file mean; empty where it is clear."""
    if not seen.floats or seen.whole or bits is not None or (seen.top <= 1 if unit is None else unit):
        return ""
    return UNCLEAR.format(top=seen.top)


def bits_for(top: float) -> int:
    """The smallest number of bits that holds a number."""
    return next(b for b in BITS if top <= 2**b - 1)


def eight_bits(array: np.ndarray, reading: Reading) -> np.ndarray:
    """The numbers of one file as uint8 of the same shape. Raises `Misfit` for numbers beyond the bits, and
    for floats above 1 of which nobody says what they mean."""
    seen = span(array)
    unit = seen.floats and (seen.top <= 1 if reading.unit is None else reading.unit)
    if unit and seen.top > 1:
        raise Misfit(f"holds floats up to {seen.top:g} in a set of 0..1; scale them to 0..1")
    if why := unclear(seen, reading.bits, unit):
        raise Misfit(why)
    bits = bits_for(seen.top) if reading.bits is None else reading.bits
    if not unit and seen.top > 2**bits - 1:
        raise Misfit(
            f"holds {seen.top:g}, which is more than the {bits} bits it is read with ({2**bits - 1}); "
            f"scale it, or set data.bits={bits_for(seen.top)}"
        )
    scale = 1.0 if unit else 2.0**bits - 1
    made = np.round(array * (255 / scale)).clip(0, 255).astype(np.uint8)
    # alpha is a share of 16 bits, however deep the colours are
    if array.ndim == 3 and array.shape[2] in (2, 4):
        made[..., -1] = np.round(array[..., -1] / 257).astype(np.uint8)
    return made


def key_alpha(array: np.ndarray, key: object) -> np.ndarray | None:
    """(H, W) uint8, 0 where a deep picture has the one colour that is declared transparent."""
    wanted = np.asarray(key)
    if wanted.dtype.kind not in "iu" or wanted.size not in (1, array.shape[2] if array.ndim == 3 else 1):
        return None
    hidden = array == wanted.reshape(-1) if array.ndim == 3 else array == int(wanted.reshape(-1)[0])
    return np.where(hidden.all(-1) if array.ndim == 3 else hidden, 0, 255).astype(np.uint8)
