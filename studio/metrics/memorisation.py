"""Are the samples copies of the training set? Distances to the nearest training sample, held against those of
held-out data.

A generator that has learned the distribution lies as far from its training data as new data does, so the
honest floor is the held-out set: the share of samples that are nearer than the q-quantile of the held-out
distances should be q, and nearer than their median one half. Authenticity (Alaa et al. 2102.08921): a sample
is a copy when it is nearer to its training sample than that one is to any other training sample. Distances
are Euclidean, between features or flattened pictures, exact, in blocks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from studio.metrics.distances import Array
from studio.metrics.nearest import nearest, prepare


@dataclass(frozen=True)
class Suspect:
    """A sample and the training sample it may be a copy of; ``ratio`` is their distance over that training
    sample's distance to its own nearest."""

    sample: int
    train: int
    distance: float
    ratio: float


@dataclass(frozen=True)
class Memorisation:
    """Shares in 0…1 of the samples, and the same of the held-out set beside them, which is what no copying at
    all looks like.

    ``near``: nearer to the training set than the q-quantile ``near_distance`` of held-out distances;
    ``below_median``: than their median ``median_distance``; ``authentic``: farther from their training sample
    than that one is from its own nearest. ``suspects`` by ratio.
    """

    near: float
    near_held_out: float
    below_median: float
    below_median_held_out: float
    authentic: float
    authentic_held_out: float
    near_distance: float
    median_distance: float
    q: float
    suspects: tuple[Suspect, ...]


def memorisation(
    samples: Array, train: Array, held_out: Array, *, q: float = 0.01, pairs: int = 16
) -> Memorisation:
    """Of (N, d) samples, (T, d) training and (H, d) held-out features; the ``pairs`` most suspicious pairs
    are named.

    Raises ``ValueError`` for NaN, widths that differ, fewer than two training samples, or a held-out set too
    small to have a q-quantile (H < 1 / q).
    """
    if not 0 < q < 0.5:
        raise ValueError(f"got q={q}, expected a quantile above 0 and below 0.5")
    if len(held_out) < 1 / q:
        raise ValueError(
            f"got {len(held_out)} held-out samples, expected at least {round(1 / q)} for the "
            f"{q:g}-quantile; use more or a larger q"
        )
    if len(train) < 2:
        raise ValueError(
            f"got {len(train)} training samples, expected at least 2; pass the features of the whole "
            "training set"
        )
    t, x, h = prepare(train, samples, held_out)
    own = nearest(t, t, 1)[0][:, 0].sqrt()  # of each training sample to its nearest other
    (distance, place), (floor, floor_place) = (
        (d[:, 0].sqrt(), i[:, 0]) for d, i in (nearest(x, t, 1), nearest(h, t, 1))
    )
    near, median = (float(v) for v in torch.quantile(floor, torch.tensor([q, 0.5], dtype=floor.dtype)))
    ratio = torch.where(distance == 0, 0.0, distance / own[place])
    worst = ratio.argsort(stable=True)[:pairs].tolist()
    return Memorisation(
        share(distance < near),
        share(floor < near),
        share(distance < median),
        share(floor < median),
        share(distance > own[place]),
        share(floor > own[floor_place]),
        near,
        median,
        q,
        tuple(Suspect(i, int(place[i]), float(distance[i]), float(ratio[i])) for i in worst),
    )


def share(hits: Tensor) -> float:
    """Mean of a mask."""
    return float(hits.double().mean())
