"""Precision, recall, density and coverage: on constructed sets, and equal to the full float64 matrix whatever
the fast product and the blocks are."""

import pytest
import torch
from torch import Tensor

from studio.metrics import nearest as engine
from studio.metrics.manifold import Manifold, density_coverage, manifold, precision_recall
from studio.metrics.nearest import nearest, prepare

DTYPES = [torch.bfloat16, torch.float32]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def full(x: Tensor, y: Tensor) -> Tensor:
    """All squared distances, float64, as differences."""
    return (x.double()[:, None] - y.double()).square().sum(-1)


def plain(samples: Tensor, reference: Tensor, k: int = 3, density_k: int = 5) -> Manifold:
    """By the definitions, with whole matrices."""
    real, fake, across = full(reference, reference), full(samples, samples), full(samples, reference)
    real, fake = (m.fill_diagonal_(torch.inf).sort(1).values for m in (real, fake))
    ball = across < real[:, density_k - 1]
    return Manifold(
        float((across <= real[:, k - 1]).any(1).double().mean()),
        float((across <= fake[:, k - 1, None]).any(0).double().mean()),
        int(ball.sum()) / (density_k * len(samples)),
        float(ball.any(0).double().mean()),
    )


def sets(kind: str, dim: int) -> tuple[Tensor, Tensor]:
    x, y = normal(130, dim), normal(110, dim, seed=1)
    if kind == "shared":
        x[:50] = y[:50]
    if kind == "far and narrow":
        x = x * 1e-4 + 100
    if kind == "collapsed to copies":
        x = x[:3].repeat(40, 1) + 5
    if kind == "one point each":
        x, y = x[:1].expand(130, -1), x[:1].expand(110, -1)
    if kind == "outlier":
        x, y = x.clone(), y * 1e-3
        x[0] *= 1e6
    if kind == "grid":  # ties everywhere
        x, y = x.round(), y.round()
    if kind == "tiny":
        x, y = x * 1e-25, y * 1e-25
    return x, y


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [1, 2, 33, 300])
@pytest.mark.parametrize(
    "kind",
    [
        "normal",
        "shared",
        "far and narrow",
        "collapsed to copies",
        "one point each",
        "outlier",
        "grid",
        "tiny",
    ],
)
def test_decisions_are_those_of_the_full_matrix(kind: str, dim: int, dtype: torch.dtype) -> None:
    x, y = sets(kind, dim)
    assert manifold(x, y, block=48, dtype=dtype) == plain(x, y)


