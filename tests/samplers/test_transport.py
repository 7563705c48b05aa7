"""Distances, assignments and plans: against POT, sorting, recorded plans and their own definitions."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from mixture import points
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from samplers.couplings import transport
from samplers.couplings.planned import Sinkhorn

CASES = ("n8d2", "n32d2", "n16d64")


@pytest.fixture(scope="module")
def plans(golden: Callable[[str], Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return golden("ot_plans")


def clusters(n: int, dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A Gaussian cloud and eight clusters."""
    centres = 5 * points(8, dim, 50)
    return points(n, dim, seed), centres[torch.arange(n) % 8] + 0.5 * points(n, dim, seed + 1)


@pytest.mark.parametrize(  # the coldest plan of so few takes most rounds by far; of more points it is quick
    "case", [pytest.param(c, marks=[pytest.mark.slow] if c == "n8d2" else []) for c in CASES]
)
def test_recorded_plans(plans: Any, case: str) -> None:
    """Costs, the assignment and its value, entropic plans at every temperature; ``partial`` of the whole mass
    is the entropic plan."""
    g, notes = plans[0], plans[1]["cases"][case]
    x, y, cost = g[f"{case}.x0"], g[f"{case}.x1"], g[f"{case}.M"]
    torch.testing.assert_close(
        transport.squared_distances(x, y), cost, rtol=0, atol=1e-12 * float(cost.max())
    )
    source = transport.assignment(cost)
    # recorded the other way round: data of each source
    assert torch.equal(source[g[f"{case}.assignment"]], torch.arange(len(x)))
    assert float(cost[source, torch.arange(len(x))].mean()) == pytest.approx(notes["exact_cost"], rel=1e-12)
    exact = torch.zeros_like(cost).index_put(
        (source, torch.arange(len(x))), torch.tensor(1 / len(x), dtype=torch.float64)
    )
    torch.testing.assert_close(exact, g[f"{case}.exact"], rtol=0, atol=1e-12)
    regs = [k.rpartition("sinkhorn_reg")[2] for k in g if k.startswith(f"{case}.sinkhorn_reg")]
    assert len(regs) >= 2
    for reg in regs:
        plan = Sinkhorn(reg=float(reg), iterations=10**6, tolerance=1e-10).plan(cost).exp()
        # how far the recording's two algorithms are from each other
        recorded = notes[f"sinkhorn_reg{reg}"]["maxdiff_default_vs_log"]
        torch.testing.assert_close(
            plan, g[f"{case}.sinkhorn_reg{reg}"], rtol=0, atol=1e-8 if recorded < 1e-5 else 3e-8
        )
        assert float((plan * cost).sum()) == pytest.approx(notes[f"sinkhorn_reg{reg}"]["cost"], rel=1e-7)
        assert float(-(plan * plan.log()).sum()) == pytest.approx(
            notes[f"sinkhorn_reg{reg}"]["entropy"], rel=1e-6
        )
    if f"{case}.partial_reg0.5" in g:
        plan = Sinkhorn(reg=0.5, iterations=10**5, tolerance=1e-13).plan(cost).exp()
        torch.testing.assert_close(plan, g[f"{case}.partial_reg0.5"], rtol=0, atol=1e-7)
        plan = Sinkhorn(reg=0.5, unbalanced=1.0, iterations=10**5, tolerance=1e-13).plan(cost).exp()
        torch.testing.assert_close(plan, g[f"{case}.unbalanced_reg0.5_regm1"], rtol=0, atol=2e-8)


