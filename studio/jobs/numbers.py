"""Arrays that were uploaded: to start from, as a mask, or as entries of samples that are known. Their sizes
are looked at before anything of them is unpacked, then they are held against the model that they are for."""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from studio.checkpoints.find import Card
from studio.data.condition_files import MOST_BYTES, MOST_NUMBERS
from studio.model import catalog
from studio.runtime.npz import header_in
from studio.sampling import inputs
from studio.sampling.kept import Kept, kept

KNOWN = "known"  # the array of an .npz that says which entries stay


def names_in(file: Path) -> tuple[str, ...]:
    """The arrays of an .npz by name, of an .npy none. Raises ``ValueError`` for a file that holds no plain
    arrays, or more than a condition may have."""
    try:
        found = list(_headers(file))
    except FileNotFoundError:
        raise ValueError(f"{file.name} does not lie with its job any more; give it again") from None
    except Exception:  # whatever a damaged file makes zipfile, zlib and numpy raise
        raise ValueError(f"{file.name} is no .npy or .npz of plain arrays; save it by numpy.save") from None
    count, size = sum(count for _, count, _ in found), sum(size for _, _, size in found)
    if count > MOST_NUMBERS or size > MOST_BYTES:
        raise ValueError(f"{file.name} has {count:,} numbers, expected at most {MOST_NUMBERS:,}")
    return tuple(name for name, _, _ in found if name)


def _headers(file: Path) -> Iterator[tuple[str, int, int]]:
    """Of each array its name, how many numbers it says to have, and their bytes."""
    with open(file, "rb") as handle:
        if handle.read(2) != b"PK":
            handle.seek(0)
            shape, _, kind = header_in(handle)
            count, size = _plain(shape, kind)
            if handle.tell() + size > file.stat().st_size:
                raise EOFError(file)
            yield "", count, size
            return
    with zipfile.ZipFile(file) as archive:  # which unpacks no more than it says
        for member in archive.infolist():
            with archive.open(member) as handle:
                shape, _, kind = header_in(handle)
            count, size = _plain(shape, kind)
            if size > member.file_size:
                raise EOFError(file)
            yield member.filename.removesuffix(".npy"), count, member.file_size


def _plain(shape: tuple[int, ...], kind: np.dtype) -> tuple[int, int]:
    if kind.hasobject or kind.kind not in "buif":
        raise TypeError(kind)
    return math.prod(shape), math.prod(shape) * kind.itemsize


def start(card: Card, file: Path) -> Tensor:
    """The sample to start from. Raises ``ValueError`` for what is none of the model's."""
    names_in(file)
    codec = catalog.codec_of(card)
    return inputs.picture(
        file, catalog.sample_shape(card), pictures=codec.pictures, reading=catalog.reading_of(card)
    )


def mask(card: Card, file: Path) -> Tensor:
    """What of a sample may change. Raises ``ValueError`` for what is no mask of the model's."""
    names_in(file)
    if not inputs.has_sides(card.shape):
        return inputs.places(file, card.shape)
    return inputs.mask(file, card.shape[1:], catalog.sample_shape(card)[1:])


def known(card: Card, stays: Path, given: Path, count: int) -> Kept:
    """What ``count`` samples of a model keep. Raises ``ValueError`` for what does not fit them."""
    for file in {stays, given}:
        names_in(file)
    found = kept(stays, given, catalog.sample_shape(card), count, catalog.codec_of(card), card.name)
    assert found is not None  # both are there
    return found


def holds_known(file: Path) -> bool:
    """Whether a file says itself which of its entries stay."""
    return KNOWN in names_in(file)
