"""What the measures see: neighbours, lengths of helices, clashes, and chains that were learned by heart."""

import numpy as np
import pytest

from studio.recipes.protein import measures
from studio.recipes.protein.backbones import bundled, filled
from studio.recipes.protein.placing import real


@pytest.fixture(scope="module")
def chains() -> np.ndarray:
    return filled(bundled()[0], 128).astype(np.float64)


def independent(angles: np.ndarray) -> np.ndarray:
    """Chains of the same lengths of residues drawn each by itself."""
    rng = np.random.default_rng(0)
    residues = angles[~np.isnan(angles).any(-1)]
    made = residues[rng.integers(len(residues), size=angles.shape[:2])]
    return np.where(np.isnan(angles), np.nan, made)


def variation(name: str, a: np.ndarray, b: np.ndarray) -> float:
    histogram = getattr(measures, name)
    return measures.total_variation(histogram(a), histogram(b))


def test_independent_residues_pass_the_marginal_alone(chains: np.ndarray) -> None:
    """200 real chains against the others, and as many of independent residues."""
    some, others = chains[::17][:200], np.delete(chains, np.s_[::17], 0)
    alone = independent(some)
    found = {n: (variation(n, some, others), variation(n, alone, others)) for n in measures.HISTOGRAMS}
    real_, loose = found["ramachandran"]
    assert loose < 1.3 * real_
    assert found["pairs"][0] < 0.05 and found["pairs"][1] > 0.22
    assert found["helices"][0] < 0.11 and found["helices"][1] > 0.6


def test_total_variation() -> None:
    a, b = np.array([1.0, 1, 2]), np.array([0.0, 0, 5])
    assert measures.total_variation(a, 7 * a) == 0 and measures.total_variation(a, b) == 0.5
    with pytest.raises(ValueError, match="nothing to count"):
        measures.total_variation(a, 0 * a)


def test_helices_are_counted_by_their_lengths() -> None:
    """Of 3, 4 and 40 residues; the first is none yet, the last is longer than is told apart."""
    turn = np.zeros((1, 60, 6))
    for start, length in ((1, 3), (6, 4), (15, 40)):
        turn[0, start : start + length, :2] = np.deg2rad([-60, -45])
    assert measures.helices(turn).nonzero()[0].tolist() == [0, measures.LONGEST - measures.SHORTEST]
    turn[0, 7, 0] = np.nan
    assert measures.helices(turn).sum() == 1


def test_longer_padding_changes_nothing(chains: np.ndarray) -> None:
    some = chains[:40]
    longest = int(real(some).sum(1).max())
    for name in measures.HISTOGRAMS:
        assert variation(name, some, some[:, :longest]) == 0
    assert measures.shape(some) == measures.shape(some[:, :longest])


def test_nearest_is_in_degrees_of_chains_of_the_same_length(chains: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    some = chains[:20]
    moved = some + np.deg2rad(5) * rng.choice([-1, 1], some.shape)
    np.testing.assert_allclose(measures.nearest(moved, chains), 5, atol=1e-9)
    moved[..., 3:] = some[..., 3:]
    assert measures.nearest(moved, chains, of=range(6)).max() < 4
    short = chains[:1, :30].copy()
    assert np.isinf(measures.nearest(short, chains)).all()


def test_a_chain_that_returns_clashes(chains: np.ndarray) -> None:
    """Flat rings of five residues lie on top of each other."""
    ring = np.full((1, 20, 6), np.nan)
    ring[:] = np.deg2rad([180, 0, 180, 111, 117, 122])  # an arc in the plane
    clashing = measures.shape(ring)
    usual = measures.shape(chains[:200])
    assert clashing["clashes"] > 20 > 1 > usual["clashes"] and usual["clash_free"] > 0.9
    assert clashing["clash_free"] == 0 and 0.9 < usual["radius"] < 1.4
