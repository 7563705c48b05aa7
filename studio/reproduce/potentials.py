"""Weights of an entropic plan whose potentials come from beyond the batch, for the page on balanced weights.

    w(x, y) = exp((f(x) + g(y) − c(x, y))/eps),   c = |x − y|

With the true potentials of the two distributions, w is the density of their entropic plan: no tilt, and no
trace of what else is in the batch. Two ways to know them (in units of eps below):

    fitted    Sinkhorn's on ``anchors`` points of either side, once; f(x) = −log mean_j exp(g_j − c(x,
              y_j)/eps) and likewise g for points that are not among them
    learned   g is a small network that climbs the semi-dual E f(x) + E g(y) by one Adam step a batch (Genevay
              et al. 1605.08527), f its transform over the batch
"""

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from backbones.types import Cond, NoiseSource
from samplers.couplings import coupling, transport
from samplers.couplings.gibbs import ess_of, relative_variance
from studio.reproduce import toy

ANCHORS = 4  # a page of the noise that nothing else draws from
ROUNDS = 500


def transform(costs: Tensor, potential: Tensor) -> Tensor:
    """(B, M) costs and (M,) potential, both over eps, to (B,): the other potential."""
    return math.log(len(potential)) - (potential - costs).logsumexp(1)


@lru_cache(maxsize=2)
def fitted(source: str, data: str, eps: float, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``count`` anchors of either side (N, 2) with their potentials over eps (N,)."""
    ends = toy.ends(source, data, 0, count, ANCHORS)
    costs = transport.squared_distances(ends.source, ends.data).sqrt().double() / eps
    log_plan = transport.entropic_plan(-costs, ROUNDS)
    # f_0 + g: the plan knows them up to a constant that moves between the two
    g = (log_plan + costs)[0] + 2 * math.log(count)
    return ends.source, ends.data, transform(costs, g), g


class Potentials:
    """``anchors``: how many points the potentials are fitted to; 0 for a network that learns as training
    goes. ``source`` and ``data`` name the ends as `toy.ends` does. ``logs`` as of
    `samplers.couplings.gibbs.Gibbs`."""

    def __init__(self, *, eps: float, anchors: int = 0, source: str = "eight_gaussians", data: str = "moons"):
        self.eps, self.anchors, self.ends = eps, anchors, (source, data)
        self.net = None if anchors else _network()
        self.adam = None if self.net is None else torch.optim.Adam(self.net.parameters(), lr=1e-3)

    def __call__(self, source: Tensor, data: Tensor, cond: Cond, noise: NoiseSource) -> coupling.Coupled:
        grid = torch.cdist(source, data).double() / self.eps
        f, g = self._fitted(source, data) if self.net is None else self._learned(grid, data)
        log_grid = f[:, None] + g - grid
        log_weight = log_grid.diagonal()
        logs = {
            "ess": ess_of(log_weight),
            "mean_cost": (log_weight.softmax(0) * grid.diagonal() * self.eps).sum(),
        }
        logs |= {
            "tilt_source": relative_variance(log_grid.logsumexp(1)),
            "tilt_data": relative_variance(log_grid.logsumexp(0)),
        }
        return coupling.Coupled(source, data, cond, log_weight.exp(), logs)

    def _fitted(self, source: Tensor, data: Tensor) -> tuple[Tensor, Tensor]:
        x, y, f, g = fitted(*self.ends, self.eps, self.anchors)
        return transform(torch.cdist(source, y).double() / self.eps, g), transform(
            torch.cdist(data, x).double() / self.eps, f
        )

    def _learned(self, grid: Tensor, data: Tensor) -> tuple[Tensor, Tensor]:
        assert self.net is not None and self.adam is not None
        with torch.enable_grad():
            g = self.net(data)[:, 0].double()
            f = transform(grid, g)
            self.adam.zero_grad()
            (-(f.mean() + g.mean())).backward()
            self.adam.step()
        return f.detach(), g.detach()


def _network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[Any] = [nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1)]
        return nn.Sequential(*layers)
