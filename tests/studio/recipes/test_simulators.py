"""Further simulators: their laws, exact posteriors where there are some, and estimates that they are compared
with."""

import numpy as np
import pytest
import torch

from studio.codecs.codec import build_codec
from studio.recipes.posterior import nb_estimates
from studio.recipes.posterior.data import data_of
from studio.recipes.posterior.nb_regression import MEANS, STDS, NBRegression, log_likelihood
from studio.recipes.posterior.sbi_tasks import SLCP, TwoMoons
from studio.recipes.posterior.seir import SEIR, TOWN, infectious
from studio.tasks import build

G = np.random.default_rng(0)


def test_counts_have_the_mean_and_the_variance_of_the_model() -> None:
    theta = np.tile([[2.0, 0.7, -1.0]], (20_000, 1))
    count, size, group = NBRegression().observe(theta, np.random.default_rng(1)).reshape(-1, 3).T
    for g in (0, 1):
        mu = size[group == g] * np.exp(2 + 0.7 * g)
        off = count[group == g] - mu
        assert abs((off / mu).mean()) < 0.01
        assert abs((off**2 / (mu + np.exp(-1) * mu**2)).mean() - 1) < 0.05
    made = build("nb-regression").simulate(4000, seed=2)
    there = ~np.isnan(made["observations"][..., 0])
    assert np.array_equal(there[:, :12], there[:, 12:]) and set(there[:, :12].sum(1)) == set(range(2, 13))
    assert np.allclose(made["values"].mean(0), MEANS, atol=0.15)
    assert np.allclose(made["values"].std(0), STDS, rtol=0.05)


def test_the_likelihood_is_the_negative_binomial_one() -> None:
    from scipy.stats import nbinom

    seen = np.array([[3.0, 1.5, 0], [0, 0.7, 0], [40, 1.0, 1], [9, 2.0, 1]])
    theta = np.array([[1.0, 0.5, -2.0], [0.2, -1.0, 1.0], [3.0, 0.0, -5.0]])
    mu, r = seen[:, 1] * np.exp(theta[:, :1] + theta[:, 1:2] * seen[:, 2]), np.exp(-theta[:, 2:])
    exact = nbinom.logpmf(seen[:, 0], r, r / (r + mu)).sum(1)
    ours = log_likelihood(theta, seen)
    assert np.allclose(ours - ours[0], exact - exact[0])


def test_importance_sampling_agrees_with_a_grid() -> None:
    task = NBRegression()
    rows = task.simulate(1, seed=3, count=4)["observations"][0]
    seen = rows[~np.isnan(rows).any(1)].astype(np.float64)
    exact = task.reference(rows, draws=500)
    axes = [
        np.linspace(m - 5 * s, m + 5 * s, 61) for m, s in zip(exact.mean, np.sqrt(np.diag(exact.covariance)))
    ]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    log = log_likelihood(grid, seen) - 0.5 * (((grid - MEANS) / STDS) ** 2).sum(1)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    std = np.sqrt(np.diag(exact.covariance))
    assert np.allclose((exact.mean - weight @ grid) / std, 0, atol=0.06)
    assert np.allclose(exact.draws.mean(0), exact.mean, atol=4 * std.max() / 500**0.5)


def test_usual_estimates_find_what_many_counts_tell() -> None:
    theta = np.array([[3.0, 0.8, -1.5]])
    task = NBRegression()
    task.counts = (2, 3000)
    rows = task.observe(theta, np.random.default_rng(4))[0]
    for method in (nb_estimates.moments, nb_estimates.likelihood):
        values, low, high = method(rows)
        assert np.allclose(values, theta[0], atol=0.1)
        assert (low < theta[0]).all() and (theta[0] < high).all()
    few = np.array([[0.0, 1.0, 0], [0, 1.0, 0], [5, 1.0, 1], [5, 1.0, 1]])
    assert np.isfinite(nb_estimates.moments(few)).all() and np.isfinite(nb_estimates.likelihood(few)).all()


def test_the_table_has_every_method_and_an_exact_posterior_that_holds_what_it_should() -> None:
    rows = nb_estimates.compared({"m": nb_estimates.moments, "exact": nb_estimates.exact}, sets=40)
    assert [row["method"] for row in rows] == ["m", "exact"]
    assert rows[1]["rmse log mean"] < rows[0]["rmse log mean"] + 0.05
    assert abs(np.mean([rows[1][f"coverage {p}"] for p in NBRegression.parameters]) - 0.9) < 0.1


