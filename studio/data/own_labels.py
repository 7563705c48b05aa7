"""What a user's own data set says of itself: its labels where they lie open, its classes, its further
conditions."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from backbones.registry import plain
from studio.data.classes import named
from studio.data.conditions import Field, checked, kind_of
from studio.data.items import as_array, label_in


def labels_of(dataset: Any) -> Any:
    """All labels where they lie open: the second tensor, the items of a list, ``targets`` or ``labels``, and
    those of wrapped data sets; None otherwise."""
    if isinstance(dataset, Subset):
        inner = labels_of(dataset.dataset)
        return None if inner is None else as_array(inner)[list(dataset.indices)]
    if isinstance(dataset, ConcatDataset):
        parts = [labels_of(d) for d in dataset.datasets]
        return None if any(y is None for y in parts) else np.concatenate([as_array(y) for y in parts])
    if isinstance(dataset, TensorDataset):
        return dataset.tensors[1] if len(dataset.tensors) in (2, 3) else None
    if isinstance(dataset, list | tuple):
        found = [label_in(item) for item in dataset]
        return None if any(y is None for y in found) else [plain(y) for y in found]
    if getattr(dataset, "target_transform", None) is not None:
        return None
    for name in ("targets", "labels"):
        try:
            array = as_array(getattr(dataset, name, None))
        except (TypeError, ValueError):
            continue
        if array.shape in ((len(dataset),), (len(dataset), 1)):
            return array
    return None


def classes_of(dataset: Any) -> tuple[str, ...] | None:
    """The ``classes`` that a data set, or the one that it wraps, says it has. Raises ``ValueError`` for
    joined data sets whose classes differ."""
    if isinstance(dataset, ConcatDataset):
        found = [classes_of(d) for d in dataset.datasets]
        if any(f != found[0] for f in found):
            raise ValueError(
                f"got joined data sets with different classes ({found[0]} and "
                f"{next(f for f in found if f != found[0])}); pass classes="
            )
        return found[0]
    own = getattr(dataset, "classes", None)
    if own is None or callable(own):
        return classes_of(dataset.dataset) if isinstance(dataset, Subset) else None
    return named(own, type(dataset).__name__)


def declared(dataset: Any) -> tuple[Field, ...]:
    """The further conditions that a data set, or the one that it wraps, says its items have. Raises
    ``ValueError`` for joined data sets that say different ones, and for what is no kind."""
    if isinstance(dataset, ConcatDataset):
        found = [declared(d) for d in dataset.datasets]
        if any(f != found[0] for f in found):
            raise ValueError(
                "got joined data sets with different conditions, expected the same; declare them alike"
            )
        return found[0]
    if isinstance(dataset, Subset):
        return declared(dataset.dataset)
    said = getattr(dataset, "conditions", None)
    if not isinstance(said, Mapping):
        return ()
    made = (Field(str(k), v) if isinstance(v, str) else replace(v, name=str(k)) for k, v in said.items())
    return tuple(field for field in map(checked, made) if not kind_of(field).packed)
