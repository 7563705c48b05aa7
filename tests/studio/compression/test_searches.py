"""Searches: what a threshold of nothing leaves, that a plan's run is the run in which it was found, and the
recorded decisions of the original."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from backbones.caching.plan import Plan
from studio.compression import adaptive, greedy, local, schedules
from studio.compression.cost import Parts, cost
from studio.compression.trial import Trial

Golden = tuple[dict[str, Tensor], dict[str, Any]]
LETTERS = {"AST": "T", "WARS+ASC": "C", "WARS": "W", "ASC": "B"}
SEARCHES: dict[str, Callable[[Trial, Plan, float], tuple[Plan, Tensor]]] = {
    "local": local.searched,
    "greedy": greedy.searched,
    "adaptive": adaptive.searched,
}
every_search = pytest.mark.parametrize("search", list(SEARCHES))


def base(trial: Trial, search: str) -> Plan:
    plan = Plan.full(trial.evaluations, window=3)
    return plan if search == "adaptive" else plan.with_(attention=("FF",) * plan.total)


def test_a_trial_counts_what_a_run_asks(trial: Trial) -> None:
    assert trial.evaluations == (2,) * 8 and trial.guided == (True,) * 16
    assert trial.error(trial.plain) == 0.0 and (trial.apart > 0).all()


@every_search
def test_a_threshold_of_nothing_leaves_all_in_and_changes_no_bit(trial: Trial, search: str) -> None:
    plan, states = SEARCHES[search](trial, base(trial, search), 0.0)
    assert plan.empty and torch.equal(states, trial.plain) and torch.equal(trial.run(plan), trial.plain)


@every_search
def test_a_plan_runs_as_it_was_found_and_costs_less(trial: Trial, search: str) -> None:
    threshold = {"local": 0.5, "greedy": 0.3, "adaptive": 0.05}[search]
    plan, states = SEARCHES[search](trial, base(trial, search), threshold)
    assert not plan.empty and torch.equal(trial.run(plan), states)
    assert 0 < trial.error(states) < 1
    parts = Parts(all=100, trunk=90, layers=2, core=10, window=4, projections=5)
    full = Plan.full(trial.evaluations)
    assert cost(parts, plan, trial.guided).flops < cost(parts, full, trial.guided).flops


def test_an_unconditional_pass_uses_no_blocks_that_it_did_not_run(trial: Trial) -> None:
    """Where both reuse is chosen, a lone unconditional pass stands only behind an evaluation that ran its
    blocks too."""
    for threshold in (0.01, 0.03, 0.1, 0.3):
        plan, _ = adaptive.searched(trial, base(trial, "adaptive"), threshold)
        whole = -1
        for row, (blocks, passes) in enumerate(zip(plan.trunk, plan.uncond)):
            whole = row if blocks == "F" else whole
            if blocks != "F" and passes == "F":
                assert plan.uncond[whole] == "F", (plan.trunk, plan.uncond)


@pytest.mark.parametrize("methods, letters", [({"uncond": False}, "uncond"), ({"trunk": False}, "trunk")])
def test_a_method_can_be_left_out(trial: Trial, methods: dict[str, bool], letters: str) -> None:
    plan, _ = adaptive.searched(trial, base(trial, "adaptive"), 0.2, **methods)
    assert set(getattr(plan, letters)) == {"F"} and not plan.empty


def test_fixed_schedules_are_aligned() -> None:
    """An unconditional pass falls on an evaluation in which the blocks run, but for the first ones behind a
    pause of guidance; a line has two points, and the last evaluation is whole."""
    guided = [False, *[True] * 12, False]
    found = list(schedules.candidates(Plan.full((1,) * 14), guided))
    assert len(found) == len(set(found)) > 10
    for plan in found:
        assert plan.trunk[:2] in ("", "FF") and plan.trunk[-1:] in ("", "F")
        for row, letter in enumerate(plan.uncond):
            if letter == "F" and guided[row] and plan.trunk and plan.trunk[row] != "F":
                assert row in (1, 2)
            assert letter == "F" or guided[row]
    assert schedules.every(3, 9) == "FFLLFLLFF"
    assert not list(schedules.candidates(Plan.full((1,) * 4), [False] * 4, trunk=False))


def test_the_recorded_losses(golden: Callable[[str], Golden]) -> None:
    tensors, _ = golden("attention_misc")
    a, b = tensors["ditfa/loss_a"], tensors["ditfa/loss_b"]
    assert greedy.relative(a, b) == pytest.approx(float(tensors["ditfa/loss_paper"]), rel=1e-5)
    assert greedy.relative(a, b, signed=True) == pytest.approx(float(tensors["ditfa/loss_code"]), rel=1e-5)


def test_the_recorded_plan_and_its_share_of_attention(golden: Callable[[str], Golden]) -> None:
    """Of six steps and four layers, for a table of losses; nine keys of 64 in a window."""
    tensors, notes = golden("attention_misc")
    methods = [LETTERS[m] for m in notes["entries"]["ditfa/plan_losses"]["methods"]]
    rows = ["FFFF"]
    for table in tensors["ditfa/plan_losses"][1:]:

        def loss(tried: str, table: Tensor = table) -> float:
            """Of the last layer that is not full: the one that is tried."""
            layer = max(i for i, letter in enumerate(tried) if letter != "F")
            return float(table[layer, methods.index(tried[layer])])

        rows.append(greedy.decided(4, methods, 0.1, loss))
    recorded = tensors["ditfa/plan_delta0.1"]
    assert rows == ["".join((*methods, "F")[int(i)] for i in row) for row in recorded]
    parts = Parts(all=400, trunk=400, layers=4, core=64, window=9)
    plan = Plan((1,) * 6, tuple(rows), window=4)
    share = cost(parts, plan, [True] * 6).attention / (2 * 6 * 4 * 64)
    assert share == pytest.approx(float(tensors["ditfa/plan_attn_flops_fraction"]), abs=1e-6)
