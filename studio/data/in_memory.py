"""Arrays of one's own as a `Data`, in one call: `studio.data.from_arrays`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import TensorDataset

from studio.codecs.codec import build_codec
from studio.data import arrays
from studio.data.arrays import Arrays, Data
from studio.data.classes import labelled, named, names_for
from studio.data.conditions import Field, column_of
from studio.data.finite import check_values
from studio.data.floats import codec_of
from studio.data.items import as_array
from studio.data.own import task_of
from studio.data.parts import HELD_OUT, parted


def from_arrays(
    name: str,
    values: Any,
    labels: Any = None,
    classes: Any = None,
    *,
    held_out: Any = HELD_OUT,
    task: str | None = None,
    codec: str | Mapping[str, Any] | None = None,
    numbers: Mapping[str, Any] | None = None,
    conditions: Mapping[str, tuple[str | Field, Sequence[Any]]] | None = None,
    notes: tuple[str, ...] = (),
) -> Data:
    """A `Data` of samples in memory, for ``studio.train(data=...)`` or as what a plug-in's data source gives.
    Arrays may be numpy's, torch's or lists. Its hash is that of the content, so that runs resume.

    - ``name``: what the data is called in a model's ``meta.json``.
    - ``values``: (N, C, H, W) pictures, (N, d) points, or samples of any shape with a ``task``.
    - ``labels``: (N,) class numbers from 0 (−1: none), or names; None for data without classes.
    - ``classes``: the names of the classes, or how many there are; by default those that labels hold.
    - ``held_out``: the share kept from training, of each class; or the held-out samples themselves, as
      ``values`` or ``(values, labels)`` or ``(values, labels, numbers)``, or with the values of
      ``conditions`` by name as a fourth.
    - ``task``: the name of a task (`studio list tasks`); by default ``image`` or ``points``.
    - ``codec``: the name of a codec or ``{name: ..., options}``; by default ``pixels`` for uint8 and for
      floats of 1, 3 or 4 channels in 0..1, ``scale`` for other numbers.
    - ``numbers``: numeric conditions by name, (N,) each, in their own units (NaN: missing).
    - ``conditions``: those of other kinds by name, each its kind (`studio.data.conditions.KINDS`) or a
      `Field`, and (N,) values as that kind reads them.
    - ``notes``: sentences that a run tells its user of how the data was made.

    Raises ``ValueError`` for arrays that do not fit together, with the first index that is wrong.
    """
    train = _numbers(values, name)
    first = torch.from_numpy(train[0])
    if task is None:
        task = task_of(first, name)
    y, names = _labels(labels, classes, name, len(train))
    columns = _columns(numbers, name, len(train))
    share = isinstance(held_out, float | int)
    spec, told = _codec(codec, train)
    data = arrays.from_arrays(
        name,
        train,
        y,
        names,
        held_out=0.0,
        task=task,
        codec=spec,
        numeric=np.stack(list(columns.values()), 1) if columns else None,
        numeric_names=list(columns),
        conditions=conditions,
        parts=parted(len(train), y, held_out) if share else None,
        read_from="labels" if names else "",
    )
    data = replace(data, notes=(*notes, *told, *data.notes), stratified=share)
    return data if share else replace(data, held_out=_held_out(held_out, data), rows=None)


def _held_out(given: Any, data: Data) -> Arrays:
    """Samples, or ``(samples, labels, numbers, conditions)``, as those that are trained on."""
    values, labels, numbers, further = (*(given if isinstance(given, tuple) else (given,)), *[None] * 3)[:4]
    where, like = f"held_out of {data.name}", data.train
    kept = _numbers(values, where)
    check_values(kept, where)
    if kept.shape[1:] != data.shape or kept.dtype != like.values.dtype:
        raise ValueError(
            f"{data.name}: got held-out samples of shape {kept.shape[1:]} ({kept.dtype}), expected "
            f"{data.shape} ({like.values.dtype}) as in the others"
        )
    if (labels is None) != (like.labels is None):
        raise ValueError(
            f"{data.name}: got labels for only one of the two parts, expected them for both; give the "
            "held-out ones as held_out=(values, labels)"
        )
    columns = _columns(numbers, where, len(kept))
    if tuple(columns) != data.numeric:
        raise ValueError(
            f"{data.name}: got held-out samples with the numbers {list(columns)}, expected "
            f"{list(data.numeric)}; give them as held_out=(values, labels, numbers)"
        )
    y, _ = _labels(labels, None if labels is None else list(data.classes), where, len(kept))
    rows = np.stack(list(columns.values()), 1) if columns else None
    if set(further or {}) != {f.name for f in data.fields} or any(
        len(v) != len(kept) for v in (further or {}).values()
    ):
        raise ValueError(
            f"{data.name}: got held-out samples with the conditions {list(further or {})}, expected "
            f"{[f.name for f in data.fields]} of {len(kept)} samples; give their values by name as "
            "held_out=(values, labels, numbers, conditions)"
        )
    named = {f.name: column_of(f, further[f.name]) for f in data.fields} if further else {}
    return Arrays(kept, y, None if rows is None else (rows - data.numeric_mean) / data.numeric_std, named)


def _numbers(values: Any, where: str) -> np.ndarray:
    """(N, ...), floats in single precision. Raises ``ValueError`` for none, and for what is no array."""
    array = as_array(values.float() if getattr(values, "dtype", None) == torch.bfloat16 else values)
    if array.dtype.kind not in "biuf" or array.ndim < 2 or not len(array):
        raise ValueError(
            f"{where}: got {array.dtype} of shape {array.shape}, expected numbers (N, ...) of at least one "
            "sample; of points in one dimension values[:, None]"
        )
    return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array


def _labels(labels: Any, classes: Any, where: str, count: int) -> tuple[np.ndarray | None, tuple[str, ...]]:
    names = None if classes is None else named(classes, where)
    if labels is None:
        if names:
            raise ValueError(f"{where}: got classes={classes!r} without labels, expected both; leave it out")
        return None, ()
    y, names = labelled(as_array(labels), names, where, count)
    return y, names_for(y, names, where)


def _columns(numbers: Mapping[str, Any] | None, where: str, count: int) -> dict[str, np.ndarray]:
    columns = {str(k): as_array(v).astype(np.float64) for k, v in (numbers or {}).items()}
    for key, column in columns.items():
        if column.shape != (count,):
            raise ValueError(f"{where}: got the numbers {key!r} of shape {column.shape}, expected ({count},)")
    return columns


def _codec(
    codec: str | Mapping[str, Any] | None, values: np.ndarray
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The spec, and what a user should know of it."""
    if codec is not None:
        spec = {"name": codec} if isinstance(codec, str) else dict(codec)
        build_codec(spec)
        return spec, ()
    tensors = torch.from_numpy(values)
    return codec_of(TensorDataset(tensors), lambda i: tensors[i])
