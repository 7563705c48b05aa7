"""Potentials of the page on balanced weights: a plan's marginals, and the optimum that the network climbs
to."""

import torch

from backbones.types import Cond, NoiseSource
from studio.reproduce import potentials, toy


def test_the_fitted_potentials_make_a_plan_with_uniform_marginals() -> None:
    x, y, f, g = potentials.fitted("eight_gaussians", "moons", 1.0, 300)
    plan = (f[:, None] + g - torch.cdist(x, y).double()).exp() / 300**2
    for axis in (0, 1):
        assert torch.allclose(plan.sum(axis), torch.full((300,), 1 / 300, dtype=torch.float64), rtol=1e-4)


def test_anchors_and_other_points_get_the_same_formula() -> None:
    weigh = potentials.Potentials(eps=1.0, anchors=300)
    x, y, f, g = potentials.fitted("eight_gaussians", "moons", 1.0, 300)
    made = weigh(x, y, Cond(), NoiseSource([0] * 300))
    assert torch.allclose(made.weight, (f + g - (x - y).norm(dim=1).double()).exp(), rtol=1e-3)
    assert torch.equal(made.source, x) and torch.equal(made.data, y)


def test_the_learned_potential_reaches_the_semi_dual_of_sinkhorn() -> None:
    """On one fixed batch the optimum is Sinkhorn's; the network closes nine tenths of the way there."""
    eps, batch = 1.0, toy.ends("eight_gaussians", "moons", 3, 128, toy.TEST)
    grid = torch.cdist(batch.source, batch.data).double() / eps
    plan = potentials.transport.entropic_plan(-grid, 500).exp()
    # mean f + mean g at the optimum
    best = float((plan * (grid + plan.log())).sum()) + 2 * torch.log(torch.tensor(128.0)).item()
    weigh = potentials.Potentials(eps=eps)

    def value() -> float:
        with torch.no_grad():
            g = weigh.net(batch.data)[:, 0].double()  # type: ignore[misc]
        return float(potentials.transform(grid, g).mean() + g.mean())

    before = value()
    for _ in range(600):
        weigh(batch.source, batch.data, Cond(), NoiseSource([0] * 128))
    after = value()
    assert best - 0.1 * (best - before) < after <= best + 1e-3
