"""Items of a user's own data set, checked when they are fetched. What is random in an item is a function of
(seed, epoch, index)."""

import contextlib
import copy
import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from backbones.types import Cond
from studio.data.classes import check_range
from studio.data.conditions import Field, seen, stacked
from studio.data.finite import check_values
from studio.data.items import Item, read


class Form(NamedTuple):
    """What every item of a data set must be: shape and dtype of its value, shapes of its conditions by name,
    and names of its numbers."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    conditions: dict[str, tuple[int, ...]]
    names: tuple[str, ...] = ()


class Own(torch.utils.data.Dataset):
    """A data set whose items are checked when they are fetched. ``classes``: how many there are (0 leaves
    labels out), None where that is not known; ``labels`` (N,): all of them, where they lie open. ``mean`` and
    ``std`` (K,): what its numbers are standardised by, None for not at all. ``fields``: the conditions that
    it declares."""

    mean: Tensor | None = None
    std: Tensor | None = None

    def __init__(
        self,
        dataset: Any,
        form: Form | None = None,
        classes: int | None = None,
        labels: np.ndarray | None = None,
        fields: tuple[Field, ...] = (),
    ):
        self.dataset, self.classes, self.labels, self.fields = dataset, classes, labels, fields
        self.name = type(dataset).__name__
        self.form = form or form_of(self.item(0))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> Any:
        return self.dataset[i]

    def item(self, i: int) -> Item:
        """As it is, its numbers too. Raises ``ValueError`` for what is no item, with its index."""
        with seeded() as seed:
            seed(0, 0, i)
            return self._read(i)

    def _read(self, i: int) -> Item:
        return read(self.dataset[i], i, self.name, [f.name for f in self.fields])

    def standardised(self, mean: Sequence[float], std: Sequence[float]) -> "Own":
        """The same with numbers less ``mean``, over ``std``."""
        other = copy.copy(self)
        other.mean, other.std = torch.tensor(mean), torch.tensor(std)
        return other

    def fetch(self, indices: Sequence[int], epochs: Sequence[int], seed: int) -> tuple[Tensor, Cond]:
        """(B, ...) values and their conditions."""
        items = []
        with seeded() as begin:
            for i, epoch in zip(indices, epochs):
                begin(seed, epoch, i)
                items.append(self.checked(i, self._read(i)))
        columns = {k: torch.stack([item.conditions[k] for item in items]) for k in items[0].conditions}
        if "numeric" in columns and self.mean is not None:
            assert self.std is not None
            columns["numeric"] = (columns["numeric"].float() - self.mean) / self.std
        if self.classes == 0:
            columns.pop("label", None)
        elif self.classes is not None and "label" in columns:
            check_range(columns["label"].numpy(), self.classes, self.name, indices)
        for field in self.fields:
            columns[field.name] = stacked([self.seen(field, i, item) for i, item in zip(indices, items)])
        return torch.stack([item.value for item in items]), Cond.of(columns)

    def seen(self, field: Field, i: int, item: Item) -> Tensor:
        """A declared condition of an item, as networks see it. Raises ``ValueError`` with its index."""
        try:
            return seen(field, item.given.get(field.name))
        except ValueError as error:
            raise ValueError(f"{self.name}, item {i}: {error}") from None

    def checked(self, i: int, item: Item) -> Item:
        """Raises ``ValueError`` for an item of another form, and for values that are no numbers, with its
        index."""
        form = form_of(item)
        if form != self.form:
            raise ValueError(
                f"{self.name}: got item {i} of {_told(form)}, expected {_told(self.form)} as in the "
                "first; make all items alike"
            )
        check_values(item.value[None], self.name, names=[i])
        if "numeric" in item.conditions and bool(torch.isinf(item.conditions["numeric"]).any()):
            raise ValueError(
                f"{self.name}: got an infinite number in the conditions of item {i}, expected finite "
                "ones; NaN means missing"
            )
        return item


def form_of(item: Item) -> Form:
    return Form(
        tuple(item.value.shape),
        item.value.dtype,
        {k: tuple(v.shape) for k, v in sorted(item.conditions.items())},
        item.names,
    )


def _told(form: Form) -> str:
    named = f" ({', '.join(form.names)})" if any(form.names) else ""
    with_shapes = [
        (f"{k} {list(shape)}" if shape else k) + (named if k == "numeric" else "")
        for k, shape in form.conditions.items()
    ]
    return (
        f"shape {form.shape} ({str(form.dtype).removeprefix('torch.')}) with "
        f"{', '.join(with_shapes) or 'no conditions'}"
    )


@contextlib.contextmanager
def seeded() -> Iterator[Callable[[int, int, int], None]]:
    """Begins the generators that transforms draw from (torch, numpy, random) anew for each (seed, epoch,
    index), and leaves them as they were."""
    states = torch.random.get_rng_state(), np.random.get_state(), random.getstate()

    def begin(seed: int, epoch: int, index: int) -> None:
        number = int.from_bytes(
            hashlib.blake2b(f"{seed}|{epoch}|{index}".encode(), digest_size=7).digest(), "big"
        )
        torch.default_generator.manual_seed(number)
        np.random.seed(number % 2**32)
        random.seed(number)

    try:
        yield begin
    finally:
        torch.random.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
