"""Weighted flow matching: recorded weights and tilts, limits, temperatures, normalisation, balance, warnings,
and that it teaches what it should."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mixture import points
from torch import Tensor

from backbones import Cond, NoiseSource, RunContext
from samplers import Batch, LinearPath, Objective, build_objective
from samplers.couplings.coupling import Coupled
from samplers.couplings.gibbs import Gibbs, ess_of, inverse_temperature
from samplers.couplings.transport import entropic_plan
from samplers.heads.parameterization import Direct

N = 64
X, Y, NOISE = points(N), 3 * points(N, 2, 1), NoiseSource(range(N))
COSTS = (X - Y).norm(dim=1)


def run(x: Tensor = X, y: Tensor = Y, **options: Any) -> Coupled:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Gibbs(**options)(x, y, Cond(), NoiseSource(range(len(x))))


@pytest.mark.parametrize("case", ["n8d2", "n32d2", "n16d64"])
@pytest.mark.parametrize("eps", [1, 2, 5])
def test_recorded_weights(golden: Callable[[str], Any], case: str, eps: int) -> None:
    g, notes = golden("ot_plans")
    x, y, said = g[f"{case}.x0"], g[f"{case}.x1"], notes["cases"][case][f"wcfm_eps{eps}"]
    torch.testing.assert_close((x - y).norm(dim=1), g[f"{case}.pair_dist"])
    raw = run(x, y, eps=float(eps), normalise="none")
    torch.testing.assert_close(raw.weight, g[f"{case}.wcfm_raw_eps{eps}"], rtol=1e-10, atol=0)
    out = run(x, y, eps=float(eps))
    torch.testing.assert_close(out.weight, g[f"{case}.wcfm_norm_eps{eps}"], rtol=1e-10, atol=0)
    for ours, theirs in (
        ("ess", "ess_frac"),
        ("tilt_source", "relvar_source_tilt"),
        ("tilt_data", "relvar_target_tilt"),
    ):
        assert float(out.logs[ours]) == pytest.approx(said[theirs], rel=1e-9)
    for side, dim in (("source", 1), ("target", 0)):
        tilt = (-(x[:, None] - y).norm(dim=-1) / eps).exp().mean(dim)
        torch.testing.assert_close(
            tilt / tilt.mean(), g[f"{case}.wcfm_tilt_{side}_eps{eps}"], rtol=1e-10, atol=0
        )


def test_large_eps_is_plain_flow_matching() -> None:
    """Weights go to 1 as 1/eps, and with them every loss."""
    off = [float((run(eps=eps).weight - 1).abs().max()) for eps in (1e2, 1e3, 1e4)]
    assert (
        off[0] / off[1] == pytest.approx(10, rel=0.1)
        and off[1] / off[2] == pytest.approx(10, rel=0.02)
        and off[2] < 1e-3
    )
    net = lambda x, t, cond, ctx: torch.zeros_like(x)  # noqa: E731
    plain, weighted = (
        Objective(LinearPath(), Direct("velocity"), coupling=c)
        .loss(net, Batch(Y, source=X), NOISE)
        .per_sample
        for c in (None, Gibbs(eps=1e9))
    )
    torch.testing.assert_close(weighted, plain, rtol=1e-7, atol=0)
    torch.testing.assert_close(
        run(eps=1e9, balance=3).weight, torch.ones(N, dtype=torch.float64), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("balance", [0, 10])
def test_small_eps_does_not_vanish(dtype: torch.dtype, balance: int) -> None:
    """Of 3072 entries at eps = 0.5 every exp(−c/eps) is below 1e-50: the weights are the softmax of −c/eps
    times B all the same."""
    x, y = points(16, 3072).to(dtype), (0.5 * points(16, 3072, 2)).to(dtype)
    out = run(x, y, eps=0.5, balance=balance)
    assert float((-(x - y).double().norm(dim=1) / 0.5).exp().max()) < 1e-50
    assert bool(torch.isfinite(out.weight).all()) and float(out.weight.max()) > 0.5
    if not balance:
        expected = 16 * (-(x.double() - y.double()).norm(dim=1) / 0.5).softmax(0)
        torch.testing.assert_close(
            out.weight.double(),
            expected,
            rtol=1e-9 if dtype == torch.float64 else 0.2 if dtype == torch.bfloat16 else 1e-3,
            atol=1e-6,
        )
        assert float(out.weight.mean()) == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("target", [0.05, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("cost", ["l2", "l2sq"])
def test_the_effective_sample_size_is_hit(target: float, cost: str) -> None:
    for x, y in ((X, Y), (1e3 * X, 1e3 * Y), (points(128, 3072), 0.5 * points(128, 3072, 2))):
        out = run(x, y, ess=target, cost=cost)
        assert float(out.weight.sum() ** 2 / (len(x) * out.weight.square().sum())) == pytest.approx(
            target, rel=1e-5
        )
        assert float(out.logs["ess"]) == pytest.approx(target, rel=1e-5)
        torch.testing.assert_close(
            run(x, y, eps=float(out.logs["eps"]), cost=cost).weight, out.weight, rtol=1e-5, atol=1e-12
        )


@pytest.mark.parametrize("target", [0.1, 0.4, 0.8])
def test_balanced_weights_hit_it_too(target: float) -> None:
    """From the whole batch up to 128 points, from its first 128 above."""
    assert float(run(ess=target, balance=10).logs["ess"]) == pytest.approx(target, abs=5e-3)
    assert float(
        run(points(300), 3 * points(300, 2, 1), ess=target, balance=10).logs["ess"]
    ) == pytest.approx(target, abs=0.1)


def test_the_default_is_a_sample_size() -> None:
    assert float(run().logs["ess"]) == pytest.approx(0.7, rel=1e-5)
    assert float(run(balance=10).logs["ess"]) == pytest.approx(0.15, abs=0.01)


def test_equal_costs_have_equal_weights() -> None:
    out = run(torch.zeros(20, 3), torch.ones(20, 3), ess=0.5)
    torch.testing.assert_close(out.weight, torch.ones(20, dtype=torch.float64))
    assert float(inverse_temperature(torch.ones(5, dtype=torch.float64), 0.5)) == 0
    log = torch.randn(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(ess_of(log)) == pytest.approx(float(log.exp().sum() ** 2 / (7 * (2 * log).exp().sum())))


def test_temperatures() -> None:
    """kappa·√d, a share of the mean cost, and the same of squares."""
    torch.testing.assert_close(run(kappa=0.8).weight, run(eps=0.8 * math.sqrt(2)).weight)
    torch.testing.assert_close(run(kappa=0.8, cost="l2sq").weight, run(eps=0.8 * 2, cost="l2sq").weight)
    torch.testing.assert_close(run(relative=0.5).weight, run(eps=0.5 * float(COSTS.mean())).weight)
    squares = run(eps=4.0, cost="l2sq")
    torch.testing.assert_close(squares.weight, N * (-COSTS.square() / 4).softmax(0))
    torch.testing.assert_close(
        squares.logs["mean_cost"], (COSTS.square() * (-COSTS.square() / 4).softmax(0)).sum()
    )
    images = points(8, 12).view(8, 3, 2, 2)
    torch.testing.assert_close(
        run(images, 2 * images, kappa=1.0).weight,
        run(images.flatten(1), 2 * images.flatten(1), eps=math.sqrt(12)).weight,
    )


@pytest.mark.parametrize("cost", ["l2", "l2sq"])
def test_balanced_weights_come_from_uniform_marginals(cost: str) -> None:
    """Pair i weighs B² P_ii of the plan that exp(−C/eps) becomes when its rows and columns are scaled to sum
    to 1/B."""
    coupling = Gibbs(eps=2.0, balance=200, cost=cost)
    coupling.say = lambda kind, text: None
    out = coupling(X, Y, Cond(), NOISE)
    grid = (X[:, None] - Y).norm(dim=-1)
    grid = grid if cost == "l2" else grid.square()
    plan = coupling._balanced(grid, 1 / 2.0).exp()
    for dim in (0, 1):
        torch.testing.assert_close(
            plan.sum(dim), torch.full((N,), 1 / N, dtype=torch.float64), rtol=1e-6, atol=0
        )
    torch.testing.assert_close(out.weight, plan.diagonal() / plan.diagonal().mean(), rtol=1e-6, atol=0)
    assert float(out.logs["tilt_source"]) < 1e-10 and float(out.logs["tilt_data"]) < 1e-10
    ratio = plan * (grid / 2).exp()  # u_i v_j
    torch.testing.assert_close(ratio[1:, 1:] * ratio[0, 0], ratio[1:, :1] * ratio[:1, 1:], rtol=1e-8, atol=0)
    # the mean is over all pairings, not over each batch
    plain = Gibbs(eps=2.0, balance=200, cost=cost, normalise="none")
    plain.say = coupling.say
    every_pairing = torch.stack(
        [plain(X[:9].roll(k, 0), Y[:9], Cond(), NoiseSource(range(9))).weight for k in range(9)]
    )
    torch.testing.assert_close(every_pairing.mean(0), torch.ones(9, dtype=torch.float64), rtol=1e-5, atol=0)


def test_a_few_rounds_remove_most_of_the_tilt() -> None:
    tilt = {k: run(eps=1.0, balance=k).logs for k in (0, 1, 5, 20)}
    assert float(tilt[0]["tilt_data"]) > 0.3
    source = [float(tilt[k]["tilt_source"]) for k in (1, 5, 20)]
    assert (
        all(float(tilt[k]["tilt_data"]) < 1e-12 for k in (1, 5, 20))
        and source[0] > source[1] > source[2]
        and source[2] < 1e-3
    )


def test_tilts_come_from_the_first_points_of_large_batches() -> None:
    x, y = points(300), 2 * points(300, 2, 1)
    part, whole = run(x, y, eps=2.0), run(x, y, eps=2.0, tilt_points=300)
    first = run(x[:128], y[:128], eps=2.0)
    for key in ("tilt_source", "tilt_data"):
        assert float(part.logs[key]) == pytest.approx(float(first.logs[key]), rel=1e-9)
        assert float(part.logs[key]) == pytest.approx(float(whole.logs[key]), abs=0.05)
    torch.testing.assert_close(part.weight, whole.weight, rtol=1e-12, atol=0)
    assert not {"tilt_source", "tilt_data"} & run(x, y, tilt_points=0).logs.keys()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_running_mean_is_kept_by_the_run() -> None:
    """The first hundred batches by their mean, in the context that the caller keeps: two runs do not mix, and
    a copy goes on alike."""
    objective = build_objective(coupling={"name": "gibbs", "eps": 2.0, "normalise": "running"})
    net = lambda x, t, cond, ctx: torch.zeros_like(x)  # noqa: E731
    batches = [(points(N, 2, k), (1 + k) * points(N, 2, 50 + k)) for k in range(4)]
    raw = [(-(x - y).norm(dim=1) / 2).exp() for x, y in batches]
    one, two = RunContext(), RunContext()

    def weights(ctx: RunContext, k: int) -> Tensor:
        x, y = batches[k]
        return objective.sample_pairs(Batch(y, source=x), NOISE, ctx).weight

    for k in range(4):
        mean = torch.stack(raw[: k + 1]).mean()
        torch.testing.assert_close(weights(one, k), raw[k] / mean, rtol=1e-9, atol=0)
        torch.testing.assert_close(weights(two, 0), raw[0] / raw[0].mean(), rtol=1e-9, atol=0)
    resumed = RunContext(states={"coupling": {k: v.clone() for k, v in one.states["coupling"].items()}})
    assert torch.equal(weights(resumed, 1), weights(one, 1))
    assert not torch.equal(weights(one, 1), weights(one, 1))
    with torch.no_grad():  # looking at it in between needs no run and leaves none behind
        torch.testing.assert_close(
            objective.sample_pairs(Batch(Y, source=X), NOISE).weight, run(eps=2.0).weight
        )
    with pytest.raises(
        ValueError, match=r"without a run to keep the mean in; call loss\(net, batch, noise, ctx\)"
    ):
        objective.loss(net, Batch(Y, source=X), NOISE)
    assert math.isfinite(float(objective.loss(net, Batch(Y, source=X), NOISE, one).per_sample.sum()))


def test_the_weighted_field_is_that_of_the_tilted_ends() -> None:
    """Gaussians in one dimension with squared costs stay Gaussian: exp(−(x − y)²/eps) N(x; 0, 1) N(y; m, v)
    has precision [[1 + 2/eps, −2/eps], …], and the best straight line through the weighted pairs is its
    regression, not the one of the data; balanced weights keep the data's mean."""
    n, m, std, eps = 4000, 1.5, 1.3, 6.0
    x, y = points(n, 1), m + std * points(n, 1, 3)
    precision = torch.tensor([[1 + 2 / eps, -2 / eps], [-2 / eps, 1 / std**2 + 2 / eps]], dtype=torch.float64)
    cov, mean = (
        precision.inverse(),
        torch.linalg.solve(precision, torch.tensor([0.0, m / std**2], dtype=torch.float64)),
    )
    w = run(x, y, eps=eps, cost="l2sq").weight
    assert (
        float((w * y[:, 0]).mean()) == pytest.approx(float(mean[1]), abs=0.08)
        and abs(float(mean[1]) - m) > 0.3
    )
    joint = (w[:, None] * torch.cat([x, y], 1)).T @ torch.cat([x, y], 1) / n - torch.outer(mean, mean)
    torch.testing.assert_close(joint, cov, rtol=0, atol=0.12)
    even = run(x[:1000], y[:1000], eps=eps, cost="l2sq", balance=20).weight
    assert float((even * y[:1000, 0]).mean()) == pytest.approx(float(y[:1000].mean()), abs=0.12)
    # and still pulls near ones together
    assert float((even * (x[:1000] * (y[:1000] - y[:1000].mean()))[:, 0]).mean()) > 0.2


