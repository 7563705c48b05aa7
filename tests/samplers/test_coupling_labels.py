"""Optimal transport where samples have labels or numbers: within classes, at a price, or with a word of
warning."""

import warnings

import pytest
import torch
from mixture import points
from torch import Tensor

from backbones import Cond, NoiseSource
from samplers.couplings.costs import condition_distance, groups_of
from samplers.couplings.coupling import Coupled
from samplers.couplings.planned import OT, Sinkhorn

N = 24
SOURCE, DATA, NOISE = points(N, 3), 2 * points(N, 3, 1) + 1, NoiseSource(range(N))
LABELS = torch.arange(N) % 3


def place(rows: Tensor, among: Tensor) -> list[int]:
    """Which row of ``among`` each row is."""
    return [int((among == r).flatten(1).all(1).nonzero()[0, 0]) for r in rows]


def pairs(coupled: Coupled) -> list[tuple[int, int]]:
    return list(zip(place(coupled.source, SOURCE), place(coupled.data, DATA)))


def test_per_class_stays_within_classes() -> None:
    """Each class is transported by itself: its sources are those that were drawn beside it."""
    for kind in (OT(labels="per_class"), Sinkhorn(labels="per_class"), OT(label_cost=1e6)):
        for i, j in pairs(kind(SOURCE, DATA, Cond(label=LABELS), NOISE)):
            assert LABELS[i] == LABELS[j]
    out = OT(labels="per_class")(SOURCE, DATA, Cond(label=LABELS), NOISE)
    for c in range(3):
        rows = LABELS == c
        alone = OT()(SOURCE[rows], DATA[rows], Cond(), NOISE.select(rows))
        assert torch.equal(out.source[rows], alone.source)
    assert pairs(OT(label_cost=0.0)(SOURCE, DATA, Cond(label=LABELS), NOISE)) == pairs(
        OT(labels="ignore")(SOURCE, DATA, Cond(label=LABELS), NOISE)
    )
    two = groups_of(Cond(label={"a": torch.tensor([0, 0, 1, 1]), "b": torch.tensor([0, 1, 0, 0])}))
    assert len({int(v) for v in two}) == 3 and two[2] == two[3]


def test_distance_of_conditions() -> None:
    apart = condition_distance(Cond(label=torch.tensor([0, 0, 1])))
    assert apart.tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    values = points(500, 2)
    assert float(condition_distance(Cond(numeric=5 * values)).mean()) == pytest.approx(1.0, abs=0.02)
    values = torch.tensor([[0.0], [1.0], [torch.nan], [torch.nan]])
    apart = condition_distance(Cond(numeric=values))
    assert apart[0, 2] == 1 and apart[2, 3] == 0 and apart[0, 1] == pytest.approx(1 / (2 * 0.25))


def test_labels_are_spoken_of_once() -> None:
    for conditions in (
        Cond(label=LABELS),
        Cond(numeric=torch.zeros(N, 1)),
        Cond(tokens=torch.zeros(N, 1, 2)),
    ):
        for kind in (OT(), Sinkhorn()):
            with pytest.warns(UserWarning, match="without regard to conditions.*labels: per_class") as caught:
                kind(SOURCE, DATA, conditions, NOISE), kind(SOURCE, DATA, conditions, NOISE.at(1))
            assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for quiet in (OT(labels="ignore"), OT(labels="per_class"), OT(label_cost=1.0)):
            quiet(SOURCE, DATA, Cond(label=LABELS), NOISE)
        OT()(SOURCE, DATA, Cond(), NOISE)
