"""DiT: zero at initialisation, grids and resolutions, conditions, sizes, and what it refuses."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from backbones import Cond, DiT, build
from backbones.dit import SIZES
from backbones.encoders import NumericEncoder, grid_positions, sinusoid


def small(**options: Any) -> DiT:
    torch.manual_seed(0)
    return DiT(
        **{"input_size": 8, "in_channels": 3, "hidden_size": 32, "depth": 2, "num_heads": 4, "num_classes": 5}
        | options
    )


def awake(net: DiT, std: float = 0.1) -> DiT:
    """With all weights away from zero."""
    torch.manual_seed(1)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=std)
    return net.eval().requires_grad_(False)


def inputs(*size: int, batch: int = 3, seed: int = 2) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *size, generator=g), torch.tensor([0.0, 500.0, 999.0])[:batch]


STEMS = pytest.mark.parametrize("stem", [(), (8,), (8, 16)])


@STEMS
@pytest.mark.parametrize("learn_sigma", [False, True])
def test_output_is_zero_at_initialisation(stem: tuple[int, ...], learn_sigma: bool) -> None:
    net = small(stem_channels=stem, learn_sigma=learn_sigma)
    x, t = inputs(3, 8, 8)
    out = net(x, t, Cond(label=torch.tensor([0, 4, -1])))
    assert torch.equal(out, torch.zeros(3, 6 if learn_sigma else 3, 8, 8))


@STEMS
def test_gradients_reach_every_weight_once_the_gates_are_open(stem: tuple[int, ...]) -> None:
    net = awake(small(stem_channels=stem, num_numeric=2)).requires_grad_(True)
    x, t = inputs(3, 8, 8)
    net(
        x,
        t,
        Cond(
            label=torch.tensor([0, 3, -1]),
            numeric=torch.tensor([[1.0, torch.nan], [torch.nan, 0.5], [0.0, 0.0]]),
        ),
    ).square().sum().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None and float(p.grad.abs().max()) > 0, name
    unseen = net.y_embedder.embedding_table.weight.grad[[1, 2, 4]]
    assert (
        float(unseen.abs().max()) == 0
        and float(net.y_embedder.embedding_table.weight.grad[5].abs().max()) > 0
    )


def test_positions_by_definition() -> None:
    """First half the column, second the row; [sin, cos] of m·10000^(−k/(D/4)); token = y·W + x; 3 rows of
    5."""
    table, dim = grid_positions(16, (3, 5)).numpy(), 16
    for y in range(3):
        for x in range(5):
            expected = np.concatenate(
                [
                    np.concatenate([np.sin(m * w), np.cos(m * w)])
                    for m in (x, y)
                    for w in [10000.0 ** (-np.arange(4) / 4)]
                ]
            )
            np.testing.assert_allclose(table[y * 5 + x], expected, atol=1e-6)
    assert table.shape == (15, dim)


def test_stretched_positions() -> None:
    """Twice the resolution: every other position is a native one; half of it: every other native one is
    there."""
    native = grid_positions(16, (4, 6))
    fine = grid_positions(16, (8, 12), native=(4, 6)).view(8, 12, 16)
    coarse = grid_positions(16, (2, 3), native=(4, 6)).view(2, 3, 16)
    torch.testing.assert_close(fine[::2, ::2], native.view(4, 6, 16))
    torch.testing.assert_close(coarse, native.view(4, 6, 16)[::2, ::2])


def test_time_sinusoid_by_definition() -> None:
    t = torch.tensor([0.0, 3.0, 999.0])
    for shift in (0, 1):
        f = [math.exp(-math.log(10000) * j / (4 - shift)) for j in range(4)]
        expected = torch.tensor(
            [[math.cos(v * w) for w in f] + [math.sin(v * w) for w in f] for v in t.tolist()]
        )
        torch.testing.assert_close(sinusoid(t, 8, shift=shift), expected, rtol=0, atol=1e-4)
    assert torch.equal(sinusoid(t, 9)[:, -1], torch.zeros(3))


@STEMS
def test_other_grids(stem: tuple[int, ...]) -> None:
    """A non-square native grid; another resolution than the native one runs and leaves the native result
    alone."""
    net = awake(small(input_size=(8, 16), stem_channels=stem))
    assert net.grid == (8 // net.patch_size, 16 // net.patch_size)
    x, t = inputs(3, 8, 16)
    positions = net.pos_embed.clone()
    before = net(x, t)
    wide = net(*inputs(3, 24, 8))
    assert wide.shape == (3, 3, 24, 8) and bool(torch.isfinite(wide).all())
    assert (
        torch.equal(net(x, t), before)
        and torch.equal(net.pos_embed, positions)
        and net.positions(net.grid) is net.pos_embed
    )
    assert float((net(x.flip(-1), t) - before.flip(-1)).abs().max()) > 1e-4  # it does see where things are


def test_another_resolution_stretches_the_positions() -> None:
    """At twice the resolution a network is the one of that native size with positions of half the spacing:
    the same extent, seen finer."""
    net, big = awake(small(input_size=(8, 4))), awake(small(input_size=(16, 8)))
    height, width = net.grid
    fine = net.positions(big.grid)
    torch.testing.assert_close(fine.view(2 * height, 2 * width, -1)[::2, ::2].flatten(0, 1), net.pos_embed[0])
    assert float((fine - big.pos_embed).abs().max()) > 0.1
    big.load_state_dict(net.state_dict() | {"pos_embed": fine})
    x, t = inputs(3, 16, 8)
    assert torch.equal(net(x, t), big(x, t))


def test_picture_axes_are_not_mixed() -> None:
    """With attention silenced, a change in one patch stays where it is: rows and columns come back in
    place."""
    net = awake(small(input_size=(8, 16)), std=0.2)
    for block in net.blocks:
        torch.nn.init.zeros_(block.attn.proj.weight)
    x, t = inputs(3, 8, 16)
    moved = x.clone()
    moved[:, :, 2:4, 10:12] += 1
    changed = ((net(moved, t) - net(x, t)).abs().amax((0, 1)) > 1e-6).nonzero()
    assert changed.amin(0).tolist() == [2, 10] and changed.amax(0).tolist() == [3, 11]


def test_labels_and_their_null() -> None:
    net = awake(small())
    x, t = inputs(3, 8, 8)
    nulls = [
        net(x, t, c)
        for c in (None, Cond(), Cond(label=torch.full((3,), -1)), Cond(label=torch.full((3,), 5)))
    ]
    assert all(torch.equal(o, nulls[0]) for o in nulls)
    mixed = net(x, t, Cond(label=torch.tensor([2, -1, 5])))
    torch.testing.assert_close(mixed[1:], nulls[0][1:])
    assert float((mixed[0] - nulls[0][0]).abs().max()) > 1e-3
    with pytest.raises(IndexError):
        small(null_class=False)(x, t, Cond(label=torch.full((3,), 5)))


def test_unconditional() -> None:
    net = awake(small(num_classes=0))
    x, t = inputs(3, 8, 8)
    assert net.y_embedder is None and torch.equal(net(x, t, Cond(label=torch.tensor([0, 1, 2]))), net(x, t))
    assert not any("y_embedder" in k for k in net.state_dict())


def test_missing_numbers() -> None:
    """NaN is a learned null of its own for each number: nothing of the placeholder leaks, and its gradient is
    the null's alone."""
    torch.manual_seed(0)
    encoder = NumericEncoder(3, 8)
    torch.nn.init.normal_(encoder.nulls)
    given = torch.tensor([[0.5, -1.0, 2.0], [0.5, torch.nan, 2.0], [torch.nan] * 3])
    out = encoder(given)
    assert bool(torch.isfinite(out).all())
    w, b = encoder.values.weight, encoder.values.bias
    by_hand = torch.stack(
        [w @ given[0] + b, w[:, [0, 2]] @ given[1, [0, 2]] + b + encoder.nulls[1], b + encoder.nulls.sum(0)]
    )
    torch.testing.assert_close(out, encoder.out(torch.nn.functional.silu(by_hand)))
    encoder(given[:2]).sum().backward()
    touched = encoder.nulls.grad.abs().amax(1)
    assert (
        float(touched[1]) > 0
        and touched[[0, 2]].tolist() == [0, 0]
        and bool(torch.isfinite(encoder.values.weight.grad).all())
    )
    net = awake(small(num_classes=0, num_numeric=2))
    x, t = inputs(3, 8, 8)
    assert torch.equal(net(x, t), net(x, t, Cond(numeric=torch.full((3, 2), torch.nan))))
    assert float((net(x, t, Cond(numeric=torch.zeros(3, 2))) - net(x, t)).abs().max()) > 1e-4


