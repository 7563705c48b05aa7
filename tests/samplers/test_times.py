"""How training times are drawn, tested as distributions; the prior and the identity of the Euclidean space."""

import math

import pytest
import torch
from scipy import stats

from backbones import NoiseSource
from samplers import EDMPath, LinearPath, VPPath
from samplers.objective import build_objective
from samplers.space import Euclid
from samplers.times import LogitNormal, Uniform

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
    cdf = [stats.norm.cdf((math.log(e / (1 - e)) - 0.5) if 0 < e < 1 else (-1) ** (e == 0) * math.inf) for e in edges]
    expected = [N * (a - b) for a, b in zip(cdf, cdf[1:])]
    assert len(counts) == 20 and stats.chisquare(counts.numpy(), expected).pvalue > 1e-3


def test_options() -> None:
    objective = build_objective(times={"name": "logit_normal", "mean": -0.5})
    assert (objective.times.mean, objective.times.std) == (-0.5, 1.0)
    with pytest.raises(ValueError, match="got std=0.0, expected a positive number"):
        build_objective(times={"name": "logit_normal", "std": 0.0})


def test_prior_and_projection() -> None:
    x = Euclid().prior(NoiseSource([1]), (N,), scale=80.0, dtype=torch.float64)
    assert stats.kstest(x[0].numpy() / 80, "norm").pvalue > 1e-3
    assert torch.equal(Euclid().project(x), x)
