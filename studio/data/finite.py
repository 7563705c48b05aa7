"""Values that are no numbers, found before a network learns from them."""

from typing import Any

import numpy as np
import torch

from studio.codecs.codec import has_holes


def check_values(values: Any, where: str, *, names: Any = None) -> None:
    """Of (N, ...) values. Raises ``ValueError`` that names the first item with one that is not finite, its
    place in it, and how many items have such; ``names``: the items' own indices, by default counted from
    0."""
    if isinstance(values, torch.Tensor):
        if not values.is_floating_point():
            return
        values = values.detach().cpu()
        values = (values.float() if values.itemsize < 4 else values).numpy()
    if values.dtype.kind not in "fc":
        return
    bad: list[int] = []
    for start in range(0, len(values), 4096):  # of a great array on disk only a part is in memory
        rows = values[start : start + 4096]
        bad += (start + np.flatnonzero(~np.isfinite(rows).reshape(len(rows), -1).all(1))).tolist()
    if not bad:
        return
    first = values[bad[0]]
    place = tuple(int(k) for k in np.argwhere(~np.isfinite(first))[0])
    index = bad[0] if names is None else names[bad[0]]
    more = f"; {len(bad)} of {len(values)} items have such values" if len(bad) > 1 else ""
    raise ValueError(
        f"got {first[place]} in item {index}{f' at {list(place)}' if place else ''} of {where}{more}, "
        "expected finite numbers; "
        "mend them, or leave those items out"
    )


def check_data(data: Any) -> None:
    """All arrays of a `Data` that lie in memory; items of other data sets are looked at as they come
    (`studio.data.own_items`)."""
    if has_holes(data.codec):
        return
    for name in ("train", "held_out", "source", "held_out_source"):
        values = getattr(getattr(data, name), "values", None)
        if isinstance(values, np.ndarray):
            check_values(values, f"{data.name} ({name})")
