"""Entropic plans by their definition where plain rounds of Sinkhorn do not arrive, or words and a number for
how far off they are."""

import math
import warnings

import pytest
import torch

from backbones import Cond, NoiseSource
from samplers.couplings import transport
from samplers.couplings.gibbs import Gibbs
from samplers.couplings.planned import Sinkhorn
from samplers.couplings.sinkhorn import converged_plan, row_error


def ends(size: int, dim: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, and clusters in the plane or dark pictures."""
    g = torch.Generator().manual_seed(seed)
    data = (
        torch.rand(size, dim, generator=g).pow(3) * 2 - 1
        if dim > 2
        else torch.randn(size, dim, generator=g) / 2 + torch.randint(0, 8, (size, 1), generator=g)
    )
    return torch.randn(size, dim, generator=g), data


@pytest.mark.parametrize(
    "size, dim, reg",
    [(64, 2, 0.02), (128, 2, 0.02), (200, 2, 0.1), (64, 784, 0.02), (128, 784, 1.0), (96, 784, 10.0)],
)
def test_sums_of_rows_and_columns(size: int, dim: int, reg: float) -> None:
    """Where 500 rounds leave whole rows without their share; nothing is said because nothing is wrong."""
    source, data = ends(size, dim)
    coupling = Sinkhorn(reg=reg)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = coupling.plan(transport.squared_distances(source, data)).double().exp()
        out = coupling(source, data, Cond(), NoiseSource(range(size)))
    assert (
        float((plan.sum(1) - 1 / size).abs().sum()) < 3e-4
        and float((plan.sum(0) - 1 / size).abs().sum()) < 1e-6
    )
    assert float(out.logs["marginal_error"]) < 3e-4


@pytest.mark.parametrize("reg", [1.0, 0.3])
def test_the_plan_is_that_of_pot(reg: float) -> None:
    ot = pytest.importorskip("ot")
    source, data = ends(24, 2, seed=3)
    cost = transport.squared_distances(source, data)
    theirs = ot.sinkhorn(
        [1 / 24] * 24, [1 / 24] * 24, cost.numpy(), reg, method="sinkhorn_log", numItermax=5000, stopThr=1e-11
    )
    ours, error = converged_plan(-cost / reg, 1e-11)
    assert error < 1e-10 and float(abs(theirs.sum(1) - 1 / 24).sum()) < 1e-7  # both have arrived
    torch.testing.assert_close(ours.exp(), torch.as_tensor(theirs), rtol=0, atol=1e-6)


def test_the_limit_is_exact_transport() -> None:
    source, data = ends(64, 2, seed=1)
    cost = transport.squared_distances(source, data)
    best = cost[transport.assignment(cost), torch.arange(64)].mean()
    found = [
        float((converged_plan(-cost / reg, 1e-6)[0].exp() * cost).sum() - best) for reg in (0.3, 0.03, 0.003)
    ]
    assert found[0] > found[1] > found[2] > -1e-6 and found[2] < 0.003 * math.log(64)


@pytest.mark.parametrize("price", [0.05, 1.0, 100.0])
@pytest.mark.parametrize("reg", [1.0, 0.02])
def test_unbalanced_plans_meet_their_own_condition(reg: float, price: float) -> None:
    """P 1 = a (dK)^… : the derivative of ⟨P, C⟩ + reg KL(P|ab) + λ KL(P 1|a) + λ KL(Pᵀ1|b) is zero wherever P
    is not."""
    source, data = ends(64, 2, seed=2)
    cost = transport.squared_distances(source, data)
    coupling = Sinkhorn(reg=reg, unbalanced=price)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log_plan = coupling.plan(cost)
    rows, columns = log_plan.logsumexp(1) + math.log(64), log_plan.logsumexp(0) + math.log(64)
    slope = cost + reg * (log_plan + 2 * math.log(64)) + price * (rows[:, None] + columns)
    mass = log_plan.exp()
    # in units of what the temperature and the price weigh: the tolerance of the rounds
    assert float((mass * slope).abs().sum()) < 3e-3 * (reg + price) * float(mass.sum())
    assert row_error(-cost / reg, log_plan, price / (price + reg)) < 3e-4
    weight = coupling(source, data, Cond(), NoiseSource(range(64))).weight
    assert weight is not None and float(weight.mean()) == pytest.approx(1, abs=1e-6)


def test_classes_of_their_own_converge_too() -> None:
    source, data = ends(96, 2, seed=4)
    label = torch.arange(96) % 3
    coupling = Sinkhorn(reg=0.02, labels="per_class")
    plan = coupling.plan(transport.squared_distances(source, data), label).exp()
    assert (
        float((plan.sum(1) - 1 / 96).abs().sum()) < 3e-4 and float(plan[label[:, None] != label].sum()) == 0
    )


def test_what_was_asked_to_stop_early_says_how_far_off_it_is() -> None:
    source, data = ends(128, 2)
    coupling = Sinkhorn(reg=0.02, iterations=20)
    with pytest.warns(
        UserWarning,
        match=r"did not converge: its row sums are off by [\d.]+% .* reg = 0.02.* leave iterations out",
    ):
        out = coupling(source, data, Cond(), NoiseSource(range(128)))
    plan = coupling.plan(transport.squared_distances(source, data)).exp()
    assert (
        float(out.logs["marginal_error"])
        == pytest.approx(float((plan.sum(1) - 1 / 128).abs().sum()), rel=1e-3)
        and float(out.logs["marginal_error"]) > 0.05
    )


def test_plans_that_were_there_before_are_the_same() -> None:
    """What converged in 500 rounds keeps its bits."""
    for size, dim in ((64, 2), (128, 784)):
        source, data = ends(size, dim)
        cost = transport.squared_distances(source, data)
        reg = float(0.05 * cost.mean())
        assert torch.equal(Sinkhorn().plan(cost), transport.entropic_plan(-cost / reg, 500, tolerance=1e-4))


@pytest.mark.parametrize(
    "options",
    [
        {"balance": 10},
        {"balance": 3, "cost": "l2sq"},
        {"balance": 10, "eps": 1.0},
        {"balance": 5, "memory": 2},
        {},
        {"eps": 2.0},
    ],
    ids=str,
)
def test_weights_have_mean_one(options: dict[str, object]) -> None:
    for seed in range(3):
        source, data = ends(64, 2, seed)
        weight = Gibbs(**options)(source, data, Cond(), NoiseSource(range(64)), state={}).weight
        assert (
            weight is not None
            and float(weight.mean()) == pytest.approx(1, abs=1e-6)
            and float(weight.std()) > 0.1
        )
