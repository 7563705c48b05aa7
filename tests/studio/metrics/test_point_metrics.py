"""Distances between sets of points in closed form, and which modes are reached."""

import math

import pytest
import torch
from torch import Tensor

from studio.metrics.point_sets import energy_distance, mode_coverage, wasserstein2


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_translated_points_are_as_far_as_the_step() -> None:
    x = normal(200, 2)
    assert wasserstein2(x, x) == pytest.approx(0, abs=1e-6)
    assert wasserstein2(x, x + torch.tensor([3.0, 4.0])) == pytest.approx(5, rel=1e-9)


def test_on_a_line_transport_is_sorting() -> None:
    x, y = normal(300, 1), normal(300, 1, seed=1) ** 3
    expected = (x.sort(0).values - y.sort(0).values).square().mean().sqrt()
    assert wasserstein2(x, y) == pytest.approx(float(expected), rel=1e-9)


def test_unequal_numbers_of_points() -> None:
    """One point against two: half the mass goes to each."""
    assert wasserstein2(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 3.0]])) == pytest.approx(
        math.sqrt((1 + 9) / 2)
    )


def test_large_sets_are_thinned() -> None:
    x, y = normal(400, 2), normal(400, 2, seed=1) + 2
    thin = wasserstein2(x, y, limit=100)
    assert thin == wasserstein2(x, y, limit=100) != wasserstein2(x, y, limit=100, seed=1)
    assert thin == pytest.approx(wasserstein2(x, y), rel=0.15)


def test_energy_distance_in_closed_form() -> None:
    one = energy_distance(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
    assert one == pytest.approx(10)  # 2 E|X − Y|, nothing within single points
    two = energy_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [2.0]]))
    assert two == pytest.approx(2 * (0 + 2 + 1 + 1) / 4 - 1 / 2 - 2 / 2)
    x = normal(2500, 2)
    assert energy_distance(
        x, x[torch.randperm(2500, generator=torch.Generator().manual_seed(0))]
    ) == pytest.approx(0, abs=1e-12)


def test_energy_distance_of_gaussians() -> None:
    """One dimension: E|N(m, s²)| = s √(2/π) exp(−m²/2s²) + m erf(m / s√2) with s² = 2 and m the gap of the
    means."""

    def mean_abs(m: float, s: float) -> float:
        return s * math.sqrt(2 / math.pi) * math.exp(-(m**2) / (2 * s**2)) + m * math.erf(
            m / (s * math.sqrt(2))
        )

    s = math.sqrt(2)
    expected = 2 * mean_abs(1.5, s) - 2 * mean_abs(0, s)
    assert energy_distance(normal(4000, 1), normal(4000, 1, seed=1) + 1.5) == pytest.approx(
        expected, rel=0.05
    )


def test_modes_that_are_reached() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    x = torch.cat(
        [
            normal(50, 2) * 0.1,
            normal(30, 2, seed=1) * 0.1 + torch.tensor([10.0, 0.0]),
            torch.full((20, 2), 5.0),
        ]
    )
    c = mode_coverage(x, centres, radius=1.0)
    assert (c.modes, c.samples, c.counts) == (0.5, 0.8, (50, 30, 0, 0))
    assert mode_coverage(x, centres, radius=1.0, least=31).modes == 0.25
    assert mode_coverage(x, centres, radius=100.0).samples == 1.0


def test_refusals() -> None:
    x = normal(5, 2)
    for metric in (wasserstein2, energy_distance):
        with pytest.raises(ValueError, match="2 and 1 dimensions"):
            metric(x, x[:, :1])
        with pytest.raises(ValueError, match="points with NaN"):
            metric(x, x * torch.nan)
    with pytest.raises(ValueError, match="radius=0"):
        mode_coverage(x, x, radius=0)
    with pytest.raises(ValueError, match="limit=0"):
        wasserstein2(x, x, limit=0)
