"""Kinds of samples that nothing here knows are trained and sampled by writing a space and a path: angles on a
torus, which the ordinary solvers step, and tokens that are masked, with a sampler of their own."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbones.types import Cond, Noise, NoiseSource
from samplers import Batch, Denoiser, FunctionDenoiser, Objective, Prediction, build
from samplers.batch import Ends, Error, State
from samplers.heads.plain import Target
from samplers.objective import build_objective
from samplers.paths import AnyPath, as_time
from samplers.solvers.base import Sampler
from samplers.spaces import REGISTRY, Space, of
from samplers.spaces.euclid import Euclid

TAU = 2 * math.pi


def wrap(x: Tensor) -> Tensor:
    return torch.remainder(x + math.pi, TAU) - math.pi


# ---- written outside: a torus ----------------------------------------------------------------------


class Torus(Euclid):
    """Angles in [−π, π)."""

    name = "torus"

    def start(
        self,
        noise: Noise,
        shape: Sequence[int],
        cond: Cond = Cond(),
        *,
        scale: float = 1.0,
        stream: str = "prior",
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Cond]:
        return wrap(TAU * noise.uniform(shape, stream=stream, dtype=dtype)), cond

    def project(self, x: Tensor, cond: Cond) -> Tensor:
        return wrap(x)

    def difference(self, a: Tensor, b: Tensor) -> Tensor:
        return wrap(a - b)

    def step(self, x: Tensor, d: Tensor) -> Tensor:
        return wrap(x + d)


class Geodesic(AnyPath):
    """The shortest way from source to data, at an even pace (Chen & Lipman 2302.03660)."""

    space = Torus()

    def state(self, space: Space, pairs: Ends, t: Tensor, noise: Noise) -> State:
        way = space.difference(pairs.data, pairs.source)
        x = space.step(pairs.source, t.to(way)[:, None] * way)
        return State(x, t, pairs.cond, {"velocity": way})

    def convert(self, prediction: Prediction, to: str) -> Tensor:
        """The data lie where the way that is left leads."""
        if (prediction.space, to) != ("velocity", "data"):
            return super().convert(prediction, to)
        left = (1 - as_time(prediction.t)).to(prediction.x).reshape(-1, 1)
        return of(self.space).step(prediction.x, left * prediction.value)


# ---- and masked tokens -----------------------------------------------------------------------------


class Tokens(Euclid):
    """Numbers of words (B, L); the last number stands for a hidden one."""

    name, geometry = "tokens", "discrete"

    def __init__(self, words: int):
        self.words = words

    def start(
        self,
        noise: Noise,
        shape: Sequence[int],
        cond: Cond = Cond(),
        *,
        scale: float = 1.0,
        stream: str = "prior",
        dtype: torch.dtype = torch.int64,
    ) -> tuple[Tensor, Cond]:
        return torch.full_like(noise.uniform(shape, stream=stream), self.words, dtype=torch.int64), cond


class Masked(AnyPath):
    """Each token is hidden with probability 1 − t (Sahoo et al. 2406.07524)."""

    native = "logits"

    def __init__(self, words: int):
        self.space = Tokens(words)

    def coupling(self, spec: Any) -> None:
        """There is but one source: everything is hidden."""

    def state(self, space: Tokens, pairs: Ends, t: Tensor, noise: Noise) -> State:
        hidden = noise.uniform(pairs.data.shape[1:], stream="mask") > t.to(torch.float32)[:, None]
        return State(torch.where(hidden, space.words, pairs.data), t, pairs.cond, {"data": pairs.data})

    def convert(self, prediction: Prediction, to: str) -> Tensor:
        if to == "probs":
            return prediction.value.softmax(-1)
        if to != "data":
            return super().convert(prediction, to)
        return torch.where(prediction.x == self.space.words, prediction.value.argmax(-1), prediction.x)


class Logits(Target):
    def __init__(self) -> None:
        super().__init__("logits")

    def predict(self, net: Any, x: Tensor, t: Any, cond: Cond, path: Any, ctx: Any = None) -> Prediction:
        return Prediction("logits", net(x, t), x, t, path)

    def errors(self, p: Prediction, state: State, space: Tokens) -> list[Error]:
        """Cross-entropy of hidden tokens over the share that is hidden at t."""
        ce = nn.functional.cross_entropy(p.value.transpose(1, 2), state.targets["data"], reduction="none")
        share = (1 - state.t).clamp_min(1e-3).to(ce)
        return [Error("error", (ce * (state.x == space.words)).mean(1) / share, torch.ones(()))]


class Unmask(Sampler):
    """Of what is hidden a share (s − t)/(1 − t) is drawn in a step."""

    spaces = ("tokens",)

    def step(self, x: Tensor, t: float, s: float, predict: Any, noise: Any, history: list[Any]) -> Tensor:
        probs = predict(x, t).to("probs")
        u = noise.uniform((2, *x.shape[1:]), stream="step")
        drawn = (probs.cumsum(-1) < u[:, 0, :, None]).sum(-1).clamp_max(probs.shape[-1] - 1)
        told = (x == predict(x, t).path.space.words) & (u[:, 1] < (s - t) / (1 - t))
        return torch.where(told, drawn, x)


def trained(objective: Objective, net: nn.Module, data: Tensor, steps: int, rate: float) -> list[float]:
    optimiser, losses = torch.optim.Adam(net.parameters(), lr=rate), []
    for step in range(steps):
        noise = NoiseSource([0] * len(data), index=torch.arange(len(data)), step=step)
        loss = objective.loss(net, Batch(data), noise).per_sample.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


class Wave(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, x: Tensor, t: Tensor, cond: Any = None, ctx: Any = None) -> Tensor:
        return self.net(torch.cat([x.sin(), x.cos(), t.to(x)[:, None] / 1000], 1))


def test_angles_are_learned_and_sampled_across_the_seam() -> None:
    """Data about ±π, half on each side of the seam: in numbers their mean is 0, the farthest point from all
    of them. The ordinary samplers walk on the torus, and what is known of a sample stays."""
    torch.manual_seed(0)
    path = Geodesic()
    data = wrap(math.pi + 0.2 * torch.randn(256, 1))
    net, head = Wave(), Target("velocity")
    losses = trained(Objective(path, head), net, data, 300, 3e-3)
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])
    model, noise = Denoiser(net, path, head), NoiseSource(range(512))
    x, cond = path.space.start(noise, (1,))
    batch = Batch(
        data, Cond(known=torch.ones(256, 1, dtype=torch.bool))
    )  # known: clean, and nothing to learn
    assert float(Objective(path, head).loss(net, batch, NoiseSource(range(256))).per_sample.abs().max()) == 0
    for name in ("euler", "heun", "ab2", "rk4"):
        samples = build(name).sample(model, x, cond, noise, num_steps=20)
        off = path.space.difference(samples, torch.full_like(samples, math.pi))
        assert float(off.abs().mean()) < 0.5 and float(samples.abs().mean()) > 2.5, name
        assert float(samples.abs().max()) <= math.pi
    given = Cond(known=torch.tensor([[True]]).expand(512, 1), given=torch.full((512, 1), 3.0))
    assert torch.equal(build("euler").sample(model, x, given, noise, num_steps=5), given.given)


def test_a_constant_wind_turns_every_sampler_by_the_same_angle() -> None:
    """Exact on the torus: velocity w for a unit of time is a turn by w, however often it passes the seam; and
    the data seen from the way are the end, at every step."""
    path, wind = Geodesic(), 9.0
    model = FunctionDenoiser(
        path, lambda x, t, c: Prediction("velocity", torch.full_like(x, wind), x, t, path)
    )
    x = path.space.start(NoiseSource(range(64)), (3,), dtype=torch.float64)[0]
    for name in ("euler", "ab2", "midpoint", "heun", "rk4", "torchdiffeq"):
        for step in build(name).steps(model, x, num_steps=7):
            assert float(path.space.difference(step.data_hat, x + wind).abs().max()) < 1e-9, name
            assert float(step.x.abs().max()) <= math.pi
        assert float(path.space.difference(step.x, x + wind).abs().max()) < 1e-9, name


def test_known_angles_are_put_back_as_noisy_as_the_rest() -> None:
    """Of a model that was not trained with them: on their own way at every time, at the end in place."""
    path = Geodesic()
    model = FunctionDenoiser(path, lambda x, t, c: Prediction("velocity", torch.zeros_like(x), x, t, path))
    known, noise = torch.tensor([[True, False]]).expand(4, 2), NoiseSource(range(4))
    cond = Cond(known=known, given=torch.full((4, 2), 3.1))
    x, _ = path.space.start(noise, (2,))
    begin, _ = path.space.start(noise, (2,), stream="known")
    way = path.space.difference(torch.full_like(x, 3.1), begin)
    for step in build("euler").steps(model, x, cond, noise, num_steps=4):
        assert torch.equal(step.x[:, 1], x[:, 1])
        torch.testing.assert_close(step.x[:, 0], wrap(begin + step.s * way)[:, 0], rtol=0, atol=1e-5)


class Unigram(nn.Module):
    """Says the same of every hidden token, whatever stands beside it."""

    def __init__(self, words: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(words))

    def forward(self, x: Tensor, t: Any) -> Tensor:
        return self.logits.expand(*x.shape, -1)


def test_masked_tokens_learn_their_frequencies_and_are_sampled_by_them() -> None:
    """The best that one distribution for all can say are the data's frequencies, at the cost of their
    entropy."""
    shares = torch.tensor([0.6, 0.3, 0.1])
    data = torch.multinomial(shares, 256 * 8, True, generator=torch.Generator().manual_seed(0)).view(256, 8)
    net, path = Unigram(3), Masked(3)
    losses = trained(Objective(path, Logits()), net, data, 200, 0.05)
    found = data.flatten().bincount().float() / data.numel()
    torch.testing.assert_close(net.logits.detach().softmax(0), found, rtol=0, atol=0.02)
    entropy = float(-(found * found.log()).sum())
    assert abs(sum(losses[-50:]) / 50 - entropy) < 0.03
    model, noise = Denoiser(net, path, Logits()), NoiseSource(range(2000))
    samples = Unmask().sample(model, path.space.start(noise, (8,))[0], noise=noise, num_steps=6)
    counts = samples.flatten().bincount(minlength=4).float() / samples.numel()
    assert float(counts[3]) == 0
    torch.testing.assert_close(counts[:3], found, rtol=0, atol=0.03)


def test_what_does_not_fit_a_space_is_refused_in_words() -> None:
    paths: Any = (Geodesic(), Masked(3))
    silent: Any = lambda x, t, c: None  # noqa: E731
    torus, tokens = (FunctionDenoiser(p, silent) for p in paths)
    x, noise = torch.zeros(2, 1), NoiseSource([0, 1])
    for model, sampler, message in (
        (torus, build("ddim"), "DDIM is for models of euclid, got one of torus; choose another sampler"),
        (torus, Unmask(), "Unmask is for models of tokens, got one of torus"),
        (torus, build("dpmpp_2m"), "DPMpp2M is for models of euclid, got one of torus"),
        (torus, build("euler", clip=1.0), "got clip for Euler on the path Geodesic, which has no levels"),
        (torus, build("heun", lambda_min=-5.0), "got lambda_min for Heun on the path Geodesic"),
        (tokens, build("euler"), "Euler is for models of euclid and other flat or curved spaces, got one of"),
    ):
        with pytest.raises(ValueError, match=message):
            sampler.sample(model, x, noise=noise)
    with pytest.raises(ValueError, match="got the space torus on the path LinearPath, whose law is on"):
        Objective(build_objective().path, Target("velocity"), space=Torus())
    with pytest.raises(ValueError, match="got a prediction of velocity, from which noise does not follow"):
        Prediction("velocity", x, x, 0.5, Geodesic()).to("noise")
    with pytest.raises(ValueError, match="the path Geodesic has no factors of data and noise"):
        Geodesic().time_of(0.0)


@pytest.mark.parametrize("space", [*REGISTRY, Torus()], ids=lambda s: s if isinstance(s, str) else s.name)
def test_laws_of_spaces(space: Any) -> None:
    """step(b, difference(a, b)) is a, in a flat space steps add up, and projecting twice is projecting
    once."""
    space, g = of(space), torch.Generator().manual_seed(0)
    a, b, d = (2 * torch.randn(16, 3, generator=g, dtype=torch.float64) for _ in range(3))
    a, b = space.project(a, Cond()), space.project(b, Cond())
    assert torch.equal(space.project(a, Cond()), a)
    if space.geometry == "discrete":
        with pytest.raises(ValueError, match="no differences"):
            space.difference(a, b)
        return
    torch.testing.assert_close(space.step(b, space.difference(a, b)), a)
    torch.testing.assert_close(space.step(space.step(b, d), d / 2), space.step(b, 1.5 * d))
