"""How good curves are that were made of no cell in particular: whether they look like real ones, and whether
something learns from them."""

from collections.abc import Mapping

import numpy as np

from studio.metrics.distances import Moments, frechet, refuse_small
from studio.metrics.manifold import precision_recall
from studio.recipes.battery.cells import end_of_life
from studio.recipes.battery.simple import ridge

THINNED = 8  # of a curve every eighth point: 32 numbers, so that few curves span their covariance
Cells = tuple[np.ndarray, np.ndarray]  # features (N, k) and lives (N,) in cycles
SEEN = slice(6, 31, 6)  # points from which a life is foretold: cycles 60, 120 ... 300


def likeness(made: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """Of curves (N, 256) and (M, 256) in percent: ``precision``, the share of made ones in a ball about a
    real one, with the distance to its third neighbour as radius, ``recall``, the same the other way, and
    ``frechet``, the squared Fréchet distance of every eighth point. Raises ``ValueError`` for fewer than 32.
    """
    precision, recall = precision_recall(*(v.astype(np.float64) for v in (made, real)))
    return {"precision": precision, "recall": recall, "frechet": distance(made, real)}


def distance(made: np.ndarray, real: np.ndarray) -> float:
    """The squared Fréchet distance of (N, 256) and (M, 256), in percent²."""
    thin = [v[:, ::THINNED].astype(np.float64) for v in (made, real)]
    for curves in thin:
        refuse_small(*curves.shape)
    return frechet(*(Moments.of(curves) for curves in thin))


def gain(real: Cells, made: Cells, test: Cells) -> dict[str, float]:
    """Errors in cycles on ``test`` cells of a ridge that learns from ``real`` ones, from ``made`` ones, and
    from ``both``; each is features (N, k) with lives (N,). ``gain``: the share of the error of the real ones
    that goes away as made ones join them; below 0 they do harm."""
    both = tuple(np.concatenate(parts) for parts in zip(real, made))
    found = {
        name: float(np.sqrt(np.square(ridge(x, lives, test[0]) - test[1]).mean()))
        for name, (x, lives) in {"real": real, "made": made, "both": both}.items()
    }
    return found | {"gain": 1 - found["both"] / found["real"]}


def taught(made: np.ndarray, real: np.ndarray) -> Mapping[str, float]:
    """`gain` of curves alone: lives foretold from the first 300 cycles, of the second half of the real ones
    by the first half. ``taught``: the error in cycles of what learns from made curves alone."""
    half = len(real) // 2
    first, rest, drawn = (
        (v[:, SEEN].astype(np.float64), end_of_life(v)) for v in (real[:half], real[half:], made)
    )
    found = gain(first, drawn, rest)
    return {"taught": found["made"], "taught_gain": found["gain"]}
