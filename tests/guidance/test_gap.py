"""The unconditional prediction that a plan leaves out: which calls are made, and where the answer is
exact."""

from typing import Any

import pytest
import torch
from mixture import points
from torch import Tensor

from backbones import Cond, RunContext
from backbones.caching.plan import Plan
from guidance import CFG, Guided, PriorSwap
from samplers import FunctionDenoiser, LinearPath, Prediction, build

COND = Cond(label=torch.zeros(4, dtype=torch.int64))
PATH = LinearPath()


class Apart(FunctionDenoiser):
    """Velocities that lie ``2 + slope · t`` apart, whatever the state; remembers its calls."""

    def __init__(self, slope: float = 0.0):
        self.slope, self.calls = slope, []  # type: float, list[tuple[str, int]]
        super().__init__(PATH, self.velocity)

    def velocity(self, x: Tensor, t: Any, cond: Cond) -> Prediction:
        apart = 0.0 if cond.label is not None and int(cond.label[0]) >= 0 else 2 + self.slope * float(t)
        return Prediction("velocity", torch.sin(3 * x) + apart, x, t, PATH)

    def predict(self, x: Tensor, t: Any, cond: Cond, ctx: RunContext | None = None) -> Prediction:
        assert ctx is not None
        self.calls.append((ctx.branch, ctx.step))
        return super().predict(x, t, cond, ctx)


def sampled(
    model: Apart, plan: Plan | None, rules: list[Any], sampler: str = "euler", steps: int = 6
) -> Tensor:
    return build(sampler).sample(
        Guided(model, rules), points(4), COND, num_steps=steps, ctx=RunContext(plan=plan)
    )


def uncond(model: Apart) -> list[int]:
    return [step for branch, step in model.calls if branch == "uncond"]


@pytest.mark.parametrize("uncond_letters, slope", [("FRRFRR", 0.0), ("FFLLFL", 0.7), ("FFLLLL", -1.0)])
def test_it_is_exact_where_the_two_stand_still_or_part_along_a_line(
    uncond_letters: str, slope: float
) -> None:
    there, model = Apart(slope), Apart(slope)
    expected = sampled(there, None, [CFG(3.0)])
    made = sampled(model, Plan((1,) * 6, uncond=uncond_letters), [CFG(3.0)])
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
    assert uncond(there) == list(range(6))
    assert uncond(model) == [i for i, letter in enumerate(uncond_letters) if letter == "F"]


def test_a_solver_of_two_evaluations_a_step_has_a_letter_for_each() -> None:
    there, model = Apart(0.7), Apart(0.7)
    plan = Plan((2, 2, 2, 2), uncond="FFLFLFLL")
    made = sampled(model, plan, [CFG(3.0)], "heun", 4)
    torch.testing.assert_close(made, sampled(there, None, [CFG(3.0)], "heun", 4), rtol=1e-5, atol=1e-5)
    assert len(there.calls) == 16 and uncond(model) == [0, 0, 1, 2]


def test_after_a_pause_of_guidance_it_is_asked() -> None:
    model = Apart()
    sampled(model, Plan((1,) * 6, uncond="FRRRRR"), [CFG(3.0, interval=(0.4, 0.9))])
    assert uncond(model) == [3]
    model = Apart()
    sampled(model, Plan((1,) * 6, uncond="FRRRRR"), [CFG(3.0, interval=(0.3, 0.9))])
    assert uncond(model) == [2]


def test_a_plan_that_leaves_nothing_out_changes_no_bit() -> None:
    assert torch.equal(
        sampled(Apart(0.7), Plan((1,) * 6, uncond="FFFFFF"), [CFG(3.0)]),
        sampled(Apart(0.7), None, [CFG(3.0)]),
    )


def test_another_model_sees_no_plan() -> None:
    """A prior that provides the unconditional branch is a network of its own."""
    seen: list[Plan | None] = []

    class Prior(Apart):
        def predict(self, x: Tensor, t: Any, cond: Cond, ctx: RunContext | None = None) -> Prediction:
            assert ctx is not None
            seen.append(ctx.plan)
            return super().predict(x, t, cond, ctx)

    sampled(Apart(), Plan((1,) * 6, uncond="FRFRFR"), [PriorSwap(Prior(1.0)), CFG(2.0)])
    assert seen == [None] * 3
