"""Masks of what is known in training: each pattern's own shape, its share, one mask a sample, and a loss over
the rest."""

from typing import Any

import pytest
import torch

from backbones.types import Cond, NoiseSource
from samplers.batch import Batch
from samplers.known import REGISTRY, Known
from samplers.objective import build_objective

NOISE = NoiseSource(range(1000, 1400))
CLIP = (6, 3, 4, 5)  # frames, channels, rows, columns


def masks(
    patterns: Any, shape: tuple[int, ...] = CLIP, axes: tuple[int, ...] = (0, 2, 3), **options: Any
) -> Any:
    return Known(patterns, axes, **{"free": 0.0, **options})(shape, NOISE)


@pytest.mark.parametrize("name", [name for name in REGISTRY if name != "nothing"])
def test_one_mask_a_sample_for_all_channels(name: str) -> None:
    mask = masks(name)
    assert mask.shape == (400, 6, 1, 4, 5) and mask.dtype == torch.bool
    assert len(mask.flatten(1).unique(dim=0)) > 1 and not mask.flatten(1).all(1).any()
    torch.testing.assert_close(Known(name, (0, 2, 3), free=0.0)(CLIP, NoiseSource([1007]))[0], mask[7])


def test_lines_along_the_first_axis() -> None:
    for name in ("prefix", "suffix", "frames", "every"):
        line = masks(name)[:, :, 0, 0, 0]
        assert torch.equal(masks(name), line[:, :, None, None, None].expand(-1, -1, 1, 4, 5))
    ahead, behind = masks("prefix")[:, :, 0, 0, 0], masks("suffix")[:, :, 0, 0, 0]
    assert (ahead.int().diff(dim=1) <= 0).all() and (behind.int().diff(dim=1) >= 0).all()
    assert not ahead[:, -1].any() and not behind[:, 0].any()
    third = masks({"name": "every", "k": 3})[:, :, 0, 0, 0]
    assert (third.sum(1) == 2).all() and torch.equal(third[:, :3], third[:, 3:])


def test_a_block_is_missing_everywhere_alike() -> None:
    hole = ~masks({"name": "block", "least": 0.5, "most": 0.5}, (1, 8, 8), (1, 2))[:, 0]
    rows, columns = hole.any(2), hole.any(1)
    assert (rows.sum(1) == 4).all() and torch.equal(hole, rows[:, :, None] & columns[:, None])
    starts = rows.float().argmax(1)
    assert starts.unique().tolist() == [0, 1, 2, 3, 4]


def test_shares_are_what_was_asked() -> None:
    for name in ("random", "frames"):
        for least, most in ((0.3, 0.3), (0.0, 1.0)):
            mask = masks({"name": name, "least": least, "most": most}, (1, 50, 50), (1, 2)).float()
            assert float(mask.mean()) == pytest.approx((least + most) / 2, abs=0.03)
    count = masks({"name": "prefix", "least": 0.5, "most": 0.5}, (8,), (0,)).sum(1)
    assert (count == 4).all()


def test_several_patterns_and_none() -> None:
    some = masks(["prefix", "suffix"], (10,), (0,), free=0.25)
    kinds = torch.stack([some[:, 0], some[:, -1]], 1).int()
    shares = [(kinds == torch.tensor(k)).all(1).float().mean() for k in ((1, 0), (0, 1), (0, 0))]
    assert [float(s) for s in shares] == pytest.approx([0.375, 0.375, 0.25], abs=0.08)
    assert not masks("random", free=1.0).any() and not masks("nothing").any()
    halved = masks(["prefix", "nothing"], (10,), (0,))
    assert float(halved[:, 0].float().mean()) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize(
    "patterns, message",
    [
        ("prefx", "did you mean 'prefix'"),
        ([], "got no pattern of known entries"),
        ({"least": 0.1}, "without a name"),
        ({"name": "random", "least": 0.9, "most": 0.1}, "0 <= least <= most <= 1"),
        ({"name": "every", "k": 1}, "expected 2 or more"),
        ({"name": "prefix", "share": 1}, "unknown option 'share'"),
    ],
)
def test_what_is_no_pattern(patterns: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Known(patterns, (0,))


@pytest.mark.parametrize("coupling", ["independent", "ot"])
def test_the_loss_is_over_the_rest(coupling: str) -> None:
    """The network sees known entries clean; what it says of them costs nothing; the rest is divided by its
    own number."""
    seen: list[Any] = []
    right = torch.zeros(())

    def net(x: torch.Tensor, t: torch.Tensor, cond: Cond, ctx: Any = None) -> torch.Tensor:
        seen.append((x, cond.known))
        return torch.where(cond.known, 1e6, right.expand_as(x))

    objective = build_objective(coupling=coupling, known=Known("random", (1,), free=0.0))
    data = torch.randn(40, 2, 9, generator=torch.Generator().manual_seed(0))
    loss = objective.loss(net, Batch(data), NoiseSource(range(40)))  # type: ignore[arg-type]
    x, known = seen[0]
    assert known.shape == (40, 1, 9) and torch.equal(x[known.expand_as(x)], data[known.expand_as(x)])
    pairs = objective.sample_pairs(Batch(data), NoiseSource(range(40)))
    assert torch.equal(pairs.cond.known, known)
    way = (pairs.data - pairs.source).square() * ~known
    torch.testing.assert_close(loss.per_sample, way.sum((1, 2)) / (~known).sum((1, 2)).clamp_min(1) / 2)


def test_what_the_data_says_itself_stays() -> None:
    own = torch.zeros(4, 1, 9, dtype=torch.bool)
    objective = build_objective(known=Known("random", (1,), free=0.0))
    pairs = objective.sample_pairs(Batch(torch.randn(4, 2, 9), Cond(known=own)), NoiseSource(range(4)))
    assert pairs.cond.known is own
