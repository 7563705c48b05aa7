"""What a run costs: counted against a count by hand, and against a counter around a whole run."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from backbones.caching.plan import Plan
from studio.compression.cost import CPU, Parts, cost, memory, network_call, parts_of
from studio.compression.trial import Trial
from studio.model.model import Model

PLANS = {
    "whole": Plan((2,) * 8),
    "blocks": Plan((2,) * 8, trunk="FFLLFLLRRFFLFLFF"),
    "uncond": Plan((2,) * 8, uncond="FFLLFLLRRFFLFLFF"),
    "attention": Plan((2,) * 8, ("FF", "TT", "WB", "CF", "TW", "FF", "BB", "CC", *["FF"] * 8), window=3),
    "all": Plan(
        (2,) * 8,
        ("FF", "FF", "WB", "FF", "FF", "FF", "BB", "CC", *["FF"] * 8),
        "FFFRFRFFFFLLLFFF",
        "FFFFFFFFFFLLLFFF",
        window=3,
    ),
}


def parts(model: Model, window: int = 3) -> Parts:
    return parts_of(model.denoiser.net, network_call(model.denoiser.net, model.info.shape), window=window)


def test_products_are_counted_as_by_hand(model: Model) -> None:
    """Width 32, 16 tokens, two blocks, MLPs of four times the width, patches of 2 × 2."""
    found, d, n = parts(model), 32, 16
    assert found.core == 2 * 2 * n * n * d and found.projections == 2 * n * 4 * d * d
    assert found.trunk == 2 * (found.core + found.projections + 2 * n * 8 * d * d)
    assert found.layers == 2 and found.kept == n * d and found.all > found.trunk
    assert found.window == found.core  # a stretch of queries is longer than the sequence


@pytest.mark.parametrize("name", list(PLANS))
def test_a_plan_costs_what_its_run_executes(model: Model, trial: Trial, name: str) -> None:
    """One sample of a run, all of its network's products counted."""
    from dataclasses import replace

    plan = PLANS[name]
    request = replace(trial.request.of([0], (0,), (0,)), plan=plan)
    counter = FlopCounterMode(display=False, custom_mapping=CPU)
    with counter, torch.no_grad():
        list(model.stream(request))
    assert cost(parts(model), plan, trial.guided).flops == counter.get_total_flops()


def test_memory_is_what_is_kept(model: Model, trial: Trial) -> None:
    found = parts(model)
    assert memory(found, PLANS["whole"]) == 0
    assert memory(found, PLANS["blocks"]) == 2 * 2 * found.kept * 4
    # two layers' outputs and rests behind the first evaluation
    assert memory(found, Plan((1, 1, 1), ("FF", "TT", "WW"), window=3)) == 4 * 2 * found.kept * 4