def test_two_moons_draw_parameters_that_explain_the_observation() -> None:
    task = TwoMoons()
    rows = task.simulate(1, seed=5)["observations"][0]
    exact = task.reference(rows, draws=800)
    again = rows[0] - task.observe(exact.draws, np.random.default_rng(6))[:, 0]
    assert np.abs(exact.draws).max() < 1 and np.abs(again).max() < 0.35  # moons are 0.2 wide
    assert abs((exact.draws.sum(1) > 0).mean() - 0.5) < 0.15


def test_slcp_and_an_epidemic_are_simulated() -> None:
    theta = np.tile([[1.0, -2.0, 1.5, 0.8, 0.6]], (40_000, 1))
    x = SLCP().observe(theta, G).reshape(-1, 2)
    assert np.allclose(x.mean(0), [1, -2], atol=0.03)
    s = np.array([1.5**2, 0.8**2])
    assert np.allclose(
        np.cov(x.T), [[s[0] ** 2, np.tanh(0.6) * s.prod()], [np.tanh(0.6) * s.prod(), s[1] ** 2]], atol=0.1
    )
    curve = infectious(np.array([[0.0, 0.3, 0.2, 10.0], [0.5, 0.25, 0.15, 2.0]]))
    assert np.allclose(curve[0], 10 * np.exp(-0.2 * np.arange(101)), rtol=1e-4)
    assert curve[1].max() < TOWN and 20 < curve[1].argmax() < 90
    made = SEIR().simulate(50, seed=1)
    assert made["observations"].shape == (50, 30, 2) and (made["values"] > 0).all()


@pytest.mark.parametrize("name", ["two-moons", "slcp", "seir"])
def test_samples_stay_within_the_bounds_of_the_prior(name: str) -> None:
    data = data_of(build(name), held_out=32)
    codec = build_codec(data.codec)
    values = torch.from_numpy(data.held_out.values)
    seen = codec.encode(values)
    assert torch.allclose(codec.decode(seen), values, rtol=1e-4, atol=1e-4)
    assert abs(float(seen.std()) - 1) < 0.3
    far = codec.decode(torch.tensor([[50.0], [-50.0]]).expand(2, values.shape[1]))
    assert all(
        (low is None or bool((x >= low).all())) and (high is None or bool((x <= high).all()))
        for x, low, high in zip(far.unbind(1), data.codec["low"], data.codec["high"])
    )


def test_a_number_of_simulations_is_all_that_training_sees() -> None:
    task = build("slcp")
    data, made = data_of(task, count=50, held_out=10, seed=3), task.simulate(50, seed=3)
    assert len(data.train) == 40 and np.array_equal(data.train.values, made["values"][:40])
    assert np.array_equal(data.held_out.values, made["values"][40:])
    assert data_of(task, count=50, held_out=0).held_out is None
    with pytest.raises(ValueError, match="got count=10 and held_out=10, expected more"):
        data_of(task, count=10, held_out=10)


def test_what_lies_beyond_the_bounds_is_refused() -> None:
    codec = build_codec({"name": "bounded", "low": [0.0, None], "high": [1.0, 2.0]})
    x = torch.tensor([[0.25, -3.0], [0.9, 1.5]])
    assert torch.allclose(codec.decode(codec.encode(x)), x, atol=1e-5)
    whole = build_codec(
        {"name": "bounded", "low": [0.0, -1.0, None], "high": [1.0, None, 3.0], "std": [1, 2, 3]}
    )
    y = torch.tensor([[0.3, 0.5, 1.0], [0.8, -0.7, -2.0]], dtype=torch.float64)
    h = 1e-3
    slopes = (whole.encode(y + h).double() - whole.encode(y - h).double()) / (2 * h)
    assert torch.allclose(whole.log_dets(y), slopes.abs().log().sum(1), atol=1e-3)
    with pytest.raises(ValueError, match="expected 0.0 to 1.0"):
        codec.encode(torch.tensor([[1.5, 0.0]]))
    with pytest.raises(ValueError, match="each below its other"):
        build_codec({"name": "bounded", "low": [0.0], "high": [-1.0]})
