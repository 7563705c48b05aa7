"""A head that says −∇E(x), written outside: it trains through that gradient, samples by it, is steered by
rules that differentiate it again, and forbids forms of a network that have no such gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbones import Cond, DiT, NoiseSource, RunContext
from guidance import Guided
from guidance.rules import Rule
from samplers import Batch, Denoiser, LinearPath, Objective, Prediction, build
from samplers.heads.gradient import check_forms, slope
from samplers.heads.parameterization import Direct, call

STD = 0.5


class Energy(Direct):
    """score = −∇E, E the sum of what the network emits."""

    grad = "double"

    def __init__(self) -> None:
        super().__init__("score")

    def predict(
        self, net: Any, x: Tensor, t: Any, cond: Cond, path: Any, ctx: RunContext | None = None
    ) -> Prediction:
        return Prediction(
            "score", -slope(lambda x: call(net, x, t, cond, path, ctx).flatten(1).sum(1), x), x, t, path
        )


class Bowl(nn.Module):
    """E = |x|² / (2 (p t² + q (1 − t)²)); of normal data of deviation s, p is s² and q is 1."""

    def __init__(self) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor([0.5, -0.5]))

    def forward(self, x: Tensor, t: Tensor, cond: Any = None, ctx: Any = None) -> Tensor:
        (p, q), t = self.log.exp(), t[:, None] / 1000
        return x.square() / (2 * (p * t**2 + q * (1 - t) ** 2))


def test_an_energy_trains_and_samples() -> None:
    """Without the gradient's own gradient nothing would move."""
    torch.manual_seed(0)
    net, path, head = Bowl(), LinearPath(), Energy()
    objective, optimiser = Objective(path, head), torch.optim.Adam(net.parameters(), lr=0.05)
    data = STD * torch.randn(4096, 2)
    for step in range(100):
        rows = torch.arange(256) + 256 * (step % 16)
        loss = objective.loss(
            net, Batch(data[rows]), NoiseSource([0] * 256, index=rows, step=step)
        ).per_sample
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()
    p, q = net.log.exp().tolist()
    assert abs(p / STD**2 - 1) < 0.1 and abs(q - 1) < 0.1
    model, x = Denoiser(net, path, head), torch.randn(1000, 2)
    with torch.inference_mode():
        found = model.predict(x, 0.4, Cond()).to("score")
    torch.testing.assert_close(found, -x / (p * 0.16 + q * 0.36))
    samples = build("heun", last="euler").sample(model, x, num_steps=20)
    assert not samples.requires_grad and abs(float(samples.std()) / STD - 1) < 0.1


def test_attention_is_asked_for_a_form_that_can_be_differentiated_twice() -> None:
    """torch's own on the CPU cannot: training goes through the gradient, and a rule through it in a run."""
    torch.manual_seed(0)
    net = DiT(input_size=4, patch_size=2, in_channels=1, hidden_size=16, depth=1, num_heads=2, num_classes=0)
    for p in net.parameters():
        nn.init.normal_(p, std=0.2)
    noise, x = NoiseSource(range(4)), torch.randn(4, 1, 4, 4)
    Objective(LinearPath(), Energy()).loss(net, Batch(x), noise).per_sample.mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.blocks.parameters())

    class Pull(Rule):
        stage, needs, queries = "finish", frozenset(), True

        def finish(self, prediction: Prediction, *, query: Any, x: Tensor, **rest: Any) -> Prediction:
            (found,) = torch.autograd.grad(query(x, rest["t"]).to("score").square().sum(), x)
            return prediction.with_("score", found)

    model = Denoiser(net, LinearPath(), Energy()).requires_grad_(False).double()
    with torch.no_grad():
        x, t, d = x.double(), 0.5, 1e-4 * torch.randn(4, 1, 4, 4, dtype=torch.float64)
        found = Guided(model, [Pull()]).predict(x, t, Cond()).value
        up, down = (model.predict(x + w * d, t, Cond()).value.square().flatten(1).sum(1) for w in (1, -1))
    torch.testing.assert_close((found * d).flatten(1).sum(1), (up - down) / 2, rtol=1e-3, atol=1e-9)

    class Once(Energy):
        grad = "input"

    with pytest.raises(ValueError, match="got Pull, which follows gradients of the prediction"):
        Guided(Denoiser(net, LinearPath(), Once()), [Pull()])


def test_forms_without_such_gradients_are_refused() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        with pytest.raises(ValueError, match=f"got {str(dtype)[6:]} for the head Energy.*set dtype: fp32"):
            Denoiser(Bowl(), LinearPath(), Energy(), dtype=dtype)
    model = Denoiser(Bowl(), LinearPath(), Energy())
    assert model.lowered() is model
    with pytest.raises(ValueError, match="got bfloat16 for the head Energy"):
        model.with_net(model.net, torch.bfloat16)
    with pytest.raises(ValueError, match="got a compiled network for the head Energy.*set compile: false"):
        check_forms(Energy(), compiled=True)
    check_forms(Direct("score"), dtype=torch.bfloat16, compiled=True)

    class Odd(Energy):
        grad = "twice"

    with pytest.raises(ValueError, match="got grad='twice' of the head Odd, expected one of none, input"):
        Denoiser(Bowl(), LinearPath(), Odd())
