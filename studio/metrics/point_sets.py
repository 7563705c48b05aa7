"""How well points match: Wasserstein-2, energy distance, and which modes of a mixture they reach.

W2² = min over plans of Σ π_ij |x_i − y_j|², solved exactly (POT's network simplex). Energy distance (Székely
& Rizzo 2013): 2 E|X − Y| − E|X − X'| − E|Y − Y'|, at least 0 and 0 only for equal distributions; here over
the two samples themselves, so equal sets give 0.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from studio.metrics.distances import Array, checked, same_width

LIMIT = 5000  # points a side of the exact problem: 5,000 take seconds and 200 MB
BLOCK = 1024


def wasserstein2(x: Array, y: Array, *, limit: int = LIMIT, seed: int = 0) -> float:
    """W2 of (N, d) and (M, d) points with equal weights; sets larger than ``limit`` are thinned to it at
    random.

    Raises ``ValueError`` for NaN or widths that differ.
    """
    import ot

    a, b = pair(x, y)
    if limit < 1:
        raise ValueError(f"got limit={limit}, expected at least 1")
    draws = np.random.Generator(np.random.Philox(key=seed))
    a, b = (v if len(v) <= limit else v[torch.from_numpy(draws.permutation(len(v))[:limit])] for v in (a, b))
    weights = (np.full(len(v), 1 / len(v)) for v in (a, b))
    return float(np.sqrt(max(0.0, ot.emd2(*weights, ot.dist(a.numpy(), b.numpy()), numItermax=10_000_000))))


def energy_distance(x: Array, y: Array) -> float:
    """Of (N, d) and (M, d) points, in blocks of rows. Raises ``ValueError`` for NaN or widths that differ."""
    a, b = pair(x, y)
    return max(0.0, 2 * mean_distance(a, b) - mean_distance(a, a) - mean_distance(b, b))


def mean_distance(a: Tensor, b: Tensor) -> float:
    """Mean of all distances between rows, taken as differences: products would round small ones away."""
    exact = "donot_use_mm_for_euclid_dist"
    return sum(float(torch.cdist(part, b, compute_mode=exact).sum()) for part in a.split(BLOCK)) / (
        len(a) * len(b)
    )


@dataclass(frozen=True)
class Coverage:
    """``modes``: share of the modes with a sample near them; ``samples``: share of the samples near a mode;
    ``counts`` of samples nearest to each."""

    modes: float
    samples: float
    counts: tuple[int, ...]


def mode_coverage(x: Array, centres: Array, *, radius: float, least: int = 1) -> Coverage:
    """Of (N, d) samples and (K, d) centres: near means within ``radius`` of the nearest centre; a mode is
    reached by ``least`` such samples.

    Raises ``ValueError`` for a radius that is not positive.
    """
    if not radius > 0 or least < 1:
        raise ValueError(
            f"got radius={radius} and least={least}, expected a positive radius, such as 3 standard "
            "deviations, and at least 1"
        )
    a, b = pair(x, centres)
    distance, place = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    counts = place[distance <= radius].bincount(minlength=len(b))
    return Coverage(
        float((counts >= least).double().mean()),
        float((distance <= radius).double().mean()),
        tuple(counts.tolist()),
    )


def pair(x: Array, y: Array) -> tuple[Tensor, Tensor]:
    """Both checked, as float64."""
    a, b = checked(x, "points").double(), checked(y, "points").double()
    same_width(a, b)
    return a, b
