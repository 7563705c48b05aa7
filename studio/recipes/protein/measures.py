"""How real backbones look, by numbers: total variations of histograms, and what their atoms say.

Marginal angles alone are no test: residues drawn independently of each other pass it. `pairs` and `helices`
see neighbours. All take angles (N, n, 6), NaN where there is none, and samples and real ones may have
different n.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from studio.recipes.protein.placing import distances, place, radius, real

BINS = 18  # a side, of 20 degrees
HELIX = np.deg2rad([[-100, -30], [-80, -5]])  # of phi and psi, right-handed
SHORTEST, LONGEST = 4, 30  # residues of a helix; longer ones count as that long
NEAR, APART = 3.6, 3  # Å between the Cα of residues so far apart in the chain, or farther: a clash
SPREAD = 2.2, 0.38  # a folded chain's radius of gyration is about 2.2 Å · n^0.38
TURNS = (0, 1)  # the angles about bonds that turn freely
MOST = 400  # chains whose atoms are placed
Histogram = Callable[[np.ndarray], np.ndarray]


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """Half the sum of differences of two histograms, each scaled to sum 1: 0 to 1. Raises ``ValueError``
    for an empty one."""
    if not p.sum() or not q.sum():
        raise ValueError("there is nothing to count, expected some in both sets")
    return float(np.abs(p / p.sum() - q / q.sum()).sum() / 2)


def counts(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(BINS, BINS) of pairs of angles, those left out of which one is NaN."""
    edge = [-np.pi, np.pi]
    there = ~(np.isnan(x) | np.isnan(y))
    return np.asarray(np.histogram2d(x[there], y[there], BINS, [edge, edge])[0])


def ramachandran(angles: np.ndarray) -> np.ndarray:
    """Of phi and psi of a residue."""
    return counts(angles[..., 0], angles[..., 1])


def pairs(angles: np.ndarray) -> np.ndarray:
    """Of psi of a residue and phi of the next."""
    return counts(angles[:, :-1, 1], angles[:, 1:, 0])


def helical(angles: np.ndarray) -> np.ndarray:
    """(N, n) which residues turn as in a right-handed helix."""
    inside = [(low < angles[..., k]) & (angles[..., k] < high) for k, (low, high) in enumerate(HELIX)]
    return np.asarray(inside[0] & inside[1])


def helices(angles: np.ndarray) -> np.ndarray:
    """How many helices have `SHORTEST` to `LONGEST` residues."""
    edges = np.diff(np.pad(helical(angles).astype(int), ((0, 0), (1, 1))), axis=1)
    lengths = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
    found = np.bincount(lengths[lengths >= SHORTEST].clip(max=LONGEST), minlength=LONGEST + 1)
    return np.asarray(found[SHORTEST:])


def shape(angles: np.ndarray) -> dict[str, float]:
    """Of chains as they are placed: clashing pairs for each hundred residues, the share of chains without
    any, and radii of gyration over what folded chains of their lengths have, in the mean."""
    angles = angles[:MOST]
    atoms, there = place(angles), real(angles)
    clashing = np.array([clashes(chain[rows]) for chain, rows in zip(atoms, there)])
    expected = SPREAD[0] * there.sum(1) ** SPREAD[1]
    return {
        "clashes": float(100 * clashing.sum() / there.sum()),
        "clash_free": float((clashing == 0).mean()),
        "radius": float((radius(atoms) / expected).mean()),
    }


def clashes(atoms: np.ndarray) -> int:
    """Pairs of residues of a chain (n, 3, 3) whose Cα are nearer than `NEAR`."""
    return int((np.triu(distances(atoms), APART)[np.triu_indices(len(atoms), APART)] < NEAR).sum())


def nearest(angles: np.ndarray, known: np.ndarray, *, of: Sequence[int] = TURNS) -> np.ndarray:
    """(N,) root mean squares, in degrees, of the differences between φ and ψ (or the angles ``of``) of each
    chain and those of the nearest of the ``known`` that has its length; infinite where none has."""
    mine, theirs = real(angles).sum(1), real(known).sum(1)
    found = np.full(len(angles), np.inf)
    for i, length in enumerate(mine):
        others = known[theirs == length, :length][..., list(of)]
        if len(others):
            gaps = np.square(np.angle(np.exp(1j * (others - angles[i, :length, list(of)].T))))
            found[i] = np.rad2deg(np.sqrt(np.nanmean(gaps, (1, 2)).min()))
    return found


def _angles(samples: Any) -> np.ndarray:
    return np.asarray(samples.values[:], dtype=np.float64)


def _variation(histogram: Histogram) -> Any:
    return lambda samples, other: total_variation(histogram(_angles(samples)), histogram(_angles(other)))


def _shape(samples: Any, reference: Any) -> Mapping[str, float]:
    return shape(_angles(samples))


HISTOGRAMS = {"ramachandran": ramachandran, "pairs": pairs, "helices": helices}
MEASURES = {**{name: _variation(histogram) for name, histogram in HISTOGRAMS.items()}, "shape": _shape}
