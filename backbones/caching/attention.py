"""Attention by a plan: DiTFastAttn (Yuan et al. 2406.08552), for one call of both branches and for two.

A full attention O keeps what its window W does not see, R = O − W, before the projection, and its output
after it. Later a window gives W' + R, and an output stands for the next one, or for the other branch's.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from backbones.attention.specs import Full, Spec, Window
from backbones.caching.kept import branches, by_branch, kept
from backbones.caching.plan import BOTH, BRANCHES, STEPS, WINDOW, Plan
from backbones.types import RunContext


class Attends(Protocol):
    """What is asked of an attention layer: ``mix`` (B, N, D) to (B, H, N, d) for each spec, by one set of
    queries, keys and values; ``project`` of one of them to (B, N, D)."""

    def mix(self, x: Tensor, specs: Sequence[Spec], ctx: RunContext | None) -> list[Tensor]: ...
    def project(self, mixed: Tensor) -> Tensor: ...


class Kept(NamedTuple):
    """Of one branch of one layer: the row of the plan at which it was made, the row of what was kept before,
    the output and what the window did not see, where they are asked for later."""

    row: int
    before: int
    output: Tensor | None
    rest: Tensor | None


def attended(
    attention: Attends,
    x: Tensor,
    ctx: RunContext | None,
    gate: Tensor | None = None,
    sees: Spec = Full(),
) -> Tensor:
    """(B, N, D) to (B, N, D): as the plan of the run says, where there is none as ``sees`` does. ``gate`` (B,
    D): what the output will be multiplied by; told to whoever looks on (``taps["attention"]``, asked in place
    of the plan). Raises ``ValueError`` for a plan of attention that does not see all."""
    plan, names = (None, ()) if ctx is None else (ctx.plan, branches(ctx))
    row = None if plan is None or ctx is None else plan.row(ctx.step, ctx.evaluation)
    if ctx is None or plan is None or row is None or not names or not plan.attention:
        return attention.project(attention.mix(x, [sees], ctx)[0])
    if sees != Full():
        raise ValueError(
            "got a plan of attention for samples with padding, expected one of trunk or uncond alone"
        )
    if "attention" in ctx.taps:
        return ctx.taps["attention"](attention, x, ctx, row, gate)
    return planned(attention, x, ctx, plan, row, plan.attends(row, ctx.layer))


def planned(attention: Attends, x: Tensor, ctx: RunContext, plan: Plan, row: int, letter: str) -> Tensor:
    """The same with one letter; what is kept for later is what the plan asks for."""
    names, memory = branches(ctx), kept(ctx, attention, "attention")
    later = plan.needs_output(row, ctx.layer), plan.needs_rest(row, ctx.layer)
    if letter == STEPS:
        copied = {n for n in names if current(memory, n, row) and memory[n].output is not None}
    else:
        copied = set(names) & (
            {"uncond"} if letter in (BRANCHES, BOTH) and shares(memory, names, row) else set()
        )
    mine = [n for n in names if n not in copied]
    near = [
        n for n in mine if letter in (WINDOW, BOTH) and current(memory, n, row) and memory[n].rest is not None
    ]

    def make(part: Tensor, group: Sequence[str]) -> Tensor:
        rest: Tensor | None
        if list(group) == near:
            rest = torch.cat([memory[n].rest for n in group])
            mixed = attention.mix(part, [Window(plan.window, plan.window)], ctx)[0] + rest
        else:
            specs: list[Spec] = [Full(), *([Window(plan.window, plan.window)] if later[1] else [])]
            mixed, *seen = attention.mix(part, specs, ctx)
            rest = None if not seen else mixed - seen[0]
        out = attention.project(mixed)
        for i, name in enumerate(group):
            before = memory[name].row if name in memory else -1
            memory[name] = Kept(
                row, before, _rows(out if later[0] else None, i, group), _rows(rest, i, group)
            )
        return out

    made = by_branch(x, names, (near, [n for n in mine if n not in near]), make)
    for name in copied:
        if letter != STEPS:
            memory[name] = memory["cond"]
        made[name] = made["cond"] if letter != STEPS and "cond" in made else memory[name].output
    return made[names[0]] if len(names) == 1 else torch.cat([made[name] for name in names])


def current(memory: dict[str, Kept], branch: str, row: int) -> bool:
    """Whether what a branch keeps at a row is as new as what the conditional one had there: where guidance
    pauses, it is not asked, and what it kept before is of another time."""
    if branch not in memory or "cond" not in memory:
        return branch in memory
    there = memory["cond"]
    return memory[branch].row >= (there.row if there.row < row else there.before)


def shares(memory: dict[str, Kept], names: Sequence[str], row: int) -> bool:
    """Whether the conditional branch is asked together with the other, or was at this evaluation."""
    return (
        "cond" in names
        or "cond" in memory
        and memory["cond"].row == row
        and memory["cond"].output is not None
    )


def _rows(values: Tensor | None, i: int, group: Sequence[str]) -> Tensor | None:
    return None if values is None else values.chunk(len(group))[i]
