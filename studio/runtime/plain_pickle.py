"""A pickle of plain values: dicts, lists, texts, numbers, and numpy arrays of numbers. A pickle is a program
that names what it wants to be called; here it finds nothing but what puts such arrays together, made anew for
each file, so nothing of a stranger's runs and nothing that he changes is seen again."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS = "biuf"  # kinds of arrays that are let through


class Foreign(pickle.UnpicklingError):
    """Something that is no plain value."""


def read(path: Path) -> Any:
    """What the file holds; arrays as objects for `numpy.asarray`. Raises ``ValueError`` for a file that is
    not there, is no pickle, is cut off, or holds anything else, whose class it names."""
    if not path.is_file():
        raise ValueError(f"got the pickle {path}, which does not exist; check the path")
    try:
        with open(path, "rb") as handle:
            return _Plain(handle, _names()).load()
    except Foreign as error:
        raise ValueError(
            f"{path} holds {error}, expected dicts, lists, texts, numbers and arrays of numbers alone; "
            "objects of other classes are never loaded from a file"
        ) from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except Exception:  # whatever a damaged file makes the reader raise
        raise ValueError(f"{path} is not a readable pickle; it may be cut off: fetch it again") from None


class _Plain(pickle.Unpickler):
    def __init__(self, handle: Any, names: Mapping[tuple[str, str], Any]):
        super().__init__(handle)
        self.names = names

    def find_class(self, module: str, name: str) -> Any:
        # numpy 2 has put an underscore before its core
        known = self.names.get((module.replace("numpy.core.", "numpy._core."), name))
        if known is None:
            raise Foreign(f"a {module}.{name}")
        return known


def _names() -> dict[tuple[str, str], Any]:
    """What numpy's pickles name (of its versions 1 and 2, protocols 0 to 5), and what stands for it here."""

    class Kind:
        order: Any

        def __init__(self, text: str, *flags: Any):
            self.text, self.order = text, "|"

        def __setstate__(self, state: tuple[Any, ...]) -> None:
            self.order = state[1]

        @property
        def dtype(self) -> np.dtype[Any]:
            found = np.dtype(str(self.text))
            if found.kind not in NUMBERS:
                raise Foreign(f"an array of {found}")
            return found.newbyteorder(self.order)

    class Array:
        values = np.zeros(0)

        def __setstate__(self, state: tuple[Any, ...]) -> None:
            _, shape, kind, fortran, raw = state
            self.values = array(raw, kind, shape, "F" if fortran else "C")

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return np.array(self.values, dtype=dtype)

    def array(raw: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
        dtype = kind.dtype
        if isinstance(raw, list):
            raise Foreign("an array of objects")
        return np.frombuffer(raw, dtype).reshape(shape, order=order)

    def scalar(kind: Any, raw: Any) -> Any:
        return array(raw, kind, (1,), "C")[0].item()

    def encoded(text: str, how: str) -> bytes:
        return text.encode("latin-1")

    def begun(*rest: Any) -> Any:
        return Array()

    def empty() -> bytes:
        return b""

    return {
        ("numpy", "ndarray"): Array,
        ("numpy", "dtype"): Kind,
        ("numpy._core.multiarray", "_reconstruct"): begun,
        ("numpy._core.multiarray", "scalar"): scalar,
        ("numpy._core.numeric", "_frombuffer"): array,
        ("_codecs", "encode"): encoded,
        ("__builtin__", "bytes"): empty,
    }
