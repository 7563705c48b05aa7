"""Numbers as conditions of a user's own data set: what they are called, and what they are standardised by."""

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import TensorDataset

from studio.data.items import Item

LOOKED_AT = 256  # items over the whole length of a data set that does not lie open


def names_of(dataset: Any, first: Item) -> tuple[str, ...]:
    """The names of numbers: the items' own, those of the data set's attribute ``numeric``, or numeric0,
    numeric1, ..."""
    if "numeric" not in first.conditions:
        return ()
    shape, given = tuple(first.conditions["numeric"].shape), first.names
    unnamed = [i for i, name in enumerate(given) if not name]
    names = tuple(str(n) for n in getattr(dataset, "numeric", [f"numeric{k}" for k in range(len(unnamed))]))
    if len(shape) != 1 or len(names) != len(unnamed):
        raise ValueError(f"got items with numeric of shape {shape}, expected ({len(names)},) as it is named")
    named_by = dict(zip(unnamed, names))
    return tuple(named_by.get(i, name) for i, name in enumerate(given))


class Checked(Protocol):
    """A data set whose items are checked (`studio.data.own_items.Own`)."""

    dataset: Any
    name: str
    form: Any

    def __len__(self) -> int: ...
    def item(self, i: int) -> Item: ...
    def checked(self, i: int, item: Item) -> Item: ...


class Numbers(NamedTuple):
    """What is known of the numbers of a data set; ``reach``: least and greatest, where all of them were
    seen."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    reach: tuple[tuple[float, float], ...] = ()


def numbers_of(own: Checked) -> Numbers:
    """Of all items where they lie open, otherwise of some over the whole length. Raises ``ValueError`` for a
    number that is missing everywhere."""
    if "numeric" not in own.form.conditions:
        return Numbers()
    places = some_of(own, whole=isinstance(own.dataset, list | tuple | TensorDataset))
    rows = torch.stack([own.checked(i, own.item(i)).conditions["numeric"].double() for i in places])
    rows = rows.reshape(len(rows), -1)
    empty = torch.isnan(rows).all(0)
    if bool(empty.any()):
        name = own.form.names[int(empty.int().argmax())] or f"number {int(empty.int().argmax())}"
        raise ValueError(
            f"{own.name}: got no value of {name} in {len(rows)} items, expected at least one; leave it out"
        )
    mean, std = np.nanmean(rows.numpy(), 0), np.nanstd(rows.numpy(), 0)
    seen = zip(np.nanmin(rows.numpy(), 0), np.nanmax(rows.numpy(), 0)) if len(places) == len(own) else ()
    return Numbers(
        tuple(map(float, mean)),
        tuple(float(v) if v > 0 else 1.0 for v in std),
        tuple((float(a), float(b)) for a, b in seen),
    )


def some_of(own: Checked, *, whole: bool) -> list[int]:
    """All indices, or some over the whole length."""
    return (
        list(range(len(own)))
        if whole
        else np.unique(np.linspace(0, len(own) - 1, LOOKED_AT).round().astype(int)).tolist()
    )
