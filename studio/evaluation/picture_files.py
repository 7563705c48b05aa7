"""Pictures as sets of samples have them: files that are decoded when they are read, and arrays whose channels
come last."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from studio.data.decode import decode
from studio.data.depth import Misfit, Reading
from studio.data.sides import Size


class Transposed:
    """(N, H, W[, C]) arrays as (N, C, H, W)."""

    def __init__(self, array: np.ndarray):
        self.array = array[..., None] if array.ndim == 3 else array
        n, h, w, c = self.array.shape
        self.shape, self.dtype = (n, c, h, w), array.dtype

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.ascontiguousarray(self.array[index].transpose(0, 3, 1, 2))


class PictureFiles:
    """Pictures on disk, decoded when they are read, all in one way; to ``size`` and ``channels`` where these
    are given."""

    dtype = np.dtype("uint8")

    def __init__(
        self,
        paths: Sequence[Path | str],
        reading: Reading | None = None,
        size: Size | None = None,
        channels: int | None = None,
    ):
        self.paths, self.reading, self.size, self.channels = (
            np.array([str(p) for p in paths]),
            reading,
            size,
            channels,
        )
        self.one = self._one(self.paths[0]).shape
        self.shape = (len(paths), *self.one)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> np.ndarray:
        with ThreadPoolExecutor(2) as pool:
            pictures = list(pool.map(self._one, self.paths[index]))
        for path, picture in zip(self.paths[index], pictures):
            if picture.shape != self.one:
                raise ValueError(_unlike(str(path), picture.shape, str(self.paths[0]), self.one))
        return np.stack(pictures) if pictures else np.zeros((0, *self.one), np.uint8)

    def _one(self, path: str) -> np.ndarray:
        return decoded(path, self.size, self.channels, self.reading)


def decoded(
    path: str, size: Size | None = None, channels: int | None = None, reading: Reading | None = None
) -> np.ndarray:
    try:
        return decode(path, size, channels, reading)
    except Misfit:
        raise
    except Exception as error:  # whatever a damaged file makes Pillow raise
        why = str(error).replace(path, "it") or "cut off"
        raise ValueError(
            f"{path} is not a readable picture ({why}), expected all of a set to be; mend it or take it out"
        ) from None


def typed(sides: Sequence[int]) -> str:
    """What ``--size`` takes for pictures of these sides: any number of a square, else height and width."""
    return "N" if len({*sides}) == 1 else ",".join(map(str, sides))


def _unlike(path: str, got: tuple[int, ...], first: str, wanted: tuple[int, ...]) -> str:
    """What is wrong with a picture among others."""
    parts = []
    if got[0] != wanted[0]:
        kinds = {1: "grey", 3: "RGB", 4: "RGBA"}
        named = [f"{kinds.get(c, 'with')} ({c} channel{'' if c == 1 else 's'})" for c in (got[0], wanted[0])]
        parts.append((f"{path} is {named[0]}, {first} is {named[1]}", "--channels 1 or --channels 3"))
    if got[1:] != wanted[1:]:
        told = f"{path} is {got[2]}×{got[1]} pixels, {first} is {wanted[2]}×{wanted[1]}"
        parts.append((told, f"--size {typed(wanted[1:])}"))
    return (
        f"got pictures of several kinds: {'; '.join(what for what, _ in parts)}; expected one; try "
        f"{' '.join(way for _, way in parts)}"
    )
