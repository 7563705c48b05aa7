"""Encoders of conditions that are many: neither the order of a set nor what is absent changes it, words and
vectors have places, fields are patched along each of their axes."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbones.encoders import REGISTRY
from backbones.field_encoder import FieldEncoder
from backbones.registry import build
from backbones.row_encoders import SetEncoder, VectorEncoder, WordEncoder

POOLINGS = ("mean", "attention")
MANY: list[tuple[str, dict[str, Any]]] = [
    (name, {**options, "pooling": pooling})
    for name, options in (
        ("set", {"features": 3}),
        ("vectors", {"features": 3}),
        ("words", {"vocabulary": 7}),
        ("field", {"sides": [4, 6]}),
    )
    for pooling in POOLINGS
]


def encoder(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    made = build(REGISTRY, name, "encoder", {**options, "dim": 32})
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.2 * torch.randn(p.shape))
    return made.eval()


def given(name: str, rows: int = 5, length: int = 6) -> Tensor:
    torch.manual_seed(1)
    if name == "words":
        return torch.randint(0, 8, (rows, length))
    return torch.randn(rows, 4, 6) if name == "field" else torch.randn(rows, length, 3)


def lost(value: Tensor) -> Tensor:
    return torch.full_like(value, torch.nan if value.is_floating_point() else -1)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_neither_order_nor_padding_changes_a_set(pooling: str) -> None:
    net, rows = encoder("set", features=3, pooling=pooling), 3 * given("set", length=20)
    with torch.no_grad():
        out = net(rows)
        for seed in range(5):
            order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
            assert (net(rows[:, order]) - out).abs().max() <= 1e-6 * out.abs().max()
        between = torch.cat([lost(rows[:, :4]), rows[:, :9], lost(rows[:, :7]), rows[:, 9:]], 1)
        assert (net(between) - out).abs().max() <= 1e-6 * out.abs().max()
        twice = net(torch.cat([rows, rows], 1))
    assert (twice - out).abs().max() > 1e-2  # a set that was seen twice says more


@pytest.mark.parametrize("name", ["vectors", "words"])
def test_padding_changes_no_row_of_rows_and_their_order_counts(name: str) -> None:
    for pooling in POOLINGS:
        options = {"vocabulary": 7} if name == "words" else {"features": 3}
        net, rows = encoder(name, **options, pooling=pooling), given(name)
        with torch.no_grad():
            out = net(rows)
            assert torch.allclose(net(torch.cat([rows, lost(rows)], 1)), out, atol=1e-6)
            assert (net(rows.flip(1)) - out).abs().amax(1).min() > 1e-3


@pytest.mark.parametrize("name, options", MANY)
def test_what_is_missing_is_one_learned_null(name: str, options: dict[str, Any]) -> None:
    net, value = encoder(name, **options), given(name)
    some = torch.where(torch.arange(5).view(-1, *[1] * (value.ndim - 1)) < 2, lost(value), value)
    out = net(some)
    assert torch.equal(out[:2], net.null.expand(2, -1))  # type: ignore[operator, union-attr]
    absent = net.absent(3, value.device)  # type: ignore[operator]
    assert torch.equal(net(absent), net.null.expand(3, -1))  # type: ignore[operator, union-attr]
    assert torch.allclose(out[2:], net(value)[2:], atol=1e-6)
    out.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())
    assert net.get_parameter("null").grad.abs().sum() > 0  # type: ignore[union-attr]


def test_an_unknown_word_is_the_mean_of_all_until_it_is_learned() -> None:
    torch.manual_seed(0)
    net = WordEncoder(4, 16)
    unknown, place = (
        net(torch.tensor([[4]])),
        net.placed(net.words.weight.mean(0)[None, None], torch.ones(1, 1) > 0),
    )
    assert torch.allclose(unknown, place, atol=1e-6)
    net(torch.tensor([[4, 1]])).sum().backward()
    assert net.unknown.grad is not None and net.unknown.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "options, shape, grid",
    [
        ({"sides": [40]}, (40,), (20,)),
        ({"sides": [40], "channels": 3, "patch": 7}, (3, 40), (6,)),
        ({"sides": [5, 9]}, (5, 9), (5, 5)),
        ({"sides": [5, 9], "channels": 2, "patch": [5, 2]}, (2, 5, 9), (1, 5)),
        ({"sides": [3, 4, 6]}, (3, 4, 6), (3, 4, 3)),
        ({"sides": [3, 4, 6], "channels": 2, "frames": True}, (3, 2, 4, 6), (3, 4, 3)),
    ],
)
def test_patches_hold_every_number_once(options: dict[str, Any], shape: tuple[int, ...], grid: Any) -> None:
    net = FieldEncoder(dim=16, **options)
    value = torch.arange(2.0 * math.prod(shape)).reshape(2, *shape)
    patches, found = net.patches(value)
    assert found == grid and patches.shape[1] == math.prod(grid)
    for row in range(2):
        there = patches[row][~patches[row].isnan()]
        assert torch.equal(there.sort().values, value[row].flatten())
    first = patches[0, 0][~patches[0, 0].isnan()]
    assert 0.0 in first  # the corner
    assert tuple(net.absent(2, value.device).shape) == (2, *shape)
    other = value.clone()
    other[0].view(-1)[-1] = torch.nan  # one entry is missing: that is no missing field
    with torch.no_grad():
        assert (net(other)[0] - net(value)[0]).abs().max() > 0 and not torch.equal(net(other)[0], net.null)


def test_places_of_a_field_count() -> None:
    net = encoder("field", sides=[4, 6])
    value = given("field")
    with torch.no_grad():
        for way in (value.flip(1), value.flip(2), value.roll(1, 2)):
            assert (net(way) - net(value)).abs().amax(1).min() > 1e-3


def test_half_precision_sums_many_rows_in_single() -> None:
    net, rows = encoder("set", features=3), given("set", length=400)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = net(rows)
    assert (half.float() - net(rows)).abs().max() < 0.05 * net(rows).abs().max()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SetEncoder(2, 8, pooling="max"), "got pooling='max', expected one of mean, attention"),
        (lambda: VectorEncoder(2, 10), "got heads=4 for a width of 10, expected a divisor"),
        (lambda: FieldEncoder([2] * 4, 8), "expected one to three of at least 1"),
        (lambda: FieldEncoder([0], 8), "expected one to three of at least 1"),
        (lambda: FieldEncoder([4, 4], 8, patch=[2]), "expected one for each axis"),
    ],
)
def test_what_does_not_go_together_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
