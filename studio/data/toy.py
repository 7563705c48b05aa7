"""Points in the plane: the toy distributions of the flow-matching literature, drawn from a seed."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.noise import NoiseSource
from studio.data.arrays import Arrays, Data, content_hash, from_arrays, split

KINDS = ("eight_gaussians", "moons", "spiral", "checkerboard", "mixture")
# a Gaussian mixture with an exact score
MIXTURE: dict[str, Any] = {"weights": (0.4, 0.6), "means": ((-1.5, 0.5), (1.0, -1.0)), "stds": (0.35, 0.6)}


def draw(kind: str, noise: NoiseSource) -> tuple[Tensor, Tensor]:
    """(N, 2) float32 points and (N,) int64 component labels, one per stream of ``noise``."""
    u, z = noise.uniform((2,), stream="place"), noise.normal((2,), stream="jitter")
    pick = noise.uniform(stream="component")
    if kind == "eight_gaussians":  # radius 5, standard deviation 0.1^(1/4), as in Tong et al. 2302.00482
        label = (pick * 8).long().clamp(0, 7)
        angle = label * (math.pi / 4)
        return 5 * torch.stack([angle.cos(), angle.sin()], 1) + 0.1**0.25 * z, label
    if kind == "moons":  # two half circles, jitter 0.2, then ·3 − 1
        label = (pick < 0.5).long()
        angle = math.pi * u[:, 0]
        upper = torch.stack([angle.cos(), angle.sin()], 1)
        lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], 1)
        return (torch.where(label[:, None] == 0, upper, lower) + 0.2 * z) * 3 - 1, label
    if kind == "spiral":
        angle = 3 * math.pi * u[:, 0].sqrt()
        return torch.stack([angle.cos(), angle.sin()], 1) * angle[:, None] / 2 + 0.1 * z, torch.zeros(
            len(noise), dtype=torch.int64
        )
    if kind == "checkerboard":
        label = (pick * 8).long().clamp(0, 7)
        row, column = label // 2, label % 2
        corner = torch.stack([2 * column + row % 2, row], 1).float() - 2
        return (corner + u) * 2, label
    if kind == "mixture":
        label = (pick > MIXTURE["weights"][0]).long()
        return torch.tensor(MIXTURE["means"])[label] + torch.tensor(MIXTURE["stds"])[label][
            :, None
        ] * z, label
    raise ValueError(f"got points kind {kind!r}, expected one of {', '.join(KINDS)}")


def points(
    *,
    kind: str = "eight_gaussians",
    count: int = 20000,
    seed: int = 0,
    labels: bool = False,
    held_out: float = 0.1,
    source: str | None = None,
) -> Data:
    """``count`` points of a kind: eight_gaussians, moons, spiral, checkerboard or mixture; ``labels`` keeps
    their component as the class. ``source``: a kind that a bridge starts from, unpaired; normal noise without
    one."""
    values, y = draw(kind, NoiseSource([seed] * count, index=range(count)))
    names = [str(i) for i in range(int(y.max()) + 1)] if labels else []
    codec = {"name": "scale", "std": float(np.round(values.std().item(), 4))}
    data = from_arrays(
        f"points-{kind}",
        values.numpy(),
        y.numpy() if labels else None,
        names,
        held_out=held_out,
        task="points",
        codec=codec,
    )
    if source is None:
        return data
    start = draw(source, NoiseSource([seed ^ 0x50CE] * count, index=range(count)))[0].numpy()
    kept = split(count, held_out)
    return replace(
        data,
        source=Arrays(start[kept[0]]),
        held_out_source=Arrays(start[kept[1]]) if len(kept[1]) else None,
        source_name=source,
        hash=content_hash(values.numpy(), start),
    )
