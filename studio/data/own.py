"""A user's own data sets: what their items are, which classes they have, and that all of them are alike.

`studio.data.items` tells what an item may be, `own_items` checks each. Numbers are standardised, as those of
files are. Labels that lie open (tensors, lists, ``targets``, and wrappers of them; `own_labels`) are looked
at before anything else; of other data sets each batch is.
"""

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from studio.data.arrays import Data, content_hash
from studio.data.classes import check_range, class_numbers, named, names_for
from studio.data.conditions import Field, kind_of
from studio.data.finite import check_values
from studio.data.floats import codec_of
from studio.data.item_numbers import names_of, numbers_of, some_of
from studio.data.layout import looks_last
from studio.data.own_items import Own
from studio.data.own_labels import classes_of, declared, labels_of

TASKS = {1: "points", 3: "image"}  # of values (d,) and (C, H, W)


def from_dataset(dataset: Any, held_out: Any = None, *, classes: Any = None, task: str = "") -> Data:
    """A user's map-style data set, of items of any form of `studio.data.items`. uint8 values and PIL pictures
    are pictures (C, H, W), as are floats in 0..1; other floats are used as they are. Numbers as conditions
    are standardised, and asked for as they were given.

    ``classes``: how many there are, or their names; by default what the attribute ``classes`` says, or what
    is found in labels that lie open. 0 leaves labels out. An attribute ``numeric`` names the numbers of items
    that come without names, ``conditions`` declares further ones (`studio.data.items`). ``task``: the name of
    one for values of any shape; by default ``image`` or ``points``. Raises ``ValueError``
    for items of another form, and for labels that are not whole or out of range, with their index.
    """
    if len(dataset) == 0:
        raise ValueError("got an empty data set, expected at least one item")
    where = type(dataset).__name__
    for part, name in ((dataset, where), (held_out, f"held_out {type(held_out).__name__}")):
        if (tensors := _tensors(part)) is not None:
            check_values(tensors[0], name)
    names = named(classes, where) if classes is not None else classes_of(dataset)
    first = (probe := Own(dataset, fields=declared(dataset))).item(0)
    value, conditions = first.value, first.conditions
    task = task or task_of(value, where)
    number, labels, said = 0, None, ""
    if "label" not in conditions:
        if classes is not None and names:
            raise ValueError(
                f"{where}: got classes={classes!r}, but the items have no labels, expected (value, "
                "label); leave classes out"
            )
        names = ()
    elif classes is None or names:
        labels, names, said = _labels(dataset, probe, names)
        number = len(names)
    else:
        said = "their labels are left out, as classes=0 says"
    fields, rest = _fitted(probe), None
    if held_out is not None:
        if len(held_out) == 0:
            raise ValueError("got an empty held-out data set, expected at least one item; leave it out")
        rest = Own(held_out, probe.form, number, fields=fields)
        rest.checked(0, rest.item(0))
        if number:
            found = labels_of(held_out)
            rest.labels = (
                None if found is None else class_numbers(found, f"held_out {rest.name}", len(held_out))
            )
            if rest.labels is not None:
                check_range(rest.labels, number, f"held_out {rest.name}")
    train = Own(dataset, probe.form, number, labels, fields)
    codec, told = codec_of(dataset, lambda i: train.item(i).value)
    if first.left:
        told = (
            *told,
            f"left out of the items: {', '.join(first.left)}, which "
            f"{'is' if len(first.left) == 1 else 'are'} text",
        )
    found, numeric, code = numbers_of(train), names_of(dataset, first), identity(train)
    if found.mean:
        train = train.standardised(found.mean, found.std)
        rest = rest and rest.standardised(found.mean, found.std)
    return Data(
        where,
        task,
        tuple(value.shape),
        train,
        rest,
        tuple(names or ()),
        codec,
        code,
        numeric=numeric,
        numeric_mean=found.mean,
        numeric_std=found.std,
        numeric_range=found.reach,
        read_from=said,
        notes=told,
        fields=(
            *(
                Field(k, kind, tuple(conditions[k].shape))
                for k, kind in (("tokens", "array"), ("image", "image"))
                if k in conditions
            ),
            *fields,
        ),
    )


