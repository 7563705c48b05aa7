"""Copies are found and named; new draws of the same distribution look like the held-out set."""

import pytest
import torch
from torch import Tensor

from studio.metrics.memorisation import memorisation


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TRAIN, HELD_OUT, FRESH = normal(1500, 12, seed=0), normal(1000, 12, seed=1), normal(1000, 12, seed=2)


def test_fresh_samples_look_like_held_out_data() -> None:
    m = memorisation(FRESH, TRAIN, HELD_OUT)
    assert m.near_held_out == pytest.approx(0.01, abs=0.001) and m.near < 0.03
    assert m.below_median_held_out == 0.5 and m.below_median == pytest.approx(0.5, abs=0.06)
    assert m.authentic == pytest.approx(m.authentic_held_out, abs=0.06)


def test_copies_are_found_and_named() -> None:
    samples = FRESH.clone()
    samples[100:130] = TRAIN[700:730] + 1e-3 * normal(30, 12, seed=3)
    samples[5] = TRAIN[77]
    m, clean = memorisation(samples, TRAIN, HELD_OUT, pairs=31), memorisation(FRESH, TRAIN, HELD_OUT)
    assert m.near == pytest.approx(clean.near + 0.031, abs=0.002)
    assert m.authentic < clean.authentic - 0.01
    assert (m.suspects[0].sample, m.suspects[0].train, m.suspects[0].distance, m.suspects[0].ratio) == (
        5,
        77,
        0.0,
        0.0,
    )
    assert {(s.sample, s.train) for s in m.suspects} == {(5, 77)} | {(100 + i, 700 + i) for i in range(30)}
    assert all(s.ratio < 0.05 for s in m.suspects)


def test_a_generator_that_only_copies() -> None:
    m = memorisation(TRAIN[:500], TRAIN, HELD_OUT)
    assert (m.near, m.below_median, m.authentic) == (1.0, 1.0, 0.0)


def test_distances_are_those_of_the_definition() -> None:
    to_train = (
        torch.cdist(HELD_OUT.double(), TRAIN.double(), compute_mode="donot_use_mm_for_euclid_dist")
        .min(1)
        .values
    )
    m = memorisation(FRESH, TRAIN, HELD_OUT, q=0.05)
    assert m.near_distance == pytest.approx(
        float(to_train.quantile(0.05)), rel=1e-12
    ) and m.median_distance == pytest.approx(float(to_train.quantile(0.5)))
    s = m.suspects[0]
    own = (TRAIN[s.train].double() - TRAIN.double()).norm(dim=1).sort().values[1]
    assert s.distance == pytest.approx(
        float((FRESH[s.sample] - TRAIN[s.train]).norm()), rel=1e-6
    ) and s.ratio == pytest.approx(s.distance / float(own), rel=1e-6)


def test_training_data_with_copies_of_its_own() -> None:
    twice = torch.cat([TRAIN[:200], TRAIN[:200]])
    m = memorisation(torch.cat([TRAIN[:10], FRESH[:90]]), twice, HELD_OUT)
    assert [s.ratio for s in m.suspects[:10]] == [0.0] * 10 and m.suspects[10].ratio == float("inf")
    assert m.authentic == 0.9


def test_refusals() -> None:
    with pytest.raises(ValueError, match="got 99 held-out samples, expected at least 100"):
        memorisation(FRESH, TRAIN, HELD_OUT[:99])
    with pytest.raises(ValueError, match="q=0"):
        memorisation(FRESH, TRAIN, HELD_OUT, q=0)
    with pytest.raises(ValueError, match="12 and 3 dimensions"):
        memorisation(FRESH[:, :3], TRAIN, HELD_OUT)
    with pytest.raises(ValueError, match="got 1 training samples"):
        memorisation(FRESH, TRAIN[:1], HELD_OUT)
