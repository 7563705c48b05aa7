"""Arrays from files: the bundled Fashion-MNIST and any .npz."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np

from backbones.registry import suggest
from studio.data.arrays import Arrays, Data, content_hash, from_arrays
from studio.data.classes import labelled, named, names_for
from studio.data.conditions import KINDS
from studio.data.finite import check_values
from studio.data.layout import channels_first, unflattened
from studio.data.parts import HELD_OUT, parted


def fashion_mnist(*, classes: tuple[int, ...] = (), count: int | None = None) -> Data:
    """The bundled balanced subset of Fashion-MNIST (Zalando SE, MIT): 12,000 training and 2,000 test
    pictures, 1×28×28, ten classes.

    ``classes``: only these, in this order, which then count from 0; ``count``: so many training pictures, as
    many of each class. Raises ``ValueError`` for a class that does not exist or more pictures than there are.
    """
    with (
        resources.as_file(resources.files("studio") / "bundled" / "data" / "fashion_mnist_12k.npz") as path,
        np.load(path, allow_pickle=False) as file,
    ):
        train, test = file["train_images"][:, None], file["test_images"][:, None]
        labels, test_labels = file["train_labels"].astype(np.int64), file["test_labels"].astype(np.int64)
        names = tuple(str(c) for c in file["classes"])
    if classes or count is not None:
        chosen = tuple(classes) or tuple(range(len(names)))
        if len(set(chosen)) < len(chosen) or not all(0 <= c < len(names) for c in chosen):
            raise ValueError(
                f"got data.classes={list(chosen)}, expected different numbers from 0 to {len(names) - 1}"
            )
        most = min(int((labels == c).sum()) for c in chosen)
        each = most if count is None else count // len(chosen)
        if not 1 <= each <= most:
            raise ValueError(
                f"got data.count={count}, expected {len(chosen)} to {most * len(chosen)} for "
                f"{len(chosen)} classes"
            )
        rows = np.sort(np.concatenate([np.flatnonzero(labels == c)[:each] for c in chosen]))
        kept = np.flatnonzero(np.isin(test_labels, chosen))
        number = np.full(len(names), -1)
        number[list(chosen)] = np.arange(len(chosen))
        train, labels, test, test_labels = (
            train[rows],
            number[labels[rows]],
            test[kept],
            number[test_labels[kept]],
        )
        names = tuple(names[c] for c in chosen)
    return Data(
        "fashion-mnist",
        "image",
        tuple(train.shape[1:]),
        Arrays(train, labels),
        Arrays(test, test_labels),
        names,
        {"name": "pixels"},
        content_hash(train, labels),
    )


def npz(
    *,
    path: str,
    images: str | None = None,
    labels: str | None = None,
    layout: Literal["chw", "hwc"] | None = None,
    conditions: tuple[str, ...] = (),
    held_out: float = HELD_OUT,
    stratify: bool = True,
) -> Data:
    """An .npz with uint8 pictures (N, H, W), (N, H, W, C) or (N, C, H, W), also flat ones (N, H·W), or float
    vectors (N, d) under ``images``, by default ``images`` or ``arr_0``, class numbers or names (N,) under
    ``labels``, by default ``labels`` or, beside ``arr_0``, ``arr_1`` (none where it says ``none``), names
    ``classes``, numeric conditions ``numeric`` (N, K; NaN = missing) with ``numeric_names``, and texts (N,)
    ``captions``, which are the condition ``caption``, if there are any. ``conditions``: further ones, each
    ``NAME:KIND`` of an array and of `studio.data.conditions.KINDS`. ``layout``: where the channels are, for
    shapes that do not tell. ``held_out``: the share kept from training, of each class (of all together
    without ``stratify``). Pickled arrays are refused.
    """
    where = Path(path).expanduser()
    if not where.is_file():
        raise ValueError(f"got npz file {where}, which does not exist; check the path")
    with opened(where) as file:
        key = named_array(list(file), images, ("images", "arr_0"), "images", where)
        if key is None:
            raise ValueError(
                f"{where} holds {', '.join(file)}, expected an array named 'images' or arr_0; set "
                "data.images=NAME"
            )
        values = array_of(file, key, where, "a float array of points, or uint8 pictures of one size")
        found = named_array(
            list(file), labels, ("labels", "arr_1") if key == "arr_0" else ("labels",), "labels", where
        )
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
    if values.ndim == 0 or len(values) == 0:
        raise ValueError(f"{where} holds no samples")
    classes: tuple[str, ...] | None = named(names, str(where)) if names is not None else None
    if y is not None:
        y, classes = labelled(y, classes, f"{where} ({found})", len(values))
        if y.min() < 0:
            raise ValueError(
                f"{where}: labels have shape {y.shape} and minimum {y.min()}, expected ({len(values)},) "
                "class numbers from 0"
            )
    classes = names_for(y, classes, str(where)) if y is not None else ()
    if numeric is not None and (numeric.ndim != 2 or len(numeric) != len(values)):
        raise ValueError(f"{where}: numeric has shape {numeric.shape}, expected ({len(values)}, K)")
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
    extra: dict[str, Any] = {
        "numeric": numeric,
        "numeric_names": numeric_names or [],
        "conditions": further,
        "read_from": f"the array {found}" if found else "",
    }
    if values.ndim == 2:
        values = unflattened(values, f"{where} ({key})", layout)
    if layout is not None and values.ndim != 4:
        raise ValueError(
            f"{where}: got data.layout={layout} for an array of shape {values.shape}, expected (N, H, W, "
            "C) or (N, C, H, W); leave it out"
        )
    check_values(values, f"{where} ({key})")
    extra["parts"] = parted(len(values), y, held_out, stratify)
    if values.ndim == 2:
        values = values.astype(np.float32)
        codec = {"name": "scale", "std": float(values.std()) or 1.0}
        data = from_arrays(
            where.stem, values, y, classes, held_out=held_out, task="points", codec=codec, **extra
        )
        return replace(data, stratified=stratify)
    if values.dtype != np.uint8 or values.ndim not in (3, 4):
        raise ValueError(
            f"{where}: got {values.dtype} of shape {values.shape}, expected uint8 pictures (N, H, W[, C]) "
            "or float vectors (N, d)"
        )
    values = channels_first(values, str(where), layout)
    data = from_arrays(
        where.stem, values, y, classes, held_out=held_out, task="image", codec={"name": "pixels"}, **extra
    )
    return replace(data, stratified=stratify)


@contextlib.contextmanager
def opened(where: Path) -> Iterator[Any]:
    """An .npz. Raises ``ValueError`` for a file that is none."""
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
