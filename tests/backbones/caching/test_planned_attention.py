"""Attention by a plan: what must be exact is exact, in one call of both branches and in two."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from backbones import Cond, DiT, RunContext
from backbones.attention.specs import Full, Window
from backbones.caching.attention import attended
from backbones.caching.order import tiles
from backbones.caching.plan import Plan
from backbones.transformer import Attention

Golden = tuple[dict[str, Tensor], dict[str, Any]]
DEPTH, WINDOW = 2, 5


def network() -> DiT:
    torch.manual_seed(0)
    net = DiT(
        input_size=8, patch_size=2, in_channels=3, hidden_size=32, depth=DEPTH, num_heads=4, num_classes=5
    )
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return net.eval().requires_grad_(False).double()  # so that what is exact shows as exact


NET = network()
LABELS, NULL = torch.tensor([0, 3]), torch.tensor([-1, -1])


def states(count: int, seed: int = 1) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    first = torch.randn(2, 3, 8, 8, generator=g, dtype=torch.float64)
    return [first + 0.1 * k * torch.randn(2, 3, 8, 8, generator=g, dtype=torch.float64) for k in range(count)]


def asked(
    plan: Plan | None, xs: list[Tensor], calls: list[tuple[str, ...]], uncond: Tensor = NULL
) -> list[Tensor]:
    """Outputs (4, 3, 8, 8) of both branches, NaN where one is not asked; each row's calls are ``("both",)``
    or names of branches."""
    ctx, out = RunContext(plan=plan), []
    for step, (x, branches) in enumerate(zip(xs, calls)):
        ctx.step, ctx.time = step, step / len(xs)
        t = torch.full((2,), 100.0 * step)
        made = {name: torch.full_like(x, torch.nan) for name in ("cond", "uncond")}
        for branch in branches:
            if branch == "both":
                both = NET(
                    torch.cat([x, x]),
                    torch.cat([t, t]),
                    Cond(label=torch.cat([LABELS, uncond])),
                    ctx.on(branch),
                )
                made = dict(zip(made, both.chunk(2)))
            else:
                label = LABELS if branch == "cond" else uncond
                made[branch] = NET(x, t, Cond(label=label), ctx.on(branch))
        out.append(torch.cat([made["cond"], made["uncond"]]))
    return out


LAYOUTS = pytest.mark.parametrize("calls", [("both",), ("cond", "uncond")], ids=["one call", "two calls"])


def plan(*rows: str, window: int = WINDOW, **parts: Any) -> Plan:
    return Plan((1,) * len(rows), tuple(rows), window=window, **parts)


def same(a: list[Tensor], b: list[Tensor], atol: float = 0.0) -> None:
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=atol, equal_nan=True)


@LAYOUTS
def test_a_plan_that_leaves_nothing_out_changes_no_bit(calls: tuple[str, ...]) -> None:
    xs = states(3)
    same(asked(plan("FF", "FF", "FF", trunk="FFF"), xs, [calls] * 3), asked(None, xs, [calls] * 3))


@LAYOUTS
def test_branches_that_are_equal_share_exactly(calls: tuple[str, ...]) -> None:
    """The unconditional branch asked with the conditional one's labels."""
    xs = states(3)
    there = asked(None, xs, [calls] * 3, uncond=LABELS)
    same(asked(plan("FF", "BB", "BF"), xs, [calls] * 3, uncond=LABELS), there, atol=1e-11)


@LAYOUTS
def test_branches_that_differ_do_not_share_in_vain(calls: tuple[str, ...]) -> None:
    """The conditional half is exact, the other half is not: its attention is the conditional one's."""
    xs = states(2)
    there, here = asked(None, xs, [calls] * 2)[1], asked(plan("FF", "BB"), xs, [calls] * 2)[1]
    torch.testing.assert_close(here[:2], there[:2], rtol=0, atol=1e-11)
    assert (here[2:] - there[2:]).abs().max() > 1e-2


@LAYOUTS
@pytest.mark.parametrize("letter", "TWC")
def test_what_stands_still_is_used_again_exactly(letter: str, calls: tuple[str, ...]) -> None:
    """The same state at the same time: outputs are the last ones, W + (O − W) = O. Shared across branches,
    the conditional half."""
    x, half = states(1)[0], slice(0, 2) if letter == "C" else slice(None)
    there = NET(torch.cat([x, x]), torch.zeros(4), Cond(label=torch.cat([LABELS, NULL])))
    ctx = RunContext(plan=plan("FF", letter * 2, letter * 2))
    for ctx.step in range(3):
        if calls == ("both",):
            here = NET(
                torch.cat([x, x]), torch.zeros(4), Cond(label=torch.cat([LABELS, NULL])), ctx.on("both")
            )
        else:
            parts = [
                NET(x, torch.zeros(2), Cond(label=label), ctx.on(branch))
                for branch, label in (("cond", LABELS), ("uncond", NULL))
            ]
            here = torch.cat(parts)
        torch.testing.assert_close(here[half], there[half], rtol=0, atol=1e-11)


@LAYOUTS
def test_a_window_as_wide_as_the_sequence_is_full_attention(calls: tuple[str, ...]) -> None:
    xs = states(3)
    there = asked(None, xs, [calls] * 3)
    same(asked(plan("FF", "WW", "WW", window=16), xs, [calls] * 3), there, atol=1e-11)
    same(asked(plan("FF", "WW", "WW", window=10**6), xs, [calls] * 3), there, atol=1e-11)


