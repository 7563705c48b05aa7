"""What the error between asked and obtained properties is worth: without a model, training molecules drawn at
random, and the best one looked up.

A generator should be far below the first; the second is hard to beat in error, but its molecules are not new.
"""

from collections.abc import Sequence

import numpy as np

BLOCK = 256


def random_molecules(asked: np.ndarray, training: np.ndarray) -> np.ndarray:
    """(K,) expected |p − t| of a training molecule that is drawn without regard to the (N, K) targets; (M, K)
    are the training set's values. NaN are left out, one by one."""
    out = np.full(asked.shape[1], np.nan)
    for k, (t, p) in enumerate(zip(asked.T, training.T)):
        t, p = t[~np.isnan(t)], np.sort(p[~np.isnan(p)])
        if len(t) and len(p):
            below = np.searchsorted(p, t)  # mean |p − t| over p from sums of the smaller and the larger ones
            sums = np.concatenate([[0.0], np.cumsum(p)])
            out[k] = float(
                np.mean(t * below - sums[below] + sums[-1] - sums[below] - t * (len(p) - below)) / len(p)
            )
    return out


def looked_up(
    asked: np.ndarray, training: np.ndarray, scale: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(K,) mean |p − t| of the training molecule nearest to each of (N, K) targets, and (N,) which one it is.
    Nearest in the asked properties, each divided by its ``scale`` (standard deviation). Raises ``ValueError``
    where no training molecule has all properties."""
    whole = np.flatnonzero(~np.isnan(training).any(1))
    if not len(whole):
        raise ValueError("got no training molecule with all properties, expected at least one")
    t, p = asked / np.asarray(scale), training[whole] / np.asarray(scale)
    near = []
    for start in range(0, len(t), BLOCK):
        gap = np.zeros((len(t[start : start + BLOCK]), len(p)))
        for k in range(t.shape[1]):
            one = t[start : start + BLOCK, k]
            gap += np.where(np.isnan(one)[:, None], 0.0, one[:, None] - p[None, :, k]) ** 2
        near.append(gap.argmin(1))
    chosen = whole[np.concatenate(near)]
    error = np.abs(training[chosen] - asked)
    counted = ~np.isnan(error)
    return np.where(counted, error, 0).sum(0) / np.maximum(counted.sum(0), 1), chosen