def test_warnings_in_words_once() -> None:
    with pytest.warns(UserWarning) as caught:
        coupling = Gibbs(eps=0.3)
        for step in (0, 16, 32):
            coupling(X, Y, Cond(), NOISE.at(step))
    said = [str(w.message) for w in caught]
    assert (
        len(said) == 2
        and "rest on" in said[0]
        and "% of its pairs" in said[0]
        and "Raise eps, which is 0.3 here, or set ess: 0.7" in said[0]
    )
    assert "shifted version of your data" in said[1] and "balance: 10" in said[1]
    with pytest.warns(UserWarning, match="the largest weight of this batch is .*Set normalise: batch"):
        Gibbs(eps=0.05, normalise="none")(X[:8], Y[:8] + 9, Cond(), NoiseSource(range(8)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Gibbs(eps=8.0)(X, Y, Cond(), NOISE), Gibbs(balance=10)(X, Y, Cond(), NOISE)
        Gibbs(eps=0.3)(X[:8], Y[:8], Cond(), NoiseSource(range(8)))  # too few to judge


def test_gradients_do_not_flow_through_weights() -> None:
    x, y = X.clone().requires_grad_(), Y.clone().requires_grad_()
    for options in ({}, {"balance": 5}):
        out = Gibbs(**options)(x, y, Cond(), NOISE)
        assert not out.weight.requires_grad and out.source is x and out.data is y


def test_bf16_autocast_changes_no_weight() -> None:
    x, y = points(40, 500).float(), points(40, 500, 2).float()
    alone = run(x, y, eps=2.0, balance=5)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(run(x, y, eps=2.0, balance=5).weight, alone.weight, rtol=0, atol=0)


def test_refusals() -> None:
    for options, message in (
        ({"eps": 0.0}, "got eps=0.0, expected a positive number"),
        ({"eps": -1.0}, "got eps=-1.0, expected a positive number"),
        ({"eps": math.nan}, "expected a positive number"),
        ({"kappa": 0.0}, "got kappa=0.0, expected a positive number"),
        ({"relative": -2.0}, "got relative=-2.0, expected a positive number"),
        ({"ess": 0.0}, "got ess=0.0, expected a positive number"),
        ({"ess": 1.0}, "got ess=1.0, expected a share of the batch below 1"),
        ({"eps": 1.0, "ess": 0.5}, "got eps=1.0 and ess=0.5, expected one of eps, kappa, relative and ess"),
        ({"kappa": 1.0, "relative": 0.5, "eps": 2.0}, "got eps=2.0 and kappa=1.0 and relative=0.5"),
        ({"cost": "l3"}, "got cost 'l3', expected l2"),
        ({"normalise": "mean"}, "got normalise='mean', expected one of batch, running, none"),
        ({"normalise": "none"}, "a temperature that changes from batch to batch; set eps or kappa"),
        ({"normalise": "running", "ess": 0.5}, "a temperature that changes from batch to batch"),
        ({"balance": -1}, "got balance=-1"),
    ):
        with pytest.raises(ValueError, match=message):
            Gibbs(**options)


def test_memory_balances_over_past_batches() -> None:
    """Batches that follow each other weigh as the front of the plan of all of them; what is remembered is the
    last ones."""
    coupling, state = Gibbs(eps=1.0, balance=200, memory=2), {}
    batches = [(points(24, 2, 2 * i), 0.5 * points(24, 2, 2 * i + 1) + 1) for i in range(3)]
    with torch.enable_grad():
        for x, y in batches:
            out = coupling(x, y, Cond(), NoiseSource(range(24)), state=state)
    assert state["sources"].shape == (48, 2) and torch.equal(state["sources"][:24], batches[2][0])
    x, y = (torch.cat([b[k] for b in reversed(batches)]) for k in (0, 1))
    plan = entropic_plan(-torch.cdist(x, y).double(), 200)
    own = plan.diagonal()[:24].exp()
    torch.testing.assert_close(out.weight.double(), own / own.mean(), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="memory=2 without balance"):
        Gibbs(eps=1.0, memory=2)
