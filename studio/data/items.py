"""What an item of a user's own data set may be: a value, and the conditions that go with it.

    value                                                 a tensor, an array or a PIL picture
    (value, label)                                        a class number
    (value, numbers)                                      a row of two floats or more
    (value, label, numbers)                               a number, a row of them, or numbers by name
    (value, {"label": 3, "temperature": 300.0})           numbers by name
    {"image": value, "label": 3, "temperature": 300.0}    the same in one dictionary

The value is called `VALUES`, the label one of `LABELS`. ``numeric`` is a row of numbers without names;
``tokens`` (L, D), ``image`` (C, H, W; beside a ``value``), ``valid``, ``known`` and ``given`` are fields of
`backbones.types.Cond`. What the data set declares, ``conditions = {"NAME": KIND}`` with a kind or a `Field`
of `studio.data.conditions`, is what its kind reads. Every other number is a condition of its name. None is
missing; text is left out, and told.
"""

import difflib
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from backbones.registry import plain
from studio.data.classes import NO_LABEL, class_numbers
from studio.data.decode import decode
from studio.data.depth import is_deep

# of several the first is the value
VALUES = ("value", "image", "pixel_values", "img", "picture", "data", "x")
LABELS = ("label", "labels", "class", "target", "y")
FIELDS = ("tokens", "image", "valid", "known", "given")
EXPECTED = (
    "a value, (value, label), (value, label, numbers), (value, {'label': ..., 'NAME': number}) or "
    "{'image': value, 'label': ...}"
)


class Item(NamedTuple):
    """``names``: of the entries of ``conditions["numeric"]``, "" where they have none; ``left``: names of
    what is no condition; ``given``: of declared conditions what the item has for them."""

    value: Tensor
    conditions: dict[str, Tensor]
    names: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    given: Mapping[str, Any] = {}


def read(item: Any, i: int, where: str, declared: Collection[str] = ()) -> Item:
    """Raises ``ValueError`` for what is no item, with its index. ``declared``: names of conditions that their
    own kind reads."""
    given, rest = _split(item, i, where)
    kept = {name: rest.pop(name, None) for name in declared}
    value = _value(given, i, where)
    conditions: dict[str, Tensor] = {}
    labels = [k for k in LABELS if k in rest]
    if len(labels) > 1:
        raise ValueError(
            f"{where}: got {' and '.join(labels)} in item {i}, expected one label; leave the others out"
        )
    if labels:
        conditions["label"] = _label(rest.pop(labels[0]), i, where)
    for name in FIELDS:
        if name in rest:
            conditions[name] = _field(rest.pop(name), name, i, where)
    numbers, left = _numbers(rest, i, where, labelled=bool(labels))
    if numbers:
        row = [v for _, v in numbers]
        whole = (
            row[0]
            if len(numbers) == 1 and isinstance(row[0], Tensor)
            else torch.cat([torch.as_tensor(v).reshape(-1).double() for v in row]).float()
        )
        conditions["numeric"] = whole
    names = tuple(n for name, v in numbers for n in ([name] if name else [""] * torch.as_tensor(v).numel()))
    return Item(value, conditions, names, left, kept)


def label_in(item: Any) -> Any:
    """The label of an item as it was given; None where there is none."""
    rest = (
        item
        if isinstance(item, Mapping)
        else item[1]
        if isinstance(item, tuple | list) and len(item) in (2, 3)
        else None
    )
    if isinstance(rest, Mapping):
        return next((rest[k] for k in LABELS if k in rest), None)
    return None if rest is None else _second(rest).get("label")


def _split(item: Any, i: int, where: str) -> tuple[Any, dict[str, Any]]:
    """The value, and everything else by name."""
    if isinstance(item, Mapping):
        name = next((k for k in VALUES if k in item), None)
        if name is None:
            raise ValueError(
                f"{where}: got a dict of {', '.join(map(str, item)) or 'nothing'} for item {i}, expected "
                f"the value as {' or '.join(VALUES[:2])}"
            )
        return item[name], {str(k): v for k, v in item.items() if k != name}
    parts = list(item) if isinstance(item, tuple | list) else [item]
    if not 1 <= len(parts) <= 3 or isinstance(parts[0], Mapping):
        got = "a dict as the value" if parts and isinstance(parts[0], Mapping) else f"{len(parts)} parts"
        raise ValueError(f"{where}: got {got} for item {i}, expected {EXPECTED}")
    rest: dict[str, Any] = {}
    if len(parts) > 1:
        rest = (
            {str(k): v for k, v in parts[1].items()} if isinstance(parts[1], Mapping) else _second(parts[1])
        )
    if len(parts) > 2:
        more = (
            {str(k): v for k, v in parts[2].items()}
            if isinstance(parts[2], Mapping)
            else {"numeric": parts[2]}
        )
        if "label" not in rest and not isinstance(parts[1], Mapping):
            raise ValueError(
                f"{where}: got a row of numbers in the place of the label of item {i}, expected (value, "
                "label, numbers)"
            )
        if twice := next((k for k in more if k in rest), None):
            raise ValueError(f"{where}: got {twice!r} twice in item {i}, expected it once")
        rest |= more
    return parts[0], rest


