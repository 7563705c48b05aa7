"""How much of one set lies in the balls around the points of the other, with the distance to the k-th neighbour as radius.

Precision: share of samples inside a ball around some reference; recall: share of references inside a ball around some sample (Kynkäänniemi et al.
1904.06991, k = 3, d <= r). Density: mean number of reference balls around a sample, over k; coverage: share of reference balls that hold a sample (Naeem
et al. 2002.09797, k = 5, d < r). All four come from one pass over the distances, in blocks, with the decisions of the full float64 matrix.
"""

from dataclasses import dataclass

import torch

from studio.metrics.distances import Array
from studio.metrics.nearest import Balls, Pointset, inside, nearest, prepare


@dataclass(frozen=True)
class Manifold:
    """Shares in 0…1; ``density`` is 1 for equal distributions and may be larger."""

    precision: float
    recall: float
    density: float
    coverage: float


def manifold(
    samples: Array, reference: Array, *, k: int = 3, density_k: int = 5, block: int | None = None, dtype: torch.dtype | None = None
) -> Manifold:
    """All four of (N, d) samples against (M, d) references; ``block`` rows of distances are held at a time, ``dtype`` is that of the first, fast product.

    Raises ``ValueError`` for NaN, widths that differ, fewer than k + 1 samples or max(k, density_k) + 1 references.
    """
    if min(k, density_k) < 1:
        raise ValueError(f"got k={k} and density_k={density_k}, expected at least 1")
    y, x = prepare(reference, samples, dtype=dtype)
    enough(y, max(k, density_k), "reference samples")
    enough(x, k, "samples")
    around = nearest(y, y, max(k, density_k), block=block)[0]
    balls = [
        Balls(around[:, k - 1], rows=False, strict=False),
        Balls(nearest(x, x, k, block=block)[0][:, k - 1], rows=True, strict=False),
        Balls(around[:, density_k - 1], rows=False, strict=True),
    ]
    precise, recalled, covered = torch.zeros(len(x), dtype=torch.bool), torch.zeros(len(y), dtype=torch.bool), torch.zeros(len(y), dtype=torch.bool)
    pairs = 0
    for near_reference, near_sample, dense in inside(x, y, balls, block=block):
        precise[near_reference[0]] = True
        recalled[near_sample[1]] = True
        covered[dense[1]] = True
        pairs += len(dense[0])
    return Manifold(*(float(v.double().mean()) for v in (precise, recalled)), pairs / (density_k * len(x)), float(covered.double().mean()))


def enough(points: Pointset, k: int, what: str) -> None:
    """Raises ``ValueError`` for fewer than k + 1 points."""
    if len(points) < k + 1:
        raise ValueError(f"got {len(points)} {what}, expected at least {k + 1} for k={k}; use more or a smaller k")


def precision_recall(samples: Array, reference: Array, *, k: int = 3) -> tuple[float, float]:
    """Precision and recall alone; see `manifold`."""
    both = manifold(samples, reference, k=k, density_k=k)
    return both.precision, both.recall


def density_coverage(samples: Array, reference: Array, *, k: int = 5) -> tuple[float, float]:
    """Density and coverage alone; see `manifold`."""
    both = manifold(samples, reference, k=min(k, len(samples) - 1), density_k=k)
    return both.density, both.coverage
