"""How well sets of angles match: their first moments, Kuiper's statistic and divergences of histograms, none
of which depends on where the circle is cut."""

import math

import numpy as np

TAU = 2 * math.pi


def moments(x: np.ndarray) -> np.ndarray:
    """(d,) complex means of exp(i·angle) of (N, d): mean direction and resultant length of each angle."""
    return np.exp(1j * x.astype(np.float64)).mean(0)


def kuiper(x: np.ndarray, y: np.ndarray) -> float:
    """Kuiper's V of (N,) and (M,) angles: the greatest excess of either distribution function over the other,
    added up; unlike that of Kolmogorov and Smirnov the same wherever counting begins."""
    a, b = np.sort(x), np.sort(y)
    places = np.concatenate([a, b])
    apart = np.searchsorted(a, places, "right") / len(a) - np.searchsorted(b, places, "right") / len(b)
    return float(max(apart.max(), 0.0) + max(-apart.min(), 0.0))


def jensen_shannon(x: np.ndarray, y: np.ndarray, bins: int) -> float:
    """Divergence in nats, 0 to log 2, of histograms of (N, k) and (M, k) angles with ``bins`` a side."""
    p, q = (_shares(v, bins) for v in (x, y))
    m = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(v > 0, v * np.log(v / m), 0.0).sum() for v in (p, q)]
    return float(sum(terms) / 2)


def _shares(x: np.ndarray, bins: int) -> np.ndarray:
    places = np.floor((x.astype(np.float64) + math.pi) / TAU * bins).astype(np.int64) % bins
    flat = np.ravel_multi_index(tuple(places.T), (bins,) * x.shape[1])
    return np.bincount(flat, minlength=bins ** x.shape[1]) / len(x)
