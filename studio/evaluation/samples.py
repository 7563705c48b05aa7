"""A set of samples, read in blocks and never held whole."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from studio.data.arrays import content_hash
from studio.data.depth import Reading
from studio.tasks import guessed

BLOCK = 256


class Values(Protocol):
    """(N, ...) samples of a task, such as (N, C, H, W) uint8, (N, d) float32, (N, n, n + 1) uint8 graphs or
    (N,) SMILES, read by slices and arrays of indices."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: Any) -> np.ndarray: ...


@dataclass(frozen=True)
class SampleSet:
    """``about`` is what its maker recorded (sampler, guidance, label rule ...), and of a data set ``part``
    and ``left_out``; ``test`` further real samples that no model was trained on; ``rows``: which of the
    values training would take, and which it would keep from it; ``reading``: how the maker's own picture
    files were read. ``task``: a name of `studio.tasks`, as the maker recorded it; of arrays without a record
    what they look like. ``legend``: the arrays that such a file is read with; ``numbers``: columns (N,) of
    known properties in their own units, ``asked``: of what the samples were asked to have (NaN: not)."""

    name: str
    values: Values
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)
    test: "SampleSet | None" = None
    folder: Path | None = None
    legend: dict[str, np.ndarray] = field(default_factory=dict)
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    asked: dict[str, np.ndarray] = field(default_factory=dict)
    rows: tuple[np.ndarray, np.ndarray] | None = None
    reading: Reading | None = None
    task: str = ""
    # what a judge keeps of these values
    kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "task", self.task or guessed(self.values, self.legend))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape[1:])

    @cached_property
    def hash(self) -> str:
        """16 hex digits of the content."""
        values: Any = self.values  # read block by block, as an array is
        return content_hash(values, np.zeros(0) if self.labels is None else self.labels)

    def batches(self, size: int = BLOCK) -> Iterator[Tensor]:
        """Values in order, (B, ...)."""
        for start in range(0, len(self), size):
            yield torch.from_numpy(np.ascontiguousarray(self.values[start : start + size]))

    def take(self, index: np.ndarray) -> "SampleSet":
        """These samples, in memory."""
        numbers, asked = ({k: v[index] for k, v in columns.items()} for columns in (self.numbers, self.asked))
        return SampleSet(
            self.name,
            self.values[index],
            None if self.labels is None else self.labels[index],
            self.classes,
            self.about,
            legend=self.legend,
            numbers=numbers,
            asked=asked,
            reading=self.reading,
            task=self.task,
        )
