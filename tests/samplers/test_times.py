"""How training times are drawn, tested as distributions; the prior and the identity of the Euclidean
space."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from backbones import Cond, NoiseSource, RunContext
from samplers import Batch, EDMPath, LinearPath, TrigPath, VPPath
from samplers.heads.parameterization import Direct
from samplers.objective import Objective, build_objective
from samplers.spaces.euclid import Euclid
from samplers.times import Importance, LogitNormal, LogNormal, Uniform

N = 40_000
NOISE = NoiseSource(range(N))


def test_uniform() -> None:
    t = Uniform()(NOISE, LinearPath())
    assert t.dtype == torch.float64 and stats.kstest(t.numpy(), "uniform").pvalue > 1e-3
    edm = EDMPath()
    t = Uniform()(NOISE, edm)
    assert stats.kstest(t.numpy(), "uniform", args=(edm.t_start, 1 - edm.t_start)).pvalue > 1e-3


def test_uniform_over_table_entries() -> None:
    """Every entry with the same probability, the first and the last included, and nothing between."""
    path = VPPath(betas=torch.linspace(0.01, 0.3, 20))
    k = path.index(Uniform()(NOISE, path))
    assert float((k - k.round()).abs().max()) < 1e-9
    counts = torch.bincount(k.round().long(), minlength=20)
    assert len(counts) == 20 and stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("mean, std", [(0.0, 1.0), (-0.8, 0.5)])
def test_logit_normal(mean: float, std: float) -> None:
    t = LogitNormal(mean=mean, std=std)(NOISE, LinearPath())
    assert stats.kstest(torch.logit(t).numpy(), "norm", args=(mean, std)).pvalue > 1e-3


def test_logit_normal_is_the_log_normal_of_edm() -> None:
    """ln sigma ~ N(−1.2, 1.2²) on t = 1/(1 + sigma) is a logit-normal of mean 1.2."""
    path = EDMPath()
    sigma = path.coefficients(LogitNormal(mean=1.2, std=1.2)(NOISE, path)).sigma
    assert stats.kstest(sigma.log().numpy(), "norm", args=(-1.2, 1.2)).pvalue > 1e-3


def test_logit_normal_on_a_table() -> None:
    """Entries only, each with the probability of the stretch of t that ends at it towards the noise."""
    path = VPPath(betas=torch.linspace(0.01, 0.3, 20))
    k = path.index(LogitNormal(mean=0.5, std=1.0)(NOISE, path))
    assert float((k - k.round()).abs().max()) < 1e-9
    counts = torch.bincount(k.round().long(), minlength=20).double()
    edges = [1 - j / 20 for j in range(21)]
    cdf = [
        stats.norm.cdf((math.log(e / (1 - e)) - 0.5) if 0 < e < 1 else (-1) ** (e == 0) * math.inf)
        for e in edges
    ]
    expected = [N * (a - b) for a, b in zip(cdf, cdf[1:])]
    assert len(counts) == 20 and stats.chisquare(counts.numpy(), expected).pvalue > 1e-3


def test_options() -> None:
    objective = build_objective(times={"name": "logit_normal", "mean": -0.5})
    assert (objective.times.mean, objective.times.std) == (-0.5, 1.0)
    with pytest.raises(ValueError, match="got std=0.0, expected a positive number"):
        build_objective(times={"name": "logit_normal", "std": 0.0})


def test_prior_and_projection() -> None:
    x = Euclid().start(NoiseSource([1]), (N,), scale=80.0, dtype=torch.float64)[0]
    assert stats.kstest(x[0].numpy() / 80, "norm").pvalue > 1e-3
    assert torch.equal(Euclid().project(x, Cond()), x)


@pytest.mark.parametrize("mean, std", [(-1.2, 1.2), (0.0, 0.8)])
def test_log_normal(mean: float, std: float) -> None:
    """ln(sigma/alpha) is normal on every path."""
    for path in (EDMPath(), LinearPath(), TrigPath()):
        c = path.coefficients(LogNormal(mean=mean, std=std)(NOISE, path))
        assert stats.kstest((c.sigma / c.alpha).log().numpy(), "norm", args=(mean, std)).pvalue > 1e-3
    edm, same = LogNormal()(NOISE, EDMPath()), LogitNormal(mean=1.2, std=1.2)(NOISE, EDMPath())
    assert stats.ks_2samp(edm.numpy(), same.numpy()).pvalue > 1e-3
    path = VPPath()
    k = path.index(LogNormal()(NOISE, path))
    assert float((k - k.round()).abs().max()) < 1e-9 and float(k.min()) >= 0
    c = path.coefficients(LogNormal()(NOISE, path))
    assert float((c.sigma / c.alpha).log().median()) == pytest.approx(-1.2, abs=0.03)


@pytest.mark.parametrize("shift, skew", [(3.0, 1.0), (1.0, 2.0), (0.5, 1.5)])
def test_bent_training_times(shift: float, skew: float) -> None:
    """The distribution of the warped draw; on a table the share of every entry is that of the stretch of t
    that ends at it."""

    def cdf(t: np.ndarray) -> np.ndarray:
        along = shift * t / (1 - t + shift * t)  # undoes τ/(τ + shift·(1 − τ))
        return along ** (1 / skew)

    t = Uniform(shift=shift, skew=skew)(NOISE, LinearPath())
    assert stats.kstest(t.numpy(), cdf).pvalue > 1e-3
    path = VPPath(betas=torch.linspace(0.01, 0.3, 20))
    k = path.index(Uniform(shift=shift, skew=skew)(NOISE, path))
    assert float((k - k.round()).abs().max()) < 1e-9
    counts = torch.bincount(k.round().long(), minlength=20)
    edges = cdf(np.array([1 - j / 20 for j in range(21)]))
    assert len(counts) == 20 and stats.chisquare(counts.numpy(), N * (edges[:-1] - edges[1:])).pvalue > 1e-3


def test_shifted_logit_normal() -> None:
    """A shift of s moves the mean of the logit by −ln s."""
    t = LogitNormal(mean=0.3, std=0.9, shift=2.0)(NOISE, LinearPath())
    assert stats.kstest(torch.logit(t).numpy(), "norm", args=(0.3 - math.log(2), 0.9)).pvalue > 1e-3


def test_options_of_bent_times() -> None:
    objective = build_objective(times={"name": "uniform", "shift": 3, "skew": 1.5})
    assert (objective.times.shift, objective.times.skew) == (3.0, 1.5)
    assert build_objective(path="edm", parameterization="edm", times="log_normal").times.mean == -1.2
    for bad, message in (
        ({"name": "uniform", "shift": 0.0}, "got shift=0.0, skew=1.0, expected positive numbers"),
        ({"name": "logit_normal", "shift": -1.0}, "got shift=-1.0"),
        ({"name": "log_normal", "std": 0.0}, "got std=0.0, expected a positive number"),
    ):
        with pytest.raises(ValueError, match=message):
            build_objective(times=bad)


def test_importance_follows_the_losses_and_keeps_the_mean() -> None:
    """Losses that grow with k: after the history is full, entries are drawn as √E[L²] and the balanced losses
    average to the uniform mean."""
    path, sampler, state = VPPath(betas=torch.linspace(0.01, 0.3, 8)), Importance(history=4, uniform=0.01), {}

    def losses(t: Tensor) -> Tensor:
        return (8 * (1 - t)).double() ** 2

    for step in range(40):
        noise = NoiseSource([0] * 64, index=range(64), step=step)
        t = sampler(noise, path, state=state)
        balanced = sampler.balance(path, t, losses(t).requires_grad_(), state)
    expected = torch.arange(1, 9).double() ** 2
    shares = sampler.shares(path, state)
    torch.testing.assert_close(shares, 0.99 * expected / expected.sum() + 0.01 / 8)
    counts = (
        8 * (1 - sampler(NoiseSource([1] * 20000, index=range(20000)), path, state=state)) - 1
    ).round().long().bincount(minlength=8) / 20000
    assert float((counts - shares).abs().max()) < 0.01
    balanced = balanced.detach()
    assert (
        float(balanced.std() / balanced.mean()) < 0.3
        and float((balanced.mean() - expected.mean()).abs()) / float(expected.mean()) < 0.2
    )
    with pytest.raises(ValueError, match="importance on a path without a table, expected vp"):
        sampler(NoiseSource([0]), LinearPath())


def test_importance_in_an_objective_is_unbiased_and_remembers() -> None:
    """With equal losses everywhere nothing changes; the run's context holds the history."""
    objective = Objective(VPPath(betas=torch.full((4,), 0.02)), Direct("noise"), times=Importance(history=2))
    ctx = RunContext()
    for step in range(12):
        noise = NoiseSource([0] * 32, index=range(32), step=step)
        loss = objective.loss(
            lambda x, t, cond, ctx: torch.zeros_like(x), Batch(torch.zeros(32, 2)), noise, ctx
        )
    assert int(ctx.states["times"]["seen"].sum()) == 12 * 32
    assert bool(torch.isfinite(loss.per_sample).all())
