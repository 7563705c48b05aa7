"""Arrays in .npz files, whose values may stay on the disk."""

import zipfile
from pathlib import Path
from typing import IO

import numpy as np


def header_in(handle: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether its order is Fortran's, and type of the array that begins in a file here; nothing of its
    values is read. Raises ``ValueError``, or what else numpy does, for none."""
    version = np.lib.format.read_magic(handle)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(handle)


def npz_members(path: Path) -> list[str]:
    """Names of the arrays. Raises ``ValueError`` for a file that is cut off or no .npz."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [n.removesuffix(".npy") for n in archive.namelist()]
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(
            f"{path} is not a readable .npz ({error}); it may be cut off: make it again"
        ) from None


def npz_array(path: Path, name: str) -> np.ndarray:
    """One array; mapped from disk where it is stored without compression. Raises ``ValueError`` for one that
    is cut off or pickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{name}.npy")
            if info.compress_type == zipfile.ZIP_STORED:
                with archive.open(info) as handle:
                    shape, fortran, dtype = header_in(handle)
                    header = handle.tell()
                if not fortran and not dtype.hasobject and np.prod(shape) > 1 << 20:
                    with open(path, "rb") as raw:
                        raw.seek(info.header_offset + 26)
                        lengths = int.from_bytes(raw.read(2), "little") + int.from_bytes(
                            raw.read(2), "little"
                        )
                    offset = info.header_offset + 30 + lengths + header
                    if offset + int(np.prod(shape)) * dtype.itemsize <= path.stat().st_size:
                        return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
        with np.load(path, allow_pickle=False) as file:
            return file[name]
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, KeyError) as error:
        if "allow_pickle" in str(error) or "pickled" in str(error):
            raise ValueError(
                f"{path}: {name} is not readable: it holds pickled objects, which are never loaded; save "
                "plain arrays, of words with .astype(str)"
            ) from None
        raise ValueError(
            f"{path}: {name} is not readable ({error}); the file may be cut off: make it again"
        ) from None
