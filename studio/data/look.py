"""What a folder of pictures is like, as far as settings depend on it: sizes, colours, borders, and whether a
mirrored picture could be one of them.

Headers of up to `HEADERS` files are read and `LOOKED` small copies are made; nothing is kept.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from studio.data.colour import GREY, ORIENTATION
from studio.data.decode import decode
from studio.data.depth import Reading
from studio.data.folders import listing
from studio.runtime.untrusted import open_picture

HEADERS, LOOKED = 2000, 240
SMALL, TINY = 32, 16  # sides of the copies that are looked at, and that are compared
# of 255: a channel's distance from grey; a border's spread; between borders of one colour
TINTED, PLAIN, ALIKE = 4, 6, 12
CERTAIN, ENOUGH = 1.64, 8  # deviations above a fair coin; pictures that can tell


@dataclass(frozen=True)
class Look:
    """``side``: the shorter side that three quarters of the pictures have at least; ``shape``: (H, W) where
    all have the same, else None; ``grey``: none has a colour; ``mirrors``: a mirrored picture looks like one
    of its class; ``border``: the one plain colour around all of them, or None; ``sides`` (n, 2): heights and
    widths."""

    count: int
    classes: tuple[str, ...]
    side: int
    shape: tuple[int, int] | None
    grey: bool
    mirrors: bool
    border: tuple[int, int, int] | None
    sides: np.ndarray

    def kept(self, height: int, width: int) -> float:
        """The share of a picture that lies in its middle of that ratio, on average."""
        both = self.sides * (width, height)
        return float((both.min(1) / both.max(1)).mean())


def look(root: Path, background: tuple[int, int, int] = (255, 255, 255)) -> Look | None:
    """None where no picture can be read, which is told when they are decoded."""
    folder = listing(root)
    files, labels, classes = folder.files, folder.labels, folder.classes
    with ThreadPoolExecutor(2) as pool:
        heads = [h for h in pool.map(_head, _spread(files, HEADERS)) if h is not None]
        places = _spread(range(len(files)), LOOKED)
        copies = list(pool.map(lambda i: _copy(files[i], background), places))
    there = [(p, c) for p, c in zip(places, copies) if c is not None]
    if not heads or not there:
        return None
    sides = np.array([(h, w) for h, w, _ in heads])
    small = np.stack([c for _, c in there]).astype(np.int16)  # (n, 3, 32, 32), the sides stretched
    numbers = np.zeros(len(there), np.int64) if labels is None else labels[[p for p, _ in there]]
    grey = all(g for *_, g in heads) or bool((small.max(1) - small.min(1)).max() <= TINTED)
    return Look(
        len(files),
        tuple(classes),
        int(np.quantile(sides.min(1), 0.25)),
        tuple(sides[0].tolist()) if (sides == sides[0]).all() else None,
        grey,
        mirrors(small, numbers),
        _border(small),
        sides,
    )


def mirrors(pictures: np.ndarray, labels: np.ndarray) -> bool:
    """Whether pictures (n, C, H, W) that are mirrored are as near to others of their class as they were
    before. False where too few can tell, and where mirroring makes them strange: letters, digits, arrows."""
    step = pictures.shape[-1] // TINY
    coarse = pictures.reshape(*pictures.shape[:2], TINY, step, TINY, step).mean((3, 5))
    won, told = 0.0, 0  # by pictures as they are, of those that have another one in their class
    for label in np.unique(labels):
        own = coarse[labels == label]
        if len(own) < 2:
            continue
        others = own.reshape(len(own), -1)
        near, mirrored = _nearest(others, others), _nearest(own[..., ::-1].reshape(len(own), -1), others)
        won += float((near < mirrored).sum() + (near == mirrored).sum() / 2)
        told += len(own)
    return told >= ENOUGH and won - told / 2 <= CERTAIN * math.sqrt(told) / 2


def _nearest(x: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared distance of each row to the nearest other one."""
    apart = (x**2).sum(1)[:, None] + (others**2).sum(1)[None] - 2 * x @ others.T
    np.fill_diagonal(apart, np.inf)
    return apart.min(1)


def _border(small: np.ndarray) -> tuple[int, int, int] | None:
    # (n, 3, 4·32)
    edge = np.concatenate([small[..., 0, :], small[..., -1, :], small[..., :, 0], small[..., :, -1]], -1)
    middle = np.median(edge, -1)
    common = np.median(middle, 0)
    plain = (edge.std(-1).max(-1) < PLAIN) & (np.abs(middle - common).max(-1) < ALIKE)
    return tuple(int(round(v)) for v in common) if plain.mean() >= 0.9 else None  # type: ignore[return-value]


def _spread(items: Sequence, most: int) -> list:
    """At most so many, from all over."""
    return [
        items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))
    ]


def _head(file: Path) -> tuple[int, int, bool] | None:
    """Height and width as they are seen, and whether the file can hold no colour."""
    try:
        with open_picture(file) as picture:
            turned = picture.getexif().get(ORIENTATION, 1) > 4
            width, height = picture.size[::-1] if turned else picture.size
            return height, width, picture.mode in GREY or picture.mode.startswith(("I", "F"))
    except Exception:  # it is told when it is decoded
        return None


def _copy(file: Path, background: tuple[int, int, int]) -> np.ndarray | None:
    try:
        with open_picture(file) as picture:
            if picture.format == "JPEG":  # which can be decoded small
                picture.draft("RGB", (4 * SMALL, 4 * SMALL))
                whole = decode(picture, None, 3, Reading(background))
            else:
                whole = decode(file, None, 3, Reading(background))
        return np.asarray(
            Image.fromarray(whole.transpose(1, 2, 0)).resize((SMALL, SMALL), Image.Resampling.BOX)
        ).transpose(2, 0, 1)
    except Exception:
        return None