def test_distances() -> None:
    x, y = 100 + points(30, 200), 100 + points(20, 200, 3)
    exact = (x[:, None] - y).square().sum(-1)
    # float32 sums of centred points
    for dtype, dim, limit in ((torch.float64, 100, 1e-12), (torch.float32, 200, 1e-5)):
        ours = transport.squared_distances(x[:, :dim].to(dtype), y[:, :dim].to(dtype))
        torch.testing.assert_close(
            ours.double(), (x[:, None, :dim] - y[:, :dim]).square().sum(-1), rtol=limit, atol=0
        )
    near = transport.squared_distances(x, x)  # nothing below zero, no noise where a point meets itself
    assert float(near.min()) == 0 and float(near.diagonal().max()) < 1e-3
    free = points(20, 200, 5) > 0
    masked = ((x[:, None] - y).square() * free).sum(-1)
    torch.testing.assert_close(transport.squared_distances(x, y, free).double(), masked, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(transport.pair_squares(x[:20], y), exact.diagonal(), rtol=1e-12, atol=0)
    torch.testing.assert_close(transport.pair_squares(x[:20], y, free), masked.diagonal(), rtol=1e-12, atol=0)
    assert transport.pair_squares(x[:20].bfloat16(), y.bfloat16()).dtype == torch.float32


def test_distances_are_not_rounded_under_autocast() -> None:
    x, y = points(40, 300).float(), points(40, 300, 2).float()
    with torch.no_grad():
        alone = transport.squared_distances(x, y)
    with torch.autocast("cpu", torch.bfloat16), transport.exact(x.device):
        assert torch.equal(transport.squared_distances(x, y), alone)


@pytest.mark.parametrize("dim", [1, 2, 20])
@pytest.mark.parametrize("n", [1, 2, 3, 96, 97, 300])
def test_the_assignment_is_optimal(n: int, dim: int) -> None:
    """The same total as scipy's solver on the costs as they are: reducing them by potentials changes
    nothing."""
    x, y = clusters(n, dim)
    for cost in (transport.squared_distances(x, y), transport.squared_distances(x, y).sqrt()):
        source = transport.assignment(cost)
        assert sorted(source.tolist()) == list(range(n))
        rows, columns = linear_sum_assignment(cost.numpy())
        assert float(cost[source, torch.arange(n)].sum()) == pytest.approx(
            float(cost[rows, columns].sum()), rel=1e-12
        )


def test_the_assignment_of_awkward_costs() -> None:
    """Ties, equal points, far outliers, large numbers and a float32 matrix."""
    n = 150
    ties = torch.randint(0, 3, (n, n), generator=torch.Generator().manual_seed(0)).double()
    far = transport.squared_distances(*clusters(n, 2))
    far[:, 7] += 1e9
    for cost in (ties, torch.zeros(n, n, dtype=torch.float64), far, 1e12 * far, 1e-12 * far, far.float()):
        rows, columns = linear_sum_assignment(cost.numpy())
        source = transport.assignment(cost)
        assert sorted(source.tolist()) == list(range(n))
        assert float(cost.double()[source, torch.arange(n)].sum()) == pytest.approx(
            float(cost.double()[rows, columns].sum()), rel=1e-6
        )
    with pytest.raises(ValueError, match="not finite.*look for NaN"):
        transport.assignment(torch.tensor([[0.0, math.nan], [1.0, 2.0]]))


def test_agrees_with_pot() -> None:
    import ot

    x, y = clusters(200, 2)
    cost = transport.squared_distances(x, y)
    value = ot.emd2(np.full(200, 1 / 200), np.full(200, 1 / 200), cost.numpy())
    assert float(cost[transport.assignment(cost), torch.arange(200)].mean()) == pytest.approx(
        float(value), rel=1e-10
    )


def test_on_a_line_it_sorts() -> None:
    x, y = points(101, 1)[:, 0], 3 * points(101, 1, 4)[:, 0] - 1
    expected = transport.assignment((x[:, None] - y) ** 2)
    assert torch.equal(transport.sort_assignment(x, y), expected)
    assert torch.equal(x[transport.sort_assignment(x, y)][y.argsort()], x.sort().values)


def test_entropic_plans_by_definition() -> None:
    """Exact column sums after every round, row sums in the limit, P_ij = u_i K_ij v_j, and rounds one by
    one."""
    x, y = clusters(40, 3)
    log_kernel = -transport.squared_distances(x, y) / 8
    for rounds in (1, 2, 7, 60):
        plan = transport.entropic_plan(log_kernel, rounds).exp()
        torch.testing.assert_close(
            plan.sum(0), torch.full((40,), 1 / 40, dtype=torch.float64), rtol=1e-10, atol=0
        )
        u, v = torch.ones(40, dtype=torch.float64), torch.ones(40, dtype=torch.float64)
        kernel = log_kernel.exp()
        for _ in range(rounds):
            u = 1 / (40 * (kernel @ v))
            v = 1 / (40 * (kernel.T @ u))
        torch.testing.assert_close(plan, u[:, None] * kernel * v, rtol=1e-9, atol=0)
    plan = transport.entropic_plan(log_kernel, 10**5, tolerance=1e-12)
    torch.testing.assert_close(
        plan.exp().sum(1), torch.full((40,), 1 / 40, dtype=torch.float64), rtol=1e-10, atol=0
    )
    scaling = plan - log_kernel  # f_i + g_j
    torch.testing.assert_close(
        scaling - scaling[:1] - scaling[:, :1], -scaling[:1, :1].expand(40, 40), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cold_plans_do_not_underflow(dtype: torch.dtype) -> None:
    """At temperatures where exp(−C/reg) is 0 in most entries, and in whole rows."""
    x, y = clusters(30, 2)
    cost = transport.squared_distances(x + 40, y).to(dtype)
    plan = transport.entropic_plan(-cost / 0.05, 3000, tolerance=1e-6).exp()
    # exponents of 6e4 have three digits behind the point in float32
    limit = 1e-9 if dtype == torch.float64 else 0.02
    assert bool(torch.isfinite(plan).all())
    torch.testing.assert_close(plan.sum(0), torch.full((30,), 1 / 30, dtype=dtype), rtol=limit, atol=0)


def test_draws_follow_the_plan() -> None:
    n, draws = 5, 60_000
    log_plan = torch.randn(n, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    columns = torch.arange(draws) % n
    u = torch.rand(draws, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for order in (torch.arange(n), torch.tensor([3, 0, 4, 1, 2])):
        rows = transport.draw(log_plan, order, u, columns)
        share = torch.zeros(n, n, dtype=torch.float64).index_put(
            (rows, columns), torch.tensor(n / draws, dtype=torch.float64), accumulate=True
        )
        torch.testing.assert_close(share, log_plan.softmax(0), rtol=0, atol=0.02)
    sure = torch.full((3, 3), -math.inf).fill_diagonal_(0.0)
    assert transport.draw(sure, torch.tensor([2, 0, 1]), torch.tensor([1e-12, 0.5, 1.0])).tolist() == [
        0,
        1,
        2,
    ]
