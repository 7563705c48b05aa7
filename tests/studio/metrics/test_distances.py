"""Fréchet and kernel distances and the inception score against closed forms, scipy and numpy; the same
numbers however rows arrive."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from studio.metrics.distances import (
    Moments,
    class_frechet,
    frechet,
    inception_score,
    kernel_distance,
    refuse_small,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spd(dim: int, seed: int) -> Tensor:
    a = normal(dim, 2 * dim, seed=seed)
    return a @ a.T / (2 * dim)


def gaussian(mean: Tensor, covariance: Tensor) -> Moments:
    return Moments.given(1000, mean, covariance)


@pytest.mark.parametrize("batch", [1, 7, 500, 5000])
def test_streamed_moments_are_numpys(batch: int) -> None:
    x = normal(5000 if batch > 1 else 300, 5) * torch.tensor([1e-3, 1, 2, 3, 100.0]) + torch.tensor(
        [0, 1e3, -5, 0, 1e4]
    )
    whole = Moments()
    for part in x.split(batch):
        assert whole.update(part) is whole
    assert whole.count == len(x) and torch.allclose(whole.mean, x.mean(0), rtol=1e-13)
    assert np.allclose(whole.covariance.numpy(), np.cov(x.numpy(), rowvar=False), rtol=1e-9, atol=1e-12)


def test_parts_of_several_processes_merge() -> None:
    x = normal(999, 4) + 100
    parts = [Moments.of(p) for p in x.tensor_split(5)]
    merged = Moments()
    for p in [*parts, Moments()]:
        merged.merge(p)
    assert merged.count == 999 and torch.allclose(merged.covariance, Moments.of(x).covariance, rtol=1e-12)
    assert torch.equal(parts[0].mean, Moments.of(x[:200]).mean)  # merging leaves the parts alone


def test_distance_to_itself_is_zero() -> None:
    for n in (5000, 30):  # full rank, and fewer samples than dimensions
        x = Moments.of(normal(n, 64) * torch.logspace(-6, 1, 64))
        assert frechet(x, x) <= 1e-6
        assert frechet(x, x) <= 1e-11 * float(x.covariance.trace())


def test_diagonal_gaussians_in_closed_form() -> None:
    m1, m2, s1, s2 = normal(8, seed=1), normal(8, seed=2), normal(8, seed=3).abs(), normal(8, seed=4).abs()
    expected = float(((m1 - m2) ** 2 + (s1 - s2) ** 2).sum())
    assert frechet(gaussian(m1, s1.square().diag()), gaussian(m2, s2.square().diag())) == pytest.approx(
        expected, rel=1e-12
    )


def test_rotated_gaussians_that_commute() -> None:
    turn = torch.linalg.qr(normal(6, 6)).Q
    s1, s2 = (
        torch.arange(1.0, 7.0, dtype=torch.float64),
        torch.tensor([2.0, 2, 0, 1, 5, 3], dtype=torch.float64),
    )
    zero = torch.zeros(6, dtype=torch.float64)
    a, b = (gaussian(zero, turn @ s.square().diag() @ turn.T) for s in (s1, s2))
    assert frechet(a, b) == pytest.approx(float((s1 - s2).square().sum()), rel=1e-7)


@pytest.mark.parametrize("dim", [3, 40, 150])
def test_against_the_matrix_root_of_scipy(dim: int) -> None:
    a, b = spd(dim, 1), spd(dim, 2)
    m1, m2 = normal(dim, seed=3), normal(dim, seed=4)
    root = scipy.linalg.sqrtm(a.numpy() @ b.numpy())
    expected = float((m1 - m2).square().sum() + a.trace() + b.trace()) - 2 * float(np.trace(root).real)
    assert frechet(gaussian(m1, a), gaussian(m2, b)) == pytest.approx(expected, rel=1e-9)
    assert frechet(gaussian(m1, a), gaussian(m2, b)) == pytest.approx(
        frechet(gaussian(m2, b), gaussian(m1, a)), rel=1e-10
    )


def test_distance_of_samples_approaches_that_of_their_gaussians() -> None:
    scale = torch.tensor([1.0, 2, 3, 4], dtype=torch.float64)
    a, b = Moments.of(normal(200_000, 4)), Moments.of(normal(200_000, 4, seed=1) * scale + 1)
    assert frechet(a, b) == pytest.approx(4 + float((scale - 1).square().sum()), rel=0.01)


def test_distance_by_class_is_the_mean_of_classes() -> None:
    x, y = normal(400, 3), normal(300, 3, seed=1) + 1
    p, q = torch.arange(400) % 4, torch.arange(300) % 4
    mean, each = class_frechet(x, p, y, q)
    assert set(each) == {0, 1, 2, 3} and mean == pytest.approx(sum(each.values()) / 4)
    assert each[2] == frechet(Moments.of(x[p == 2]), Moments.of(y[q == 2]))
    with pytest.raises(ValueError, match=r"fewer than 2 samples of class 9 .* skip_small"):
        class_frechet(torch.cat([x, x[:1]]), [*p.tolist(), 9], y, q)
    assert class_frechet(torch.cat([x, x[:1]]), [*p.tolist(), 9], y, q, skip_small=True)[0] == mean
    with pytest.raises(ValueError, match="got labels"):
        class_frechet(x, p[:-1], y, q)


def test_kernel_distance_is_unbiased() -> None:
    """Halves of one set: zero within its error; the biased estimate would be off by about (E k(x, x) − E k(x,
    y)) · 2 / m."""
    x = normal(4000, 8)
    mean, std = kernel_distance(x[:2000], x[2000:], subsets=200, subset_size=100)
    bias = float(((x.square().sum(1) / 8 + 1) ** 3).mean() - 1) * 2 / 100
    assert abs(mean) < 4 * std / math.sqrt(200) + 0.02 * bias < 0.2 * bias


def test_kernel_distance_of_all_samples_at_once() -> None:
    """One subset of everything needs no draw: the formula, pair by pair."""
    x, y = normal(12, 3), normal(12, 3, seed=1) + 0.5

    def k(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / 3 + 1) ** 3

    within = sum(k(a[i], a[j]) for a in (x, y) for i in range(12) for j in range(12) if i != j) / (12 * 11)
    across = sum(k(a, b) for a in x for b in y) / 144
    mean, std = kernel_distance(x, y, subsets=1, subset_size=12)
    assert mean == pytest.approx(within - 2 * across, rel=1e-12) and std == 0


def test_kernel_distance_follows_its_seed() -> None:
    x, y = normal(300, 4), normal(300, 4, seed=1)
    a, b, c = (kernel_distance(x, y, subsets=5, subset_size=50, seed=s) for s in (0, 0, 1))
    assert a == b != c


def test_inception_score_of_uniform_and_of_certain_logits() -> None:
    assert inception_score(torch.zeros(100, 7)) == pytest.approx((1, 0), abs=1e-12)
    certain = 100 * torch.eye(10).repeat(100, 1)
    assert inception_score(certain, splits=1) == pytest.approx((10, 0), abs=1e-9)
    assert inception_score(certain, shuffle=False) == pytest.approx((10, 0), abs=1e-9)
    sorted_ = certain[torch.arange(1000).reshape(-1, 10).T.flatten()]
    assert inception_score(sorted_, shuffle=False)[0] == pytest.approx(1)  # every part holds one class only
    assert 9 < inception_score(sorted_)[0] < 10


def test_refusals() -> None:
    x = torch.zeros(4, 3)
    bad = x.clone()
    bad[2, 1] = torch.nan
    for call in (
        lambda: Moments.of(bad),
        lambda: kernel_distance(bad, x, subset_size=2),
        lambda: inception_score(bad, splits=2),
    ):
        with pytest.raises(ValueError, match="NaN or infinity in 1 of 4 rows"):
            call()
    with pytest.raises(ValueError, match="3 and 2 dimensions"):
        frechet(Moments.of(normal(5, 3)), Moments.of(normal(5, 2)))
    with pytest.raises(ValueError, match="3 and 2 dimensions"):
        Moments.of(normal(5, 3)).update(normal(5, 2))
    with pytest.raises(ValueError, match="2 and 3 dimensions"):
        kernel_distance(normal(5, 2), normal(5, 3), subset_size=2)
    with pytest.raises(ValueError, match=r"shape \(2, 3, 4\)"):
        Moments.of(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="at least one row"):
        Moments.of(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="got 1 samples, expected at least 2"):
        frechet(Moments.of(normal(1, 3)), Moments.of(normal(5, 3)))
    with pytest.raises(ValueError, match="subset_size=1000; make more"):
        kernel_distance(normal(5, 3), normal(5, 3))
    with pytest.raises(ValueError, match="splits=10 for 4 samples"):
        inception_score(x)
    with pytest.raises(ValueError, match="expected at least 2048"):
        refuse_small(2047, 2048)
    refuse_small(2048, 2048)
    refuse_small(10, 2048, allow_small=True)


def test_published_statistics_are_checked() -> None:
    mean, cov = torch.zeros(3), torch.eye(3)
    assert torch.equal(Moments.given(10, mean, cov).covariance, cov.double())
    for count, m, c, text in (
        (10, mean, torch.eye(2), "expected"),
        (1, mean, cov, "at least 2"),
        (10, mean, cov * torch.nan, "finite"),
        (10, mean, torch.triu(torch.ones(3, 3)), "symmetric"),
    ):
        with pytest.raises(ValueError, match=text):
            Moments.given(count, m, c)