def _second(part: Any) -> dict[str, Any]:
    """A row of floats is numbers, all else a label."""
    row = as_array(part)
    if (
        row.ndim == 1
        and row.size > 1
        and row.dtype.kind == "f"
        and not (np.isin(row, (0, 1)).all() and row.sum() == 1)
    ):
        return {"numeric": part}
    return {"label": part}


def _value(given: Any, i: int, where: str) -> Tensor:
    if isinstance(given, Image.Image):
        if is_deep(given):
            raise ValueError(
                f"{where}: got a PIL picture of mode {given.mode} as item {i}, whose range nobody can "
                "tell, expected eight bits; try an array of floats in 0..1"
            )
        return torch.from_numpy(decode(given).copy())
    try:
        return torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"{where}: got {type(given).__name__} as the value of item {i}, expected a tensor, an array "
            "or a PIL picture"
        ) from None


def _label(given: Any, i: int, where: str) -> Tensor:
    if given is None:
        return torch.tensor(NO_LABEL)
    array = as_array(given)
    if array.shape not in ((), (1,)):
        raise ValueError(
            f"{where}, item {i}: got a label of shape {array.shape}, expected one class number; of "
            "one-hot rows take argmax(); numbers to go by have a name, "
            "{'NAME': number}"
        )
    try:
        label = class_numbers(array.reshape(-1), "", 1)
    except ValueError as error:
        way = "; a number to go by has a name: (value, {'NAME': number})" if "not whole" in str(error) else ""
        raise ValueError(f"{where}, item {i}{str(error).replace(' (index 0)', '')}{way}") from None
    return torch.tensor(int(label[0]))


def _field(given: Any, name: str, i: int, where: str) -> Tensor:
    """Of a picture −1 is black and 1 is white, as a network sees pictures."""
    if isinstance(given, Image.Image):
        return _value(given, i, where).float() / 127.5 - 1
    try:
        return torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"{where}: got {type(given).__name__} as {name} of item {i}, expected a tensor or an array"
        ) from None


def _numbers(
    rest: Mapping[str, Any], i: int, where: str, *, labelled: bool
) -> tuple[list[tuple[str, Any]], tuple[str, ...]]:
    """Numbers by name, "" for a row without; and the names of texts."""
    found: list[tuple[str, Any]] = []
    left = []
    for name, value in rest.items():
        near = not labelled and (
            sorted(name) == sorted("label") or difflib.get_close_matches(name, LABELS[:4], 1, 0.85)
        )
        if near:
            raise ValueError(
                f"{where}: got the condition {name!r} of item {i}, expected one of {', '.join(LABELS)} "
                "for a label; did you mean 'label'?"
            )
        if isinstance(value, str | bytes):
            left.append(name)
        elif isinstance(value, Mapping) and name == "numeric":
            more, texts = _numbers(value, i, where, labelled=True)
            found += more
            left += texts
        elif name == "numeric":
            found.append(("", _row(value, i, where)))
        else:
            number = torch.nan if value is None else plain(value)
            if not isinstance(number, int | float | bool):
                raise ValueError(
                    f"{where}: got the condition {name!r} of item {i} ({type(number).__name__}), expected "
                    "a number; a row of them is called numeric, "
                    f"other conditions {', '.join(FIELDS)}"
                )
            found.append((name, float(number)))
    return found, tuple(left)


def _row(given: Any, i: int, where: str) -> Tensor:
    try:
        row = (
            torch.tensor([torch.nan if v is None else float(v) for v in given])
            if isinstance(given, list | tuple)
            else torch.as_tensor(given)
        )
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"{where}: got {type(given).__name__} as the numbers of item {i}, expected a row of numbers"
        ) from None
    return row if row.is_floating_point() else row.float()


def as_array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
