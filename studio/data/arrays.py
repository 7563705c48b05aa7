"""Data in memory: a uint8 or float array with labels, and what a data set tells about itself."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.types import Cond
from studio.codecs.codec import has_holes
from studio.data.conditions import Field, conditions_of, fitted
from studio.data.finite import check_values


class Arrays(torch.utils.data.Dataset):
    """(N, ...) values, (N,) labels (−1 = none), (N, K) numbers (NaN = missing) and (N, ...) of further
    conditions by name; a list of indices is fetched in one go as ``(values, Cond)``."""

    def __init__(
        self,
        values: np.ndarray,
        labels: np.ndarray | None = None,
        numeric: np.ndarray | None = None,
        named: Mapping[str, np.ndarray] | None = None,
    ):
        self.values, self.labels, self.numeric, self.named = values, labels, numeric, dict(named or {})

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return torch.from_numpy(np.array(self.values[i])), -1 if self.labels is None else int(self.labels[i])

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Cond]:
        i = np.asarray(indices)
        columns = {k: torch.from_numpy(v[i]) for k, v in self.named.items()}
        if self.labels is not None:
            columns["label"] = torch.from_numpy(self.labels[i].astype(np.int64))
        if self.numeric is not None:
            columns["numeric"] = torch.from_numpy(self.numeric[i].astype(np.float32))
        return torch.from_numpy(np.ascontiguousarray(self.values[i])), Cond.of(columns)

    def part(self, i: np.ndarray) -> "Arrays":
        """The samples of these indices."""
        return Arrays(
            self.values[i],
            None if self.labels is None else self.labels[i],
            None if self.numeric is None else self.numeric[i],
            {k: v[i] for k, v in self.named.items()},
        )


@dataclass(frozen=True)
class Data:
    """``train`` and ``held_out`` are map-style data sets of ``(value, label)``; ``shape`` is one value's;
    ``codec`` what turns values into what a network sees; ``task`` names how samples are shown and judged;
    ``hash`` identifies the content; ``skipped`` counts files left out; ``numeric`` names numeric conditions,
    which the data set holds standardised by ``numeric_mean`` and ``numeric_std``, and ``numeric_range`` the
    least and the greatest seen of each. ``source`` and ``held_out_source`` are data sets of where a bridge
    starts, called ``source_name``: of the same length and order where ``paired``, a set of its own otherwise.
    ``notes``: what a user should know of how the data was read; ``beside``: small text files, by name, that a
    run keeps beside its config. Of picture files: ``decoder``, the version of how they were decoded (1 for
    all that was decoded elsewhere), on which ``background`` and with how many ``bits``. ``read_from``: what
    the classes were read from, in words. ``rows``: places of the two parts in the file or folder that both
    come from; ``stratified``: whether they share every class alike. ``fields``: conditions of other kinds
    than the label and the numbers; ``conditions`` are all of them."""

    name: str
    task: str
    shape: tuple[int, ...]
    train: Any
    held_out: Any = None
    classes: tuple[str, ...] = ()
    codec: dict[str, Any] = field(default_factory=lambda: {"name": "pixels"})
    hash: str = ""
    skipped: int = 0
    numeric: tuple[str, ...] = ()
    numeric_mean: tuple[float, ...] = ()
    numeric_std: tuple[float, ...] = ()
    numeric_range: tuple[tuple[float, float], ...] = ()
    source: Any = None
    held_out_source: Any = None
    source_name: str = ""
    paired: bool = False
    notes: tuple[str, ...] = ()
    beside: dict[str, str] = field(default_factory=dict)
    decoder: int = 1
    background: tuple[int, ...] = ()
    bits: int | None = None
    read_from: str = ""
    rows: tuple[np.ndarray, np.ndarray] | None = None
    stratified: bool = False
    fields: tuple[Field, ...] = ()

    @property
    def conditions(self) -> tuple[Field, ...]:
        return conditions_of(self)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """How many of the training samples each class has; empty where that is not known."""
        labels = getattr(self.train, "labels", None)
        if not isinstance(labels, np.ndarray) or not self.classes:
            return ()
        return tuple(np.bincount(labels[labels >= 0], minlength=len(self.classes)).tolist())

    def sources(self, held_out: bool = False) -> Any:
        """The data set of sources that goes with a part, None for data that starts from noise."""
        return self.held_out_source if held_out and self.held_out_source is not None else self.source


def content_hash(*arrays: np.ndarray) -> str:
    """16 hex digits of SHA-256 over shapes, dtypes and bytes."""
    digest = hashlib.sha256()
    for a in arrays:
        digest.update(f"{a.shape}{a.dtype}".encode())
        for start in range(0, len(a), 4096):
            digest.update(np.ascontiguousarray(a[start : start + 4096]).data)
    return digest.hexdigest()[:16]


def split(count: int, fraction: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(train, held-out) indices, sorted, of a fixed random split; at least one train sample stays."""
    if not 0 <= fraction < 1:
        raise ValueError(f"got held_out={fraction}, expected a fraction from 0 to below 1")
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(count)
    k = min(int(round(count * fraction)), count - 1)
    return np.sort(order[k:]), np.sort(order[:k])