def test_blocks_and_precision_change_nothing() -> None:
    x, y = normal(200, 40), normal(150, 40, seed=1) * 1.1
    results = {manifold(x, y, block=b, dtype=d) for b in (9, 64, None) for d in DTYPES}
    assert results == {plain(x, y)}
    assert manifold(x.double(), y.numpy()) == plain(x, y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_neighbours_are_the_nearest_with_ties_by_index(dtype: torch.dtype) -> None:
    x, y = normal(50, 20).round(), normal(200, 20, seed=1).round()
    a, b = prepare(x, y, dtype=dtype)
    d, i = nearest(a, b, 4, block=13)
    expected = full(x, y).sort(dim=1, stable=True)
    assert torch.equal(d, expected.values[:, :4]) and torch.equal(i, expected.indices[:, :4])
    own, _ = nearest(b, b, 2, block=64)
    assert torch.equal(own, full(y, y).fill_diagonal_(torch.inf).sort(1).values[:, :2])


def test_few_pairs_need_the_exact_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, pairs = normal(600, 128), normal(600, 128, seed=1), [0]
    exact = engine.squared_distances

    def counted(
        a: engine.Pointset, b: engine.Pointset, i: Tensor, j: Tensor, workers: engine.Workers
    ) -> Tensor:
        pairs[0] += len(i)
        return exact(a, b, i, j, workers)

    monkeypatch.setattr(engine, "squared_distances", counted)
    manifold(x, y, dtype=torch.bfloat16)
    assert 0 < pairs[0] < 0.06 * 3 * 600 * 600


def test_copies_need_one_distance_for_all() -> None:
    """A collapsed generator leaves every pair open; equal pairs are computed once."""
    x = normal(4, 64).repeat(500, 1)
    (a,) = prepare(x)
    assert a.twins.unique().tolist() == [0, 1, 2, 3]
    i, j = torch.arange(2000).repeat_interleave(50), torch.arange(50).repeat(2000)
    d = engine.squared_distances(a, a, i, j, engine.Workers())
    assert torch.allclose(d, full(x[:4], x[:4])[i % 4, j % 4], rtol=1e-12) and len(d.unique()) == 7


@pytest.mark.parametrize("dim", [1, 3, 64, 2048])
def test_a_distance_has_the_same_bits_in_any_company(dim: int) -> None:
    """Ties between a radius and a distance are decided by equality, so both must come out the same however
    many pairs are computed at once."""
    x, y = prepare(normal(40, dim), normal(30, dim, seed=1))
    i, j = torch.arange(40).repeat_interleave(30), torch.arange(30).repeat(40)
    workers = engine.Workers()
    together = engine.squared_distances(x, y, i, j, workers)
    assert torch.equal(
        together,
        torch.cat([engine.squared_distances(x, y, i[n : n + 1], j[n : n + 1], workers) for n in range(1200)]),
    )
    assert torch.equal(together, engine.squared_distances(y, x, j, i, workers))
    assert torch.allclose(together, full(x.rows, y.rows).flatten(), rtol=1e-12)


def test_identical_sets_score_one() -> None:
    x = normal(300, 16)
    assert manifold(x, x) == Manifold(1.0, 1.0, 1.0, 1.0)


def test_disjoint_sets_score_zero() -> None:
    assert manifold(normal(200, 16), normal(200, 16, seed=1) + 100) == Manifold(0.0, 0.0, 0.0, 0.0)


def test_a_subset_is_precise_but_recalls_little() -> None:
    """Two clusters far apart, samples in one of them only."""
    y = torch.cat([normal(200, 8), normal(200, 8, seed=1) + 50])
    precision, recall = precision_recall(y[:200], y)
    assert (precision, recall) == (1.0, 0.5)
    assert density_coverage(y[:200], y)[1] == 0.5


def test_an_outlier_in_the_reference_inflates_precision_but_not_density() -> None:
    """Naeem et al.'s argument: one far reference has a huge ball, which holds samples that lie nowhere near
    the data."""
    y = torch.cat([normal(300, 2) * 0.1, torch.tensor([[20.0, 0.0]])])
    x = normal(300, 2, seed=1) * 0.1 + torch.tensor([8.0, 0.0])
    precision, _ = precision_recall(x, y)
    density, coverage = density_coverage(x, y)
    assert precision == 1.0 and density <= 0.2 + 1e-9 and coverage < 0.01


def test_density_and_coverage_need_no_second_sample() -> None:
    y = normal(50, 4)
    assert density_coverage(y[:1], y)[1] > 0 and density_coverage(y[:1] + 100, y) == (0.0, 0.0)


def test_equal_distributions_have_density_one() -> None:
    density, coverage = density_coverage(normal(4000, 4), normal(4000, 4, seed=1))
    # Naeem et al., lemma 2
    assert density == pytest.approx(1, abs=0.05) and coverage == pytest.approx(1 - 0.5**5, abs=0.02)


def test_refusals() -> None:
    x, bad = normal(10, 3), normal(10, 3)
    bad[0, 0] = torch.inf
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 10"):
        manifold(x, bad)
    with pytest.raises(ValueError, match="3 and 2 dimensions|2 and 3 dimensions"):
        manifold(x, x[:, :2])
    with pytest.raises(ValueError, match="got 5 reference samples, expected at least 6 for k=5"):
        manifold(x, x[:5])
    with pytest.raises(ValueError, match="got 3 samples, expected at least 4 for k=3"):
        manifold(x[:3], x)
    with pytest.raises(ValueError, match="k=0"):
        precision_recall(x, x, k=0)
    with pytest.raises(ValueError, match="density_k=0"):
        manifold(x, x, density_k=0)
    with pytest.raises(ValueError, match="k=0; use more or a smaller k, from 1"):
        density_coverage(x, x, k=0)
    (p,) = prepare(x)
    with pytest.raises(ValueError, match="expected at least 11 for k=10"):
        nearest(p, p, 10)
