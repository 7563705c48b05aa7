"""Pictures with a damaged copy as the source of a bridge: to be restored."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from studio.data.arrays import Arrays, Data, content_hash
from studio.data.sources import fashion_mnist

KINDS = ("down", "hole")


def down(pictures: Tensor, factor: int = 4) -> Tensor:
    """(N, C, H, W) uint8 averaged over squares of ``factor`` pixels and enlarged again by bicubic
    interpolation."""
    small = F.avg_pool2d(pictures.float(), factor)
    return (
        F.interpolate(small, size=pictures.shape[-2:], mode="bicubic", align_corners=False)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
    )


def hole_of(height: int, width: int) -> Tensor:
    """(H, W) bool: the middle half of both sides, a quarter of the picture."""
    inside = torch.zeros(height, width, dtype=torch.bool)
    inside[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    return inside


def hole(pictures: Tensor) -> Tensor:
    """(N, C, H, W) uint8 with the hole filled by the mean of what is left of each picture."""
    inside = hole_of(*pictures.shape[-2:])
    values = pictures.float()
    mean = values[..., ~inside].mean(-1)[..., None, None]  # (N, C, 1, 1)
    return torch.where(inside, mean, values).round().to(torch.uint8)


def degrade(pictures: Tensor, kind: str) -> Tensor:
    """One of `KINDS` on (N, C, H, W) uint8."""
    if kind not in KINDS:
        raise ValueError(f"got degradation {kind!r}, expected one of {', '.join(KINDS)}")
    return (down if kind == "down" else hole)(pictures)


def examples() -> dict[str, Tensor]:
    """What lies with the bundled bridge to try it on: the first test picture of each class, (1, 28, 28) uint8
    by file name, the kinds in turn."""
    test = fashion_mnist().held_out
    names, labels = fashion_mnist().classes, np.asarray(test.labels)
    found = {}
    for k, name in enumerate(names):
        kind, first = KINDS[k % len(KINDS)], int(np.flatnonzero(labels == k)[0])
        slug = name.lower().replace("/", "-").replace(" ", "-")
        found[f"{slug}-{kind}.png"] = degrade(torch.from_numpy(test.values[first : first + 1].copy()), kind)[
            0
        ]
    return found


def fashion_restore(*, kinds: tuple[str, ...] = KINDS) -> Data:
    """Fashion-MNIST without classes; every picture stands once for each of ``kinds``: ``down`` (4×
    down-sampled) and ``hole`` (the middle is gone)."""
    data = fashion_mnist()

    def part(values: np.ndarray) -> tuple[Arrays, Arrays]:
        pictures = torch.from_numpy(np.ascontiguousarray(values))
        damaged = torch.stack([degrade(pictures, k) for k in kinds], 1).flatten(0, 1).numpy()
        return Arrays(np.repeat(values, len(kinds), axis=0)), Arrays(damaged)

    (train, source), (test, test_source) = part(data.train.values), part(data.held_out.values)
    return replace(
        data,
        name="fashion-restore",
        train=train,
        held_out=test,
        classes=(),
        source=source,
        held_out_source=test_source,
        source_name="degraded pictures",
        paired=True,
        hash=content_hash(train.values, source.values),
    )