def _finite(
    numeric: np.ndarray, train: np.ndarray, names: Sequence[str], where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers with the infinite ones missing, and what is to be told of them. Raises ``ValueError`` for a
    column without a number to train on."""
    found = np.isinf(numeric)
    numeric = np.where(found, np.nan, numeric) if found.any() else numeric
    empty = np.flatnonzero(np.isnan(numeric[train]).all(0))
    if len(empty):
        raise ValueError(
            f"{where}: got no finite number for the condition {names[empty[0]]!r} in the training part, "
            "expected at least one; leave it out"
        )
    return numeric, tuple(
        f"{int(column.sum())} infinite number{'' if column.sum() == 1 else 's'} of {name} (first at index "
        f"{int(column.argmax())}) count as missing"
        for name, column in zip(names, found.T)
        if column.any()
    )


def from_arrays(
    name: str,
    values: np.ndarray,
    labels: np.ndarray | None,
    classes: Sequence[str],
    *,
    held_out: float,
    task: str,
    codec: dict[str, Any],
    skipped: int = 0,
    numeric: np.ndarray | None = None,
    numeric_names: Sequence[str] = (),
    conditions: Mapping[str, tuple[str | Field, Sequence[Any]]] | None = None,
    parts: tuple[np.ndarray, np.ndarray] | None = None,
    read_from: str = "",
) -> Data:
    """A `Data` over one array with a random held-out part, or with the indices ``parts`` (train, held-out);
    numbers are standardised (NaN stays NaN). ``conditions``: further ones by name, each a kind
    (`studio.data.conditions.KINDS`) or a `Field`, and a value for every sample."""
    if not has_holes(codec):
        check_values(values, name)
    train, rest = split(len(values), held_out) if parts is None else parts
    mean = std = np.zeros(0)
    seen: list[tuple[float, float]] = []
    notes: tuple[str, ...] = ()
    if numeric is not None:
        numeric, notes = _finite(numeric, train, numeric_names, name)
        seen = list(zip(map(float, np.nanmin(numeric[train], 0)), map(float, np.nanmax(numeric[train], 0))))
        mean, std = np.nanmean(numeric, 0), np.nanstd(numeric, 0)
        std = np.where(std > 0, std, 1.0)
        numeric = (numeric - mean) / std

    columns = {
        key: _column(key, kind, given, len(values), train)
        for key, (kind, given) in (conditions or {}).items()
    }
    whole = Arrays(values, labels, numeric, {key: column for key, (_, column) in columns.items()})
    digest = content_hash(
        values,
        labels if labels is not None else np.zeros(0),
        numeric if numeric is not None else np.zeros(0),
        *whole.named.values(),
    )
    return Data(
        name,
        task,
        tuple(values.shape[1:]),
        whole.part(train),
        whole.part(rest) if len(rest) else None,
        tuple(classes),
        codec,
        digest,
        skipped,
        tuple(numeric_names),
        tuple(map(float, mean)),
        tuple(map(float, std)),
        tuple(seen),
        notes=notes,
        read_from=read_from,
        rows=(train, rest),
        fields=tuple(found for found, _ in columns.values()),
    )


def _column(
    name: str, kind: str | Field, given: Sequence[Any], count: int, train: np.ndarray
) -> tuple[Field, np.ndarray]:
    """A condition's field and its values as networks see them."""
    if len(given) != count:
        raise ValueError(f"got {len(given)} values of the condition {name!r}, expected {count}")
    return fitted(Field(name, kind) if isinstance(kind, str) else replace(kind, name=name), given, train)
