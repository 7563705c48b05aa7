"""A rule that asks the model again: posterior sampling, written outside, against the exact posterior."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import guidance
from backbones.types import Cond, RunContext
from guidance import Guided
from guidance.rules import Rule
from samplers import Denoiser, FunctionDenoiser, LinearPath, Prediction, VPPath, build
from samplers.heads.parameterization import Direct

MEAN, STD, SEEN, ERROR = 1.0, 0.7, -0.5, 0.3  # of data in two dimensions; the first is seen, with an error
PATH = VPPath()


class Exact(nn.Module):
    """E[data | x] of normal data, asked as a network."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.calls = nn.Parameter(torch.ones((), dtype=torch.float64)), 0

    def forward(self, x: Tensor, k: Tensor, cond: Any = None, ctx: Any = None) -> Tensor:
        self.calls += 1
        c = PATH.coefficients(1 - (k.double()[:, None] + 1) / PATH.size)
        pull = c.alpha * STD**2 / (c.alpha**2 * STD**2 + c.sigma**2)
        return self.gain * MEAN + pull * (x - c.alpha * MEAN)


class Observed(Rule):
    """The score of the likelihood, −∇ |A data_hat(x) − y|² / (2 var), beside the model's own (as Chung et al.
    2209.14687 have it; exact here, with the variance that is left of the data)."""

    stage, needs, queries = "finish", frozenset(), True

    def finish(
        self, prediction: Prediction, *, query: Any, x: Tensor, t: Any, path: Any, state: dict[str, Any]
    ) -> Prediction:
        c = path.coefficients(t)
        left = STD**2 * c.sigma**2 / (c.alpha**2 * STD**2 + c.sigma**2)
        gap = (query(x, t).to("data")[:, 0] - SEEN).square().sum()
        (slope,) = torch.autograd.grad(gap, x)
        state["asked"] = state.get("asked", 0) + 1
        return prediction.with_("score", prediction.to("score") - slope / (2 * (left + ERROR**2)))


def model() -> Denoiser:
    return Denoiser(Exact(), PATH, Direct("data"))


def start(n: int) -> Tensor:
    """Of mean 0 and deviation 1 exactly: the way to the data is linear, so theirs are known too."""
    x = torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return (x - x.mean(0)) / x.std(0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_samples_follow_the_exact_posterior(mode: Any) -> None:
    """Mean and spread of what is seen as Bayes has them, the rest as it was; whatever the caller's mode."""
    guided = Guided(model(), [Observed()])
    with mode():
        x = build("heun", last="euler").sample(guided, start(500), Cond(label=torch.zeros(500)), num_steps=60)
    share = STD**2 / (STD**2 + ERROR**2)
    mean, std = MEAN + share * (SEEN - MEAN), STD * (1 - share) ** 0.5
    assert not x.requires_grad
    torch.testing.assert_close(x.mean(0), torch.tensor([mean, MEAN], dtype=x.dtype), rtol=0, atol=0.01)
    torch.testing.assert_close(x.std(0), torch.tensor([std, STD], dtype=x.dtype), rtol=0.03, atol=0)


def test_what_a_query_costs_and_sees() -> None:
    """Nothing for rules that do not ask. A query is the model as the other rules guide it, what it keeps
    counts once a step, and the prediction carries no graph."""
    plain, asking, asked = model(), model(), guidance.build("cfg", scale=2.0)
    x, cond = start(8), Cond(label=torch.zeros(8, dtype=torch.int64))
    build("euler").sample(Guided(plain, [asked]), x, cond, num_steps=3)
    assert plain.net.calls == 3  # type: ignore[union-attr]
    build("euler").sample(Guided(asking, [asked, Observed()]), x, cond, num_steps=3)
    assert asking.net.calls == 6  # type: ignore[union-attr]

    seen: list[Prediction] = []

    class Looks(Observed):
        def finish(self, prediction: Prediction, *, query: Any, x: Tensor, **rest: Any) -> Prediction:
            seen[:] = [prediction, query(x, rest["t"])]
            return super().finish(prediction, query=query, x=x, **rest)

    ctx = RunContext(num_steps=3)
    with torch.no_grad():
        out = Guided(asking, [asked, Looks()]).predict(x, 0.5, cond, ctx)
    torch.testing.assert_close(seen[1].to("data"), seen[0].to("data"))
    assert seen[1].value.requires_grad and not out.value.requires_grad and out.x is x
    assert ctx.states["rule 1"][1]["asked"] == 1 and asking.net.gain.grad is None  # type: ignore[union-attr]


def test_gradients_of_a_run_pass_beside_a_query() -> None:
    """Where the start asks for gradients they go through the steps; the pull counts as given."""
    x = start(3).requires_grad_()
    end = build("euler").sample(Guided(model(), [Observed()]), x, num_steps=4)
    (slope,) = torch.autograd.grad(end[:, 1].sum(), x)
    plain = start(3).requires_grad_()
    (same,) = torch.autograd.grad(build("euler").sample(model(), plain, num_steps=4)[:, 1].sum(), plain)
    torch.testing.assert_close(slope, same)


def test_whole_numbers_have_no_gradients() -> None:
    counts = FunctionDenoiser(LinearPath(), lambda x, t, c: Prediction("data", x, x, t, LinearPath()))
    with pytest.raises(
        ValueError, match="got Observed, which follows gradients in the state, for a model of"
    ):
        Guided(counts, [Observed()]).predict(torch.zeros(2, 3, dtype=torch.int64), 0.5, Cond())