def _fitted(own: Own) -> tuple[Field, ...]:
    """The declared fields with what the items tell of them: all where they lie open, otherwise some over the
    whole length."""
    if not own.fields:
        return ()
    items = [own.item(i).given for i in some_of(own, whole=isinstance(own.dataset, list | tuple))]
    return tuple(kind_of(f).fit(f, [given[f.name] for given in items]) for f in own.fields)


def task_of(value: Tensor, where: str) -> str:
    """The task of data that names none, from one of its values. Raises ``ValueError`` for what is neither a
    point nor a picture."""
    task = TASKS.get(value.ndim)
    if task is None:
        raise ValueError(
            f"got items of shape {tuple(value.shape)}, expected (C, H, W) pictures or (d,) points"
        )
    if value.ndim == 1:
        return task
    if looks_last(tuple(value.shape)):
        raise ValueError(
            f"{where}: got items of shape {tuple(value.shape)}, which look like (H, W, C), expected (C, "
            "H, W); try value.permute(2, 0, 1), or give PIL pictures"
        )
    if value.dtype != torch.uint8 and not value.is_floating_point():
        raise ValueError(
            f"{where}: got pictures of {str(value.dtype).removeprefix('torch.')}, expected uint8 (0 to "
            "255) or floats; try value.to(torch.uint8)"
        )
    return task


def _labels(
    dataset: Any, probe: Own, names: tuple[str, ...] | None
) -> tuple[np.ndarray | None, tuple[str, ...], str]:
    """All labels where they are known, the names of the classes, and where they come from."""
    open_labels, first = labels_of(dataset), int(probe.item(0).conditions["label"])
    if open_labels is not None:
        labels = class_numbers(open_labels, probe.name, len(dataset))
        if int(labels[0]) == first:  # targets that say something else than the items are no labels of theirs
            return labels, names_for(labels, names, probe.name), "labels"
    if names is None:
        raise ValueError(
            f"got a {probe.name} whose items have labels but which does not tell its classes, expected "
            "how many there are or their names; "
            "pass classes=10 or classes=['cat', 'dog'] (classes=0 leaves labels out)"
        )
    check_range(np.array([first]), len(names), probe.name, [0])
    return None, names, "labels of the items, of which each batch is checked"


def identity(own: Own) -> str:
    """A hash of the content: of all of it where it lies open, otherwise of its size, its labels where they
    do, and some items over its whole length. Empty for a data set that does not give the same items again."""
    tensors = _tensors(own.dataset)
    if tensors is not None:
        return content_hash(
            *[
                np.asarray(t.detach().cpu().float() if t.dtype == torch.bfloat16 else t.detach().cpu())
                for t in tensors
            ]
        )
    some = some_of(own, whole=isinstance(own.dataset, list | tuple))
    digest = hashlib.sha256(f"{len(own)}".encode())
    if own.labels is not None:
        digest.update(own.labels.tobytes())
    for i in some:
        one = _bytes(own, i)
        if i < 4 and one != _bytes(own, i):
            return ""
        digest.update(one)
    return digest.hexdigest()[:16]


def _bytes(own: Own, i: int) -> bytes:
    item = own.item(i)
    further = {f.name: own.seen(f, i, item) for f in own.fields}
    return b"".join(
        f"{k} {tuple(v.shape)} {v.dtype}".encode()
        + v.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        for k, v in [("", item.value), *sorted({**item.conditions, **further}.items())]
    )


def _tensors(dataset: Any) -> list[Tensor] | None:
    """The tensors of a data set that is nothing else, or of its wrappers."""
    if isinstance(dataset, Tensor):
        return [dataset]
    if type(dataset) is TensorDataset:
        return list(dataset.tensors)
    if type(dataset) is Subset:
        inner = _tensors(dataset.dataset)
        return None if inner is None else [t[list(dataset.indices)] for t in inner]
    if type(dataset) is ConcatDataset:
        parts = [_tensors(d) for d in dataset.datasets]
        return None if any(t is None for t in parts) else [t for some in parts for t in some or ()]
    return None
