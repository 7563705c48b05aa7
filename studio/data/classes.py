"""Class numbers as data holds them: whole, in range, one for each sample; and the names that go with them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from backbones.registry import suggest

NO_LABEL = -1
MANY = 1000  # class numbers above this are doubted where there are few samples


def class_numbers(values: Any, where: str, count: int | None = None) -> np.ndarray:
    """(N,) int64 of an array, tensor or list of numbers; −1 is no label. Raises ``ValueError`` with the index
    of the first that is no class number."""
    array = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.ndim != 1 or count not in (None, len(array)):
        hint = (
            "; of one-hot rows take labels.argmax(1)" if array.ndim == 2 and array.shape[0] == count else ""
        )
        expected = f"({count},)" if count is not None else "(N,)"
        raise ValueError(
            f"{where}: labels have shape {array.shape}, expected {expected} class numbers from 0{hint}"
        )
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{where}: got labels of {array.dtype}, expected class numbers from 0 (and the names of the "
            "classes beside them)"
        )
    wrong: np.ndarray | Sequence[int] = (
        np.flatnonzero(~np.isfinite(array) | (array != np.trunc(array)) | (array < NO_LABEL))
        if array.dtype.kind != "b"
        else ()
    )
    if len(wrong):
        value = array[wrong[0]].item()
        kind = (
            "it is negative; no label is −1"
            if value < NO_LABEL
            else "it is not whole; numbers to go by are conditions ('numeric'), no classes"
        )
        raise ValueError(
            f"{where}: got the label {value:g} (index {wrong[0]}), expected class numbers from 0: {kind}"
        )
    return array.astype(np.int64)


def labelled(
    values: Any, names: Sequence[str] | None, where: str, count: int
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Class numbers and the names of the classes: of words, which are names, as of numbers. Raises
    ``ValueError`` for a word that is empty or is none of ``names``."""
    array = np.asarray(values)
    if array.dtype.kind not in "US":
        return class_numbers(array, where, count), None if names is None else tuple(names)
    words = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if words.shape != (count,):
        raise ValueError(
            f"{where}: labels have shape {array.shape}, expected ({count},) names or numbers of classes"
        )
    if words.dtype.kind == "S":
        words = np.char.decode(words, "utf-8")
    there, numbers = np.unique(words, return_inverse=True)
    if (empty := np.flatnonzero(np.char.strip(words) == "")).size:
        raise ValueError(
            f"{where}: got an empty label (index {empty[0]}, {len(empty)} in all), expected the name of a "
            "class for each sample"
        )
    if names is None:
        order = sorted(range(len(there)), key=lambda i: numbered(str(there[i])))
        return np.argsort(order)[numbers.reshape(-1)].astype(np.int64), tuple(str(there[i]) for i in order)
    place = {name: i for i, name in enumerate(names)}
    unknown = next((str(w) for w in there if str(w) not in place), None)
    if unknown is not None:
        first = int(np.argmax(words == unknown))
        raise ValueError(
            f"{where}: got the label {unknown!r} (index {first}), expected one of the "
            f"classes{suggest(unknown, names)}"
        )
    return np.array([place[str(w)] for w in there], dtype=np.int64)[numbers.reshape(-1)], tuple(names)


def numbered(name: str) -> tuple[bool, int, str]:
    """Sorts names that are numbers by their value, before all others."""
    return not name.isdecimal(), int(name) if name.isdecimal() else 0, name


def named(classes: Any, where: str) -> tuple[str, ...]:
    """Names of the classes from a number of them or their names. Raises ``ValueError`` for a name that stands
    twice."""
    if isinstance(classes, str | bytes | bool) or isinstance(classes, float) or classes is None:
        raise ValueError(
            f"{where}: got classes={classes!r}, expected how many there are, or a list of their names"
        )
    if hasattr(classes, "__index__") and not hasattr(classes, "__len__"):
        if int(classes) < 0:
            raise ValueError(
                f"{where}: got classes={classes}, expected how many there are, or a list of their names"
            )
        return tuple(str(i) for i in range(int(classes)))
    names = tuple(str(c) for c in classes)
    twice = next((n for i, n in enumerate(names) if n in names[:i]), None)
    if twice is not None:
        raise ValueError(f"{where}: got the class {twice!r} twice, expected different names; rename one")
    return names


def names_for(labels: np.ndarray, names: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """The names, by default the numbers, of all classes in ``labels``. Raises ``ValueError`` for a label that
    has no name."""
    top = int(labels.max(initial=NO_LABEL))
    if names is None:
        if top >= MANY and top >= 10 * len(labels):
            raise ValueError(
                f"{where}: got the label {top} (index {int(labels.argmax())}) among {len(labels)} "
                "samples, expected class numbers from 0; "
                "number them, or say how many classes there are"
            )
        return tuple(str(i) for i in range(top + 1))
    check_range(labels, len(names), where)
    return tuple(names)


def check_range(labels: np.ndarray, classes: int, where: str, indices: Sequence[int] | None = None) -> None:
    """Raises ``ValueError`` for a label above the last class, with the index of its sample, and what to do
    where they count from 1."""
    above = np.flatnonzero(labels >= classes)
    if not len(above):
        return
    worst, there = int(labels[above[0]]), labels[labels != NO_LABEL]
    hint = "look at how labels are numbered, or name all classes"
    if worst == classes and int(there.max()) == classes and int(there.min()) >= 1:
        hint = "they seem to count from 1: subtract 1 from each"
    place = int(above[0]) if indices is None else indices[int(above[0])]
    last = f"0 to {classes - 1}" if classes else "no label"
    raise ValueError(
        f"{where}: label {worst} has no name, got {classes} classes, expected {last} (index {place}); {hint}"
    )