@pytest.mark.parametrize("rows", [("FF", "TW", "WT", "CB", "TT"), ("FF", "WC", "TT", "FB", "CW")])
def test_one_call_and_two_calls_give_the_same(rows: tuple[str, ...]) -> None:
    """Also where the layout changes on the way: what is kept is kept by branch."""
    xs, two, one = states(5), ("cond", "uncond"), ("both",)
    there = asked(plan(*rows), xs, [two] * 5)
    for calls in ([one] * 5, [one, two, one, two, one], [two, one, one, two, two]):
        same(asked(plan(*rows), xs, calls), there, atol=1e-11)


def test_a_branch_that_paused_is_computed_anew() -> None:
    """Guidance sets in again: the unconditional branch has nothing of this time, so its attention is full,
    and from then on its own."""
    xs, here = states(4), [("cond", "uncond"), ("cond",), ("cond", "uncond"), ("cond", "uncond")]
    made = asked(plan("FF", "FF", "TT", "TT"), xs, here)
    there = asked(None, xs, here)
    torch.testing.assert_close(made[2][2:], there[2][2:], rtol=0, atol=1e-11)
    kept = asked(plan("FF", "TT"), xs[2:], [("uncond",)] * 2)  # as if the run had begun where it set in again
    assert (made[3][2:] - there[3][2:]).abs().max() > 1e-3 and kept[1].shape == made[3].shape


def test_a_branch_of_another_kind_is_computed_in_full() -> None:
    x, t, ctx = states(1)[0], torch.zeros(2), RunContext(plan=plan("FF", "TT"))
    NET(x, t, Cond(label=LABELS), ctx.on("cond"))
    ctx.step = 1
    other = x + 1
    assert torch.equal(NET(other, t, Cond(label=LABELS), ctx.on("weak")), NET(other, t, Cond(label=LABELS)))


def test_two_runs_do_not_touch_each_other() -> None:
    xs, calls = states(4), [("both",)] * 4
    plans = [plan("FF", "TT", "WW", "CC"), plan("FF", "WW", "TT", "BB")]
    alone = [asked(p, xs, calls) for p in plans]
    contexts = [RunContext(plan=p) for p in plans]
    label = torch.cat([LABELS, NULL])
    for step, x in enumerate(xs):
        for ctx, there in zip(contexts, alone):
            ctx.step, ctx.time = step, step / 4
            made = NET(torch.cat([x, x]), torch.full((4,), 100.0 * step), Cond(label=label), ctx.on("both"))
            assert torch.equal(made, there[step])


@pytest.mark.parametrize("grid, side", [((4, 4), 2), ((5, 7), 3), ((1, 6), 2), ((8, 8), 8)])
def test_tiles_are_squares_of_the_grid(grid: tuple[int, int], side: int) -> None:
    order = tiles(grid, side)
    assert sorted(order.tolist()) == list(range(grid[0] * grid[1]))
    y, x = order // grid[1], order % grid[1]
    squares = list(dict.fromkeys(zip((y // side).tolist(), (x // side).tolist())))
    assert len(squares) == -(-grid[0] // side) * -(-grid[1] // side)  # each is left once only
    assert tiles((4, 4), 2)[:8].tolist() == [0, 1, 4, 5, 2, 3, 6, 7]


def test_another_order_of_tokens_changes_no_full_attention() -> None:
    xs, calls = states(2), [("both",)] * 2
    same(asked(plan("FF", "FF", tile=2), xs, calls), asked(None, xs, calls), atol=1e-11)


def test_a_window_over_tiles_sees_both_directions() -> None:
    """The order matters to windows, and is undone behind the blocks."""
    xs, calls = states(3), [("both",)] * 3
    raster, tiled = (asked(plan("FF", "WW", "WW", window=2, tile=side), xs, calls) for side in (0, 2))
    assert (raster[1] - tiled[1]).abs().max() > 1e-4
    same([raster[0]], [tiled[0]], atol=1e-11)


def test_the_recorded_residual_and_the_step_after_it(golden: Callable[[str], Golden]) -> None:
    """Both of the original's windows of four keys to each side, without its projections."""
    tensors, _ = golden("attention_misc")
    layer = Recorded(tensors, "attn")
    ctx = RunContext(plan=Plan((1, 1), ("F", "W"), window=4))
    x = torch.zeros(2, 1, 1)
    torch.testing.assert_close(attended(layer, x, ctx), tensors["attn/full"], rtol=1e-5, atol=1e-6)
    rest = ctx.caches[(id(layer), "attention")]["cond"].rest
    torch.testing.assert_close(rest, tensors["ditfa/residual_r4"], rtol=1e-5, atol=1e-6)
    layer.name, ctx.step = "ditfa/next", 1
    torch.testing.assert_close(attended(layer, x, ctx), tensors["ditfa/wars_next"], rtol=1e-5, atol=1e-6)
    full = attended(layer, x, replace(ctx, plan=None))
    torch.testing.assert_close(full, tensors["ditfa/full_next"], rtol=1e-5, atol=1e-6)


class Recorded(Attention):
    """An attention of recorded queries, keys and values."""

    def __init__(self, tensors: dict[str, Tensor], name: str):
        super().__init__(48, 3)
        self.tensors, self.name = tensors, name

    def mix(self, x: Tensor, specs: Any, ctx: RunContext | None) -> list[Tensor]:
        from backbones.attention import attend

        mark = "/" if self.name == "attn" else "_"
        q, k, v = (self.tensors[f"{self.name}{mark}{part}"] for part in "qkv")
        assert all(isinstance(spec, Full | Window) for spec in specs)
        return [attend(q, k, v, spec, ctx) for spec in specs]

    def project(self, mixed: Tensor) -> Tensor:
        return mixed
