"""How much of one set lies in the balls around the points of the other, with the distance to the k-th
neighbour as radius.

Precision: share of samples inside a ball around some reference; recall: share of references inside a ball
around some sample (Kynkäänniemi et al. 1904.06991, k = 3, d <= r). Density: mean number of reference balls
around a sample, over k; coverage: share of reference balls that hold a sample (Naeem et al. 2002.09797, k =
5, d < r). All four come from one pass over the distances, in blocks, with the decisions of the full float64
matrix.
"""

from collections.abc import Sequence
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
    samples: Array,
    reference: Array,
    *,
    k: int = 3,
    density_k: int = 5,
    block: int | None = None,
    dtype: torch.dtype | None = None,
) -> Manifold:
    """All four of (N, d) samples against (M, d) references; ``block`` rows of distances are held at a time,
    ``dtype`` is that of the fast product.

    Raises ``ValueError`` for NaN, widths that differ, fewer than k + 1 samples or max(k, density_k) + 1
    references.
    """
    if min(k, density_k) < 1:
        raise ValueError(f"got k={k} and density_k={density_k}, expected at least 1")
    y, x = prepare(reference, samples, dtype=dtype)
    enough(y, max(k, density_k), "reference samples")
    enough(x, k, "samples")
    around, own = nearest(y, y, max(k, density_k), block=block)[0], nearest(x, x, k, block=block)[0]
    radii = (
        (around[:, k - 1], False, False),
        (own[:, k - 1], True, False),
        (around[:, density_k - 1], False, True),
    )
    precise, recalled, dense = tally(
        x, y, [Balls(squared, rows=rows, strict=strict) for squared, rows, strict in radii], block
    )
    return Manifold(
        precise.samples, recalled.references, dense.pairs / (density_k * len(x)), dense.references
    )


def precision_recall(samples: Array, reference: Array, *, k: int = 3) -> tuple[float, float]:
    """Precision and recall alone; see `manifold`."""
    both = manifold(samples, reference, k=k, density_k=k)
    return both.precision, both.recall


def density_coverage(samples: Array, reference: Array, *, k: int = 5) -> tuple[float, float]:
    """Density and coverage alone, for any number of samples; see `manifold`."""
    y, x = prepare(reference, samples)
    enough(y, k, "reference samples")
    (dense,) = tally(x, y, [Balls(nearest(y, y, k)[0][:, -1], rows=False, strict=True)])
    return dense.pairs / (k * len(x)), dense.references


@dataclass(frozen=True)
class Tally:
    """Of one kind of balls: the number of pairs inside, and the shares of samples and of references that are
    in any of them."""

    pairs: int
    samples: float
    references: float


def tally(x: Pointset, y: Pointset, balls: Sequence[Balls], block: int | None = None) -> list[Tally]:
    """One pass over samples x and references y."""
    hit = [(torch.zeros(len(x), dtype=torch.bool), torch.zeros(len(y), dtype=torch.bool)) for _ in balls]
    pairs = [0] * len(balls)
    for found in inside(x, y, balls, block=block):
        for n, (i, j) in enumerate(found):
            hit[n][0][i] = True
            hit[n][1][j] = True
            pairs[n] += len(i)
    return [Tally(p, float(a.double().mean()), float(b.double().mean())) for p, (a, b) in zip(pairs, hit)]


def enough(points: Pointset, k: int, what: str) -> None:
    """Raises ``ValueError`` for fewer than k + 1 points or a k below 1."""
    if k < 1 or len(points) < k + 1:
        raise ValueError(
            f"got {len(points)} {what}, expected at least {max(k, 1) + 1} for k={k}; use more or a "
            "smaller k, from 1"
        )
