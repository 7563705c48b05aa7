"""Couplings of angles measure the ways on the circle; those of numbers are as they were."""

import itertools
from typing import Any

import pytest
import torch
from wrapped import TAU

from backbones import Cond, NoiseSource
from samplers import spaces
from samplers.couplings.costs import Lengths, free_entries
from samplers.couplings.coupling import pair
from samplers.couplings.gibbs import Gibbs
from samplers.couplings.planned import OT, Sinkhorn
from samplers.spaces.torus import wrap

EVEN = spaces.build("torus", prior="uniform")


def test_couplings_measure_ways_on_the_circle() -> None:
    """Exact transport of three angles is the best of all six orders by lengths on the circle, which straight
    distances miss across its cut; a whole turn changes no pair and no weight."""
    source = torch.tensor([[3.1, 0.0], [-1.0, 2.0], [0.5, -3.0]], dtype=torch.float64)
    data = torch.tensor([[0.4, 3.0], [-3.1, 0.1], [-1.2, 1.8]], dtype=torch.float64)
    ways = [EVEN.difference(source[list(p)], data) for p in itertools.permutations(range(3))]
    totals = [float(w.square().sum()) for w in ways]
    noise = NoiseSource(range(3))
    found = pair(OT(), EVEN, source, data, Cond(), noise)
    assert float(found.logs["mean_cost"]) == pytest.approx(min(totals) / 3)
    assert torch.equal(found.source, source[[2, 0, 1]])
    straight = OT()(source, data, Cond(), noise).source
    assert not torch.equal(straight, found.source)
    for coupling in (OT(), OT(resample=True), Sinkhorn(relative=0.1), Gibbs(eps=2.0), Gibbs(balance=10)):
        here, there = (
            pair(coupling, EVEN, source + turn, data, Cond(), noise) for turn in (0.0, torch.tensor(TAU))
        )
        torch.testing.assert_close(wrap(there.source), here.source, rtol=0, atol=1e-6)
        if here.weight is not None and there.weight is not None:
            torch.testing.assert_close(there.weight, here.weight, rtol=0, atol=1e-6)


def test_of_one_angle_too() -> None:
    """Sorting is for lines: on the circle the cut would count."""
    source, data = torch.tensor([[3.0], [0.0]]), torch.tensor([[-3.0], [2.0]])
    found = pair(OT(), EVEN, source, data, Cond(), NoiseSource(range(2)))
    assert torch.equal(found.source, source)


def test_known_angles_have_no_length() -> None:
    """A way is counted over the entries that move."""
    g = torch.Generator().manual_seed(0)
    source, data = (7 * torch.rand(5, 3, 2, generator=g, dtype=torch.float64) for _ in range(2))
    known = torch.rand(5, 3, 1, generator=g) < 0.5
    lengths = Lengths("l2sq", free_entries(data, Cond(known=known)), EVEN)
    gap = EVEN.difference(source[:, None].expand(5, 5, 3, 2), data[None].expand(5, 5, 3, 2))
    by_hand = (gap.square() * ~known).sum((2, 3))
    torch.testing.assert_close(lengths.grid(source, data), by_hand)
    torch.testing.assert_close(lengths.pairs(source, data), by_hand.diagonal())


@pytest.mark.parametrize("coupling", [OT(), Sinkhorn(), Gibbs()])
def test_of_numbers_nothing_changes(coupling: Any) -> None:
    g = torch.Generator().manual_seed(1)
    source, data = (torch.randn(20, 3, generator=g) for _ in range(2))
    noise = NoiseSource(range(20))
    asked = pair(coupling, spaces.build("euclid"), source, data, Cond(), noise)
    plain = coupling(source, data, Cond(), noise)
    assert torch.equal(asked.source, plain.source)
    assert asked.logs.keys() == plain.logs.keys()
    assert all(torch.equal(v, plain.logs[k]) for k, v in asked.logs.items())
