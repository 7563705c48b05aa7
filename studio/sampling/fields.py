"""Conditions beside labels and numbers, which a network of one's own may be asked by: ``tokens`` (L, D) and
``image`` (C, H, W), by the names of `Cond`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def columns(values: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], count: int) -> dict[str, Tensor]:
    """(N, *shape) float32 of each field: one for each sample or one for all, NaN (missing) where none is
    given. Raises ``ValueError`` for another shape."""
    made = {}
    for name, shape in shapes.items():
        given = values.get(name)
        if given is None:
            made[name] = torch.full((count, *shape), torch.nan)
            continue
        try:
            value = (
                torch.as_tensor(
                    np.stack([np.asarray(v) for v in given]) if isinstance(given, list | tuple) else given
                )
                .detach()
                .cpu()
                .float()
            )
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"got {name} of {type(given).__name__}, expected an array or a tensor (N, "
                f"{', '.join(map(str, shape))})"
            ) from None
        if tuple(value.shape) not in (tuple(shape), (count, *shape)):
            raise ValueError(
                f"got {name} of shape {tuple(value.shape)}, expected {(count, *shape)}, or "
                f"{tuple(shape)} for all"
            )
        made[name] = value.expand(count, *shape)
    return made