@pytest.mark.parametrize(
    "size, millions", [("S/2", 32.96), ("B/2", 130.51), ("L/2", 458.10), ("XL/2", 675.13)]
)
def test_the_papers_sizes(size: str, millions: float) -> None:
    """Parameters at 32×32×4 with 1,000 classes and a variance head, the frozen positions included as the
    original counts them."""
    with torch.device("meta"):
        net = build("dit", size=size, learn_sigma=True)
    count = sum(p.numel() for p in net.parameters()) + net.pos_embed.numel()
    assert count / 1e6 == pytest.approx(millions, abs=0.006)
    width, depth, heads = SIZES[size.split("/")[0]]
    assert (len(net.blocks), net.pos_embed.shape[-1], net.blocks[0].attn.heads, net.patch_size) == (
        depth,
        width,
        heads,
        2,
    )


def test_a_size_names_its_patch() -> None:
    with torch.device("meta"):
        assert DiT(size="S/8").patch_size == 8 and DiT(size="Ti/4").grid == (8, 8)
        assert DiT(size="S/2", stem_channels=(8, 16)).patch_size == 4  # a stem halves once per level


def test_refusals() -> None:
    for options, message in (
        ({"input_size": 9}, "got pictures of 9×9, expected multiples of the patch size 2; pad or resize"),
        (
            {"input_size": (8, 10), "stem_channels": (8, 8)},
            "pictures of 8×10, expected multiples of the patch size 4",
        ),
        ({"hidden_size": 30}, "got width 30 and 4 heads"),
        ({"size": "S2"}, "got DiT size 'S2', expected Mi"),
        ({"size": "H/2"}, "got DiT size 'H/2'"),
        ({"hidden_size": 42, "num_heads": 6}, "a width of 42 for 2-D positions, expected a multiple of 4"),
    ):
        with pytest.raises(ValueError, match=message):
            small(**options)


@STEMS
def test_a_picture_that_does_not_divide(stem: tuple[int, ...]) -> None:
    net = small(stem_channels=stem)
    x, t = inputs(3, 10, 9)
    with pytest.raises(ValueError, match="got pictures of 10×9, expected multiples of the patch size"):
        net(x, t)


@STEMS
def test_autocast_stays_close(stem: tuple[int, ...]) -> None:
    net = awake(small(hidden_size=64, stem_channels=stem))
    x, t = inputs(3, 8, 8)
    full = net(x, t, Cond(label=torch.tensor([0, 1, 2])))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = net(x, t, Cond(label=torch.tensor([0, 1, 2])))
    assert 0 < float((low.float() - full).norm() / full.norm()) < 0.03
