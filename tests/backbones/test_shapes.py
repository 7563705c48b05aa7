"""Curves and clips in the networks of patches: shapes, axes, what a clip's network shares with that of its
frames, and what is refused."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbones import Cond, DiT, RunContext, build
from backbones.axes import Axes
from backbones.caching.plan import Plan
from backbones.encoders import grid_positions
from backbones.transformer import TimeAttention

SMALL: dict[str, dict[str, Any]] = {
    "dit": {"hidden_size": 32, "depth": 2, "num_heads": 2},
    "dis": {"hidden_size": 32, "depth": 2},
    "rwkv": {"hidden_size": 32, "depth": 3},
}
SHAPES = {  # of a sample, sides, channels, patch
    (12,): ((12,), 1, 3),
    (2, 12): ((12,), 2, 3),
    (3, 4, 8): ((4, 8), 3, 2),
    (4, 3, 4, 8): ((4, 4, 8), 3, 2),
}


def made(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return build(name, **{"num_classes": 0, **SMALL[name], **options})


def awake(net: nn.Module) -> Any:
    """With all weights away from zero."""
    torch.manual_seed(1)
    for p in net.parameters():
        nn.init.normal_(p, std=0.1)
    return net.eval().requires_grad_(False)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


TIMES = torch.tensor([100.0, 700.0])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SMALL)
def test_every_network_takes_every_shape(name: str, shape: tuple[int, ...]) -> None:
    """Every entry out depends on every entry in, a sample's on no other sample's; of a learned variance the
    second half lies behind the first along the first axis."""
    sides, channels, patch = SHAPES[shape]
    net = awake(made(name, input_size=sides, in_channels=channels, patch_size=patch)).double()
    x = normal(2, *shape).double()
    out = net(x, TIMES)
    assert out.shape == x.shape
    moved = x.clone()
    moved[0].view(-1)[5] += 1
    changed = (net(moved, TIMES) - out).abs()
    assert float(changed[0].min()) > 0 and float(changed[1].max()) < 1e-6
    both = awake(made(name, input_size=sides, in_channels=channels, patch_size=patch, learn_sigma=True))(
        x.float(), TIMES
    )
    assert both.shape == (2, 2 * shape[0], *shape[1:])
    assert net.tokens(shape) == torch.Size(sides).numel() // patch ** min(len(sides), 2)


@pytest.mark.parametrize("sides", [(12,), (4, 8), (4, 4, 8)])
@pytest.mark.parametrize("patch", [1, 2])
def test_axes_lose_nothing(sides: tuple[int, ...], patch: int) -> None:
    """Frames and tall pictures are the sample's own entries, and go back to their places; a patch that is two
    frames deep makes channels of them."""
    axes = Axes(sides, (patch,) * len(sides))
    x = normal(2, 3, *sides) if len(sides) < 3 else normal(2, 4, 3, 4, 8)
    assert torch.equal(axes.samples(axes.frames(x), x), x)
    assert torch.equal(axes.cut(axes.tall(x), x), x)
    deep = patch if len(sides) == 3 else 1
    assert axes.frames(x).shape[1] == axes.channels(3) == 3 * deep
    if len(sides) == 3:
        assert torch.equal(axes.frames(x)[0], x[0, :deep].flatten(0, 1))
        assert torch.equal(axes.tall(x)[0, :3, 4:8], x[0, deep, :])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SMALL)
def test_what_is_known_is_told_by_places(name: str, shape: tuple[int, ...]) -> None:
    """Nothing at first; then each place has a weight of its own, one mask for all channels is that mask for
    each, and without a mask nothing is known."""
    sides, channels, patch = SHAPES[shape]
    options: dict[str, Any] = {"input_size": sides, "in_channels": channels, "patch_size": patch}
    net, plain = made(name, known=True, **options), made(name, **options)
    assert {k for k in net.state_dict()} - {k for k in plain.state_dict()} == {"known_embedder.weight"}
    assert not net.known_embedder.weight.any()  # type: ignore[union-attr, operator]
    net, x = awake(net), normal(2, *shape)
    axis = 1 + (len(shape) == 4)
    one = torch.zeros_like(x, dtype=torch.bool)
    if len(shape) > 1:
        one = one.narrow(axis, 0, 1)
    none = net(x, TIMES, Cond(known=one))
    assert torch.equal(none, net(x, TIMES))
    some = one.clone()
    some[0].view(-1)[3] = True
    said = net(x, TIMES, Cond(known=some))
    assert float((said - none)[0].abs().max()) > 1e-4 and float((said - none)[1].abs().max()) < 1e-6
    assert torch.equal(said, net(x, TIMES, Cond(known=some.expand_as(x))))
    other = one.clone()
    other[0].view(-1)[4] = True
    assert not torch.equal(said, net(x, TIMES, Cond(known=other)))


@pytest.mark.parametrize("shape", [(7,), (3, 5)])
def test_ids_and_their_logits(shape: tuple[int, ...]) -> None:
    """Every token of every place, from what stands in all others; masks are an id of their own."""
    net = awake(made("dit", input_size=shape, patch_size=1, vocab=6, known=True))
    x = torch.randint(0, 7, (2, *shape), generator=torch.Generator().manual_seed(0))
    out = net(x, TIMES)
    assert out.shape == (2, *shape, 6) and net.tokens(shape) == torch.Size(shape).numel()
    moved = x.clone()
    moved[0].view(-1)[2] = (moved[0].view(-1)[2] + 1) % 7
    changed = (net(moved, TIMES) - out).abs().amax(-1)
    assert float(changed[0].min()) > 0 and not changed[1].any()
    known = torch.zeros(2, *shape, dtype=torch.bool)
    known[0].view(-1)[1] = True
    assert torch.equal(net(x, TIMES, Cond(known=known))[1], out[1])
    assert not torch.equal(net(x, TIMES, Cond(known=known))[0], out[0])
    fresh = made("dit", input_size=shape, patch_size=1, vocab=6)
    assert not fresh(x, TIMES).any()
    for wrong in ({"input_size": (8,), "patch_size": 2}, {"input_size": (2, 4, 4), "patch_size": 1}):
        with pytest.raises(ValueError, match="expected patch_size=1, one or two sides"):
            made("dit", vocab=5, **wrong)


def test_positions_of_one_and_three_axes() -> None:
    line = grid_positions(8, (5,))
    at = torch.arange(5.0)[:, None] * 10000.0 ** (-torch.arange(4) / 4)
    torch.testing.assert_close(line, torch.cat([at.sin(), at.cos()], 1))
    torch.testing.assert_close(grid_positions(8, (10,), native=(5,))[::2], line)
    room = grid_positions(8, (2, 3, 5)).view(2, 15, 8)
    torch.testing.assert_close(room[0] - grid_positions(8, (2,))[0], grid_positions(8, (3, 5)))
    torch.testing.assert_close(
        room[1] - room[0], (grid_positions(8, (2,))[1] - grid_positions(8, (2,))[0]).expand(15, 8)
    )


@pytest.mark.parametrize("stem", [(), (8,)])
def test_weights_of_pictures_make_a_network_of_clips(stem: tuple[int, ...]) -> None:
    """All of them have a place, only attention over time is new, and it starts as the identity: the network
    does to each frame what it does to a picture."""
    options: dict[str, Any] = {"in_channels": 3, "num_classes": 4, "stem_channels": stem, **SMALL["dit"]}
    pictures = awake(DiT(input_size=(4, 8), **options))
    clips = DiT(input_size=(5, 4, 8), **options).eval()
    lacking = clips.load_state_dict(pictures.state_dict(), strict=False)
    assert not lacking.unexpected_keys and all(k.startswith("temporal.") for k in lacking.missing_keys)
    x, label = normal(2, 5, 3, 4, 8), torch.tensor([1, 3])
    out = clips(x, TIMES, Cond(label=label))
    for frame in range(5):
        expected = pictures(x[:, frame], TIMES, Cond(label=label))
        torch.testing.assert_close(out[:, frame], expected, rtol=1e-5, atol=1e-5)


def test_attention_over_time_mixes_frames_of_one_place() -> None:
    block = awake(TimeAttention(32, 2))
    h = normal(2 * 3, 4, 32)  # 2 clips of 3 frames of 4 places
    moved = h.clone()
    moved[1, 2, 0] += 1  # the second frame of the first clip
    changed = (block(moved, 3, None) - block(h, 3, None)).abs().amax(-1) > 1e-6
    expected = torch.zeros(6, 4, dtype=torch.bool)
    expected[:3, 2] = True
    assert torch.equal(changed, expected)
    apart = torch.cat([block(h[:3], 3, None), block(h[3:], 3, None)])
    torch.testing.assert_close(block(h, 3, None), apart)


def test_a_plan_of_full_attention_is_a_run_without_one() -> None:
    """Of clips too; one that takes all attention from the step before keeps that of time, which no plan
    names."""
    net = awake(made("dit", input_size=(3, 4, 4), in_channels=1))
    x, t = normal(2, 3, 1, 4, 4), torch.tensor(500.0)

    def run(plan: Plan | None, second: Tensor) -> Tensor:
        ctx = RunContext(branch="cond", plan=plan, time=0.5, num_steps=2)
        net(x, t, None, ctx)
        ctx.step = 1
        return net(second, t, None, ctx)

    moved = x + 0.1
    torch.testing.assert_close(run(Plan.full((1, 1)), moved), net(moved, t))
    torch.testing.assert_close(run(Plan((1, 1), attention=("FF", "TT")), x), net(x, t))
    assert float((run(Plan((1, 1), attention=("FF", "TT")), moved) - net(moved, t)).abs().max()) > 1e-4
    torch.testing.assert_close(run(Plan((1, 1), trunk="FR"), x), net(x, t))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_size": (10,), "patch_size": 4}, "got curves of 10, expected multiples of the patch size 4"),
        ({"input_size": (3, 4, 6), "patch_size": 4}, "got clips of 3×4×6, expected multiples of the patch"),
        ({"input_size": (4, 4, 4), "patch_size": (2, 2)}, "got patches of .2, 2. for samples of 3 sides"),
        (
            {"input_size": (8,), "patch_size": (2, 2)},
            "for samples of 1 side .8,., expected one number, or one",
        ),
        ({"input_size": (0, 4, 4)}, "got the sides .0, 4, 4., expected one to three, each at least 1"),
        ({"input_size": (1, 2, 3, 4)}, "expected one to three"),
        ({"input_size": (8,), "stem_channels": (8,)}, "got stem_channels for curves of 8, expected none"),
    ],
)
@pytest.mark.parametrize("name", SMALL)
def test_what_does_not_fit_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(name, **options)


@pytest.mark.parametrize("name", SMALL)
def test_samples_of_other_axes_are_refused(name: str) -> None:
    net = made(name, input_size=(2, 4, 4), in_channels=3, patch_size=2)
    with pytest.raises(ValueError, match=r"got samples of shape \(1, 3, 4, 4\), expected clips"):
        net(normal(1, 3, 4, 4), TIMES[:1])
    with pytest.raises(ValueError, match="got clips of 0×4×4, expected multiples"):
        net(normal(1, 0, 3, 4, 4), TIMES[:1])
    curves = made(name, input_size=(12,), in_channels=1, patch_size=3)
    assert curves(normal(1, 24), TIMES[:1]).shape == (1, 24)  # another length, positions stretched
