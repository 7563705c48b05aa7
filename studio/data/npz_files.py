"""Arrays in an .npz of one's own: the samples, and what it says of them beside."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backbones.registry import suggest
from studio.data.classes import labelled, named, names_for
from studio.data.conditions import KINDS


@contextlib.contextmanager
def opened(where: Path) -> Iterator[Any]:
    """An .npz. Raises ``ValueError`` for a file that is not there, or is none."""
    if not where.is_file():
        raise ValueError(f"got npz file {where}, which does not exist; check the path")
    try:
        file = np.load(where, allow_pickle=False)
    except Exception as error:
        if "allow_pickle" in str(error) or "pickled" in str(error):
            raise ValueError(
                f"{where} holds pickled objects, which are never loaded; save plain arrays with np.savez"
            ) from None
        raise ValueError(f"{where} is not a readable .npz: {error}") from None
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise ValueError(
            f"{where} is not a readable .npz: it is one array alone; save it with "
            f"np.savez({where.with_suffix('.npz').name!r}, images=...)"
        )
    with file:
        yield file


def array_of(file: Any, key: str, where: Path, expected: str) -> np.ndarray:
    """One array of an .npz. Raises ``ValueError`` for one that is cut off, and for one of objects, which only
    a pickle holds."""
    try:
        return file[key]
    except ValueError as error:
        if "allow_pickle" in str(error) or "pickled" in str(error):
            raise ValueError(
                f"{where}: {key} holds pickled objects, which are never loaded, expected {expected}"
            ) from None
        raise ValueError(f"{where} is not a readable .npz: {key}: {error}") from None
    except Exception as error:
        raise ValueError(f"{where} is not a readable .npz: {key}: {error}") from None


def named_array(
    there: Sequence[str], asked: str | None, usual: Sequence[str], option: str, where: Path
) -> str | None:
    """The array that is asked for, or the first of the usual ones that is there. Raises ``ValueError`` for
    one that is asked for and is not there."""
    if asked is None:
        return next((k for k in usual if k in there), None)
    if asked in ("none", "") and option == "labels" and asked not in there:
        return None
    if asked not in there:
        raise ValueError(
            f"{where} holds {', '.join(there)}, expected {asked!r} among them as data.{option} "
            f"says{suggest(asked, there)}"
        )
    return asked


def beside(
    file: Any,
    where: Path,
    count: int,
    *,
    labels: str | None = None,
    usual: Sequence[str] = ("labels",),
    conditions: Sequence[str] = (),
) -> dict[str, Any]:
    """What an .npz says of its ``count`` samples beside them, as `studio.data.arrays.from_arrays` takes it:
    class numbers or names under ``labels`` (by default the first of the ``usual``; none where it says
    ``none``), their names ``classes``, ``numeric`` (count, K) with ``numeric_names``, ``captions``, and
    ``conditions``, each ``NAME:KIND``. Raises ``ValueError`` for what does not go with the samples."""
    found = named_array(list(file), labels, usual, "labels", where)
    y = (
        None
        if found is None
        else array_of(file, found, where, "class numbers, or names: try labels.astype(str)")
    )
    names = (
        [str(c) for c in array_of(file, "classes", where, "names: try classes.astype(str)")]
        if "classes" in file
        else None
    )
    numeric = (
        array_of(file, "numeric", where, "numbers: try numeric.astype(float)").astype(np.float64)
        if "numeric" in file
        else None
    )
    known = (
        array_of(file, "numeric_names", where, "names: try numeric_names.astype(str)")
        if "numeric_names" in file
        else None
    )
    numeric_names = None if known is None else [str(c) for c in known]
    further = {}
    for line in conditions:
        name, _, kind = line.rpartition(":")
        if not name or not kind:
            raise ValueError(
                f"got data.conditions with {line!r}, expected NAME:KIND, such as wind:array; kinds are "
                f"{', '.join(KINDS)}"
            )
        column = named_array(list(file), name, (), "conditions", where)
        further[name] = (kind, array_of(file, str(column), where, "values of one kind"))
    if "captions" in file and not {"caption", "captions"} & further.keys():
        further["caption"] = ("tokens", array_of(file, "captions", where, "texts"))
    classes: tuple[str, ...] | None = named(names, str(where)) if names is not None else None
    if y is not None:
        y, classes = labelled(y, classes, f"{where} ({found})", count)
        if y.min() < 0:
            raise ValueError(
                f"{where}: labels have shape {y.shape} and minimum {y.min()}, expected ({count},) "
                "class numbers from 0"
            )
    classes = names_for(y, classes, str(where)) if y is not None else ()
    if numeric is not None and (numeric.ndim != 2 or len(numeric) != count):
        raise ValueError(f"{where}: numeric has shape {numeric.shape}, expected ({count}, K)")
    if numeric_names is not None and (
        numeric is None
        or len(numeric_names) != numeric.shape[1]
        or len(set(numeric_names)) < len(numeric_names)
    ):
        columns = 0 if numeric is None else numeric.shape[1]
        raise ValueError(
            f"{where}: got {len(numeric_names)} numeric_names for {columns} columns of numeric, expected "
            "a different name for each"
        )
    if numeric is not None and numeric_names is None:
        numeric_names = [f"numeric{i}" for i in range(numeric.shape[1])]
    return {
        "labels": y,
        "classes": classes,
        "numeric": numeric,
        "numeric_names": numeric_names or [],
        "conditions": further,
        "read_from": f"the array {found}" if found else "",
    }
