"""Kinds of samples that nothing here knows go through the one objective by writing a space, a path and a
head: angles on a torus, and tokens that are masked."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from backbones.types import Cond, Noise, NoiseSource
from samplers.batch import Batch, Error, State, squared
from samplers.objective import Objective
from samplers.spaces.euclid import Euclid

TAU = 2 * math.pi


def wrap(x: Tensor) -> Tensor:
    return torch.remainder(x + math.pi, TAU) - math.pi


class Torus(Euclid):
    """Angles in [−π, π)."""

    def prior(self, noise: Noise, shape: Any, *, scale: float = 1.0, dtype: Any = torch.float32) -> Tensor:
        return wrap(TAU * noise.uniform(shape, stream="prior", dtype=dtype))

    def difference(self, a: Tensor, b: Tensor) -> Tensor:
        """The shortest way from a to b."""
        return wrap(b - a)


class Own:
    """What both paths share."""

    t_start, prior_scale, fixed = 0.0, 1.0, ()
    weights, weight = {"even": "samplers.weights:Even"}, "even"

    def trained_time(self, t: Tensor) -> Tensor:
        return t

    def network_time(self, t: Any) -> Tensor:
        return torch.as_tensor(t)

    def coupling(self, spec: Any) -> Any:
        return spec

    def energy(self, pairs: Any, t: Tensor) -> None:
        return None


class Geodesic(Own):
    native, space = "velocity", "torus"

    def state(self, space: Torus, pairs: Any, t: Tensor, noise: Noise) -> State:
        way = space.difference(pairs.source, pairs.data)
        return State(wrap(pairs.source + t.to(way)[:, None] * way), t, pairs.cond, {"velocity": way})


class Masked(Own):
    """Each token is hidden with probability 1 − t (Sahoo et al. 2406.07524); the last number stands for a
    hidden one."""

    native, space = "logits", "tokens"

    def __init__(self, words: int):
        self.words = words

    def coupling(self, spec: Any) -> None:
        return None

    def state(self, space: Any, pairs: Any, t: Tensor, noise: Noise) -> State:
        hidden = noise.uniform(pairs.data.shape[1:], stream="mask") > t.to(torch.float32)[:, None]
        return State(torch.where(hidden, self.words, pairs.data), t, pairs.cond, {"data": pairs.data})


class Velocity:
    channels, cond_source = 1, False

    def predict(self, net: Any, x: Tensor, t: Any, cond: Cond, path: Any, ctx: Any = None) -> Tensor:
        return net(x, t)

    def errors(self, p: Tensor, state: State, space: Any) -> list[Error]:
        return squared([("error", p - state.targets["velocity"], torch.ones(()))], state, space)


class Logits:
    channels, cond_source = 1, False

    def predict(self, net: Any, x: Tensor, t: Any, cond: Cond, path: Any, ctx: Any = None) -> Tensor:
        return net(x, t)

    def errors(self, p: Tensor, state: State, space: Any) -> list[Error]:
        """Cross-entropy of hidden tokens over the share that is hidden at t."""
        ce = nn.functional.cross_entropy(p.transpose(1, 2), state.targets["data"], reduction="none")
        hidden = state.x == p.shape[-1]
        return [Error("error", (ce * hidden).mean(1) / (1 - state.t).clamp_min(1e-3).to(ce), torch.ones(()))]


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

    def forward(self, x: Tensor, t: Any) -> Tensor:
        clock = torch.as_tensor(t).to(x).expand(len(x))[:, None]
        return self.net(torch.cat([x.sin(), x.cos(), clock], 1))


def test_angles_are_learned_across_the_seam() -> None:
    """Data about ±π, half on each side of the seam: in numbers their mean is 0, the farthest point from all
    of them."""
    torch.manual_seed(0)
    space = Torus()
    objective = Objective(Geodesic(), Velocity(), space=space)
    data = wrap(math.pi + 0.2 * torch.randn(256, 1))
    net = Wave()
    losses = trained(objective, net, data, 300, 3e-3)
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])
    x = space.prior(NoiseSource(range(512)), (1,))
    for k in range(20):
        x = wrap(x + net(x, k / 20).detach() / 20)
    off = space.difference(torch.full_like(x, math.pi), x)
    assert float(off.abs().mean()) < 0.5 and float(x.abs().mean()) > 2.5


class Unigram(nn.Module):
    """Says the same of every hidden token, whatever stands beside it."""

    def __init__(self, words: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(words))

    def forward(self, x: Tensor, t: Any) -> Tensor:
        return self.logits.expand(*x.shape, -1)


def test_masked_tokens_learn_their_frequencies() -> None:
    """The best that one distribution for all can say are the data's frequencies, at the cost of their
    entropy."""
    shares = torch.tensor([0.6, 0.3, 0.1])
    data = torch.multinomial(shares, 256 * 8, True, generator=torch.Generator().manual_seed(0)).view(256, 8)
    net = Unigram(3)
    losses = trained(Objective(Masked(3), Logits(), space=Euclid()), net, data, 200, 0.05)
    found = data.flatten().bincount().float() / data.numel()
    torch.testing.assert_close(net.logits.detach().softmax(0), found, rtol=0, atol=0.02)
    entropy = float(-(found * found.log()).sum())
    assert abs(sum(losses[-50:]) / 50 - entropy) < 0.03
