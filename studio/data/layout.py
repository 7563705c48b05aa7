"""Whether an array of pictures has its channels first or last. A picture has fewer channels than rows and
columns; where both sides are as few, none can tell."""

from collections.abc import Sequence
from math import isqrt

import numpy as np

CHANNELS = 4  # as many as pictures of files have
SMALLEST = 8  # side of a picture whose rows are one


def looks_last(shape: Sequence[int]) -> bool:
    """Whether (a, b, c) can only be (H, W, C)."""
    a, b, c = shape
    return c < min(a, b) and not a <= CHANNELS and c <= CHANNELS + 1


def layout_of(shape: Sequence[int], where: str) -> str:
    """``"hwc"`` or ``"chw"`` for (a, b, c). Raises ``ValueError`` where it could be both or neither."""
    a, b, c = shape
    if (a, b, c) == (1, 1, 1):
        return "chw"
    last, first = c < min(a, b), a < min(b, c)
    if (a <= CHANNELS and c <= CHANNELS) or last == first:
        raise ValueError(
            f"{where}: got pictures of shape {(a, b, c)}, which could be (C, H, W) or (H, W, C), expected "
            "one that tells; set data.layout=chw or data.layout=hwc"
        )
    return "hwc" if last else "chw"


def channels_first(values: np.ndarray, where: str, layout: str | None = None) -> np.ndarray:
    """(N, H, W), (N, H, W, C) or (N, C, H, W) as (N, C, H, W)."""
    if values.ndim == 3:
        return values[:, None]
    return (
        np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        if (layout or layout_of(values.shape[1:], where)) == "hwc"
        else values
    )


def unflattened(values: np.ndarray, where: str, layout: str | None = None) -> np.ndarray:
    """(N, d) uint8 as (N, H, W) where d is a square, as (N, C, H, W) or (N, H, W, C) where it is three times
    one and ``layout`` says which. Rows of fewer than 64 numbers are points and stay as they are. Raises
    ``ValueError`` for other rows."""
    n, d = values.shape
    side, colours = isqrt(d), isqrt(d // 3)
    if values.dtype != np.uint8 or d < SMALLEST * SMALLEST:
        return values
    if side * side == d:
        return values.reshape(n, side, side)
    if d % 3 == 0 and colours * colours * 3 == d:
        if layout is None:
            raise ValueError(
                f"{where}: got flat pictures of {d} numbers, which are 3×{colours}×{colours} in one of "
                "two orders; set data.layout=chw (all of red first, as CIFAR has them) or hwc"
            )
        return values.reshape((n, 3, colours, colours) if layout == "chw" else (n, colours, colours, 3))
    raise ValueError(
        f"{where}: got uint8 rows of {d} numbers, expected pictures (N, H, W[, C]), or flat ones of H×H "
        "or 3×H×H; reshape them, or save points as floats"
    )
