"""What is taken from earlier evaluations: exact where it stands still or moves along a line."""

import torch
from torch import Tensor

from backbones import RunContext
from backbones.caching.plan import Plan
from backbones.caching.reuse import Past, Seen, foretold, remembered, through

OWNER = object()


def test_a_line_is_foretold_exactly_and_what_stands_still_as_well() -> None:
    past: Past = ()
    start, slope = torch.tensor([1.0, -2.0]), torch.tensor([3.0, 0.5])
    for row, t in enumerate((0.0, 0.25, 0.375)):
        past = remembered(past, row, t, start + t * slope)
    assert [seen.row for seen in past] == [1, 2]
    torch.testing.assert_close(foretold(past, 0.75, "L"), start + 0.75 * slope)
    assert torch.equal(foretold(past, 0.75, "R"), past[-1].value)
    assert torch.equal(foretold(past[-1:], 0.75, "L"), past[-1].value)  # one point has no line
    twice = (Seen(0, 0.5, start), Seen(1, 0.5, slope))  # two evaluations at one time
    assert torch.equal(foretold(twice, 0.75, "L"), slope)


def run(trunk: str, branches: list[tuple[str, ...]]) -> tuple[list[tuple[str, int]], list[Tensor]]:
    """Which calls ran their blocks, and what came out; the change is 1 + t for the conditional branch, and
    ten times that for the other."""
    ctx, ran, out = RunContext(plan=Plan((1,) * len(trunk), trunk=trunk)), [], []
    for step, calls in enumerate(branches):
        ctx.step, ctx.time = step, step / 8
        for branch in calls:
            scale = {"cond": [1.0], "uncond": [10.0], "both": [1.0, 10.0], "weak": [100.0]}[branch]
            h = torch.full((len(scale), 2, 3), float(step))

            def blocks(
                h: Tensor, scale: list[float] = scale, branch: str = branch, step: int = step
            ) -> Tensor:
                ran.append((branch, step))
                return h + torch.tensor(scale)[:, None, None] * (1 + step / 8)

            out.append(through(blocks, h, ctx.on(branch), OWNER)[:, 0, 0] - step)
    return ran, out


def test_the_change_of_the_stream_is_used_again_by_branch() -> None:
    both, two = ("both",), ("cond", "uncond")
    ran, out = run("FRFLR", [both, two, both, two, both])
    assert ran == [("both", 0), ("both", 2)]
    expected = [[1.0, 10.0], [1.0], [10.0], [1.25, 12.5], [1.375], [13.75], [1.25, 12.5]]
    assert [o.tolist() for o in out] == expected


def test_a_branch_that_was_not_asked_runs_its_blocks() -> None:
    """Guidance sets in at a row that uses what was kept: the unconditional branch has nothing of its own, or
    something of another time."""
    ran, _ = run("FRR", [("cond",), ("cond", "uncond"), ("cond", "uncond")])
    assert ran == [("cond", 0), ("uncond", 1)]
    ran, _ = run("FFRR", [("both",), ("cond",), ("cond", "uncond"), ("both",)])
    assert ran == [("both", 0), ("cond", 1), ("uncond", 2)]


def test_other_branches_and_runs_without_a_plan_run_all_blocks() -> None:
    ran, _ = run("FR", [("weak",), ("weak",)])
    assert ran == [("weak", 0), ("weak", 1)]
    h = torch.zeros(1, 2, 3)
    assert torch.equal(through(lambda h: h + 1, h, None, OWNER), h + 1)
    assert torch.equal(through(lambda h: h + 1, h, RunContext(), OWNER), h + 1)
