"""Simulated cells follow their law, and the exact posterior of their lives is exact."""

import numpy as np
import pytest
from scipy.stats import chisquare, norm

import studio.tasks
from studio.recipes.battery import cells as law
from studio.recipes.battery.measures import crps, foretold, health_error, interval
from studio.recipes.battery.posterior import laplace, posterior, prior


def test_a_curve_falls_to_its_end_of_life() -> None:
    made = studio.tasks.build("battery").simulate(300, seed=1)
    assert made["matrix"].shape == (300, 20, 50) and made["curve"].shape == (300, 256)
    assert (made["curve"][:, 0] == 100).all() and (np.diff(made["curve"]) <= 0).all()
    cells = law.drawn(300, np.random.default_rng(1))
    lives, every = made["end_of_life"], law._column(cells)
    around = law.health(every, lives[:, None] + [-1, 0])
    there = lives < law.LAST
    assert there.mean() > 0.95 and (around[there, 0] > 80).all() and (around[there, 1] <= 80).all()
    assert np.abs(law.end_of_life(made["curve"]) - lives).max() < 3  # a line between points ten cycles apart
    other = studio.tasks.build("battery").simulate(300, seed=2)
    assert not np.array_equal(other["curve"], made["curve"])
    with pytest.raises(ValueError, match="got 0 cells, expected one or more"):
        law.simulate(0)


def test_lives_of_few_points() -> None:
    curve = np.full((4, 256), 90.0)
    curve[0, 7:] = 70.0  # crossed half way between the points 6 and 7
    curve[1, :] = 60.0
    curve[3, 255] = 80.0
    assert law.end_of_life(curve).tolist() == [65.0, 0.0, 2550.0, 2550.0]


def test_parameters_are_lognormal_given_the_stress() -> None:
    cells = law.drawn(20000, np.random.default_rng(0))
    for name, (median, slope, spread) in law.LAW.items():
        logs = np.log(getattr(cells, name) / median)
        found = np.polyfit(cells.stress, logs, 1)
        np.testing.assert_allclose(found, [slope, 0.0], atol=0.01)
        np.testing.assert_allclose((logs - slope * cells.stress).std(), spread, rtol=0.03)
    mean, covariance = prior()
    u = np.stack([np.log(cells.a), np.log(cells.b), cells.stress])
    np.testing.assert_allclose(u.mean(1), mean, atol=0.02)
    np.testing.assert_allclose(np.cov(u), covariance, atol=0.02)


def test_a_matrix_is_its_features_with_noise() -> None:
    matrix = law.simulate(200, seed=5)["matrix"]
    cells = law.drawn(200, np.random.default_rng(5))
    noise = (matrix - law.features(cells.a, cells.b, cells.stress)) / law.NOISE
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 1], atol=0.01)
    np.testing.assert_allclose(np.corrcoef(noise[:, 0, 0], noise[:, 0, 1])[0, 1], 0, atol=0.25)


def test_the_posterior_is_that_of_a_grid() -> None:
    """p(log a, log b, s | matrix) by a sum over a grid, and lives drawn given each of its places."""
    matrix = law.simulate(3, seed=7)["matrix"][2].astype(np.float64)
    centre, covariance = laplace(matrix)
    sides = [c + np.sqrt(v) * np.linspace(-4, 4, 17) for c, v in zip(centre, np.diag(covariance))]
    u = np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 3)
    mean, spread = prior()
    seen = law.features(np.exp(u[:, 0]), np.exp(u[:, 1]), u[:, 2])
    logs = -0.5 * np.square((seen - matrix) / law.NOISE).sum((1, 2))
    logs -= 0.5 * np.einsum("ni,ij,nj->n", u - mean, np.linalg.inv(spread), u - mean)
    weights = np.exp(logs - logs.max())
    rng = np.random.default_rng(0)
    chosen = u[rng.choice(len(u), 4000, p=weights / weights.sum())]
    rest = {name: law.lognormal(name, chosen[:, 2], rng) for name in ("c", "knee", "tau")}
    wanted = law.lives(law.Cells(chosen[:, 2], np.exp(chosen[:, 0]), np.exp(chosen[:, 1]), **rest))
    found = posterior(matrix, 3000)
    mean_life = (found.weights * found.lives).sum()
    deviation = np.sqrt((found.weights * np.square(found.lives - mean_life)).sum())
    assert found.effective > 1500
    assert abs(mean_life - wanted.mean()) < 4 * wanted.std() / np.sqrt(2000)
    np.testing.assert_allclose(deviation, wanted.std(), rtol=0.08)


def test_lives_lie_evenly_among_those_that_the_posterior_expects() -> None:
    made = law.simulate(150, seed=11)
    ranks = []
    for i, (matrix, life) in enumerate(zip(made["matrix"], made["end_of_life"])):
        found = posterior(matrix, 300, seed=i)
        ranks.append((found.weights * (found.lives < life)).sum())
    assert chisquare(np.histogram(ranks, 6, (0, 1))[0]).pvalue > 0.01
    assert studio.tasks.build("battery").reference(made["matrix"][0], 7).shape == (7,)


def test_intervals_hold_what_they_say_and_errors_are_in_cycles() -> None:
    rng = np.random.default_rng(0)
    lives, draws = rng.standard_normal(4000), rng.standard_normal((4000, 32))
    found = foretold(draws, lives)
    assert abs(found["coverage"] - 0.9) < 0.015 and found["coverage_plain"] < found["coverage"] - 0.02
    assert abs(found["rank_correlation"]) < 0.05 and 1 <= found["rmse_share"] < 1.05
    # of N(0, 1) and y: y (2 Φ(y) − 1) + 2 φ(y) − 1/√π, on average over y: 1/√π
    np.testing.assert_allclose(found["crps"], 1 / np.sqrt(np.pi), rtol=0.03)
    y = np.array([0.7])
    exact = y * (2 * norm.cdf(y) - 1) + 2 * norm.pdf(y) - 1 / np.sqrt(np.pi)
    np.testing.assert_allclose(crps(rng.standard_normal((1, 40000)), y), exact, rtol=0.03)
    sure = foretold(1000 + lives[:, None] + np.zeros(8), 1000 + lives)
    assert sure["rmse"] == 0 and sure["rank_correlation"] == pytest.approx(1) and sure["coverage"] == 1
    low, high = interval(draws)
    assert (low < high).all()


def test_health_counts_where_both_live() -> None:
    curves = np.array([[100.0, 95.0, 85.0, 60.0]])
    draws = curves[:, None] + np.array([-2.0, 1.0, 1.0])[None, :, None]
    assert health_error(draws, curves) == pytest.approx(1.0)
