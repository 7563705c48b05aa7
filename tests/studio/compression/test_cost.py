"""What a run costs: counted against a count by hand, and against a counter around a whole run."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import studio
from backbones.caching.plan import Plan
from backbones.types import RunContext
from studio.checkpoints import plans
from studio.compression.cost import CPU, Parts, cost, memory, network_call, parts_of
from studio.compression.trial import Trial, Watched
from studio.model.checked_request import run_of
from studio.model.model import Model
from studio.training.run import Run

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
    plan = PLANS[name]
    request = replace(trial.request.of([0], (0,), (0,)), plan=plan)
    counter = FlopCounterMode(display=False, custom_mapping=CPU)
    with counter, torch.no_grad():
        list(model.stream(request))
    assert cost(parts(model), plan, trial.guided).flops == counter.get_total_flops()


def test_memory_by_hand(model: Model) -> None:
    found, both = parts(model), [True] * 16
    assert found.change == found.kept and found.sample == 8 * 8
    assert memory(found, PLANS["whole"], both) == 0
    assert memory(found, PLANS["blocks"], both) == 2 * 2 * found.kept * 4
    assert memory(found, PLANS["blocks"], [False] * 16) == 2 * found.kept * 4
    # two layers' outputs and rests behind the first evaluation
    plan = Plan((1, 1, 1), ("FF", "TT", "WW"), window=3)
    assert memory(found, plan, both[:3]) == 4 * 2 * found.kept * 4
    # one layer holds its output while the other makes its own
    plan = Plan((1, 1, 1), ("FF", "TF", "FT"), window=3)
    assert memory(found, plan, both[:3]) == 2 * 2 * found.kept * 4


@pytest.mark.parametrize("name", list(PLANS))
def test_memory_is_what_a_run_keeps(model: Model, trial: Trial, name: str) -> None:
    """The most that lies in the run's context after any evaluation; exact where branches share nothing."""
    held: list[int] = []

    def watch(ask: Any, ctx: RunContext) -> None:
        held.append(bytes_of(ctx.caches))

    rows = range(2)
    request = replace(trial.request.of(rows, (0, 1), (0, 1)), plan=PLANS[name])
    for _ in model.stream(request, around=lambda inner: Watched(inner, watch)):
        pass
    found = memory(parts(model), PLANS[name], trial.guided) * len(rows)
    assert max(held) == found if name not in ("attention", "all") else 0.6 * found < max(held) <= found


def bytes_of(kept: Any) -> int:
    """Of all tensors, each once."""
    found: dict[int, int] = {}

    def look(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found[id(value)] = value.nbytes
        elif isinstance(value, dict):
            list(map(look, value.values()))
        elif isinstance(value, tuple):
            list(map(look, value))

    look(kept)
    return sum(found.values())


def test_a_cache_limit_holds(model: Model, trial: Trial) -> None:
    """Ten samples of which three may be kept at a time."""
    plan, held = PLANS["blocks"], [0]
    each = memory(parts(model), plan, trial.guided)
    key = run_of(model, replace(trial.request, plan=None))
    path = plans.write(model.folder / "plans", plans.Saved("limited", key, plan, {"memory": each}))

    def watch(ask: Any, ctx: RunContext) -> None:
        held.append(bytes_of(ctx.caches))

    options: dict[str, Any] = {"seeds": "0-9", "num_steps": 8, "sampler": "heun", "guidance": "cfg=3"}
    request, _ = model.planned(path, 3 * each + 1).request(**options)
    assert request.batch == 3
    for _ in model.stream(request, around=lambda inner: Watched(inner, watch)):
        pass
    assert max(held) == 3 * each
    path.unlink()


def test_memory_of_a_network_without_attention(points_run: Run) -> None:
    """Of an MLP: two changes of its stream."""
    net = studio.load(points_run.folder, dtype="fp32", device="cpu").denoiser.net
    found = parts_of(net, network_call(net, (2,)), window=1)
    assert found.layers == 0 and found.change > 0
    plan = Plan((1,) * 4, trunk="FFRR")
    assert memory(found, plan, [False] * 4) == 2 * found.change * 4
