"""What changes little between evaluations, taken from the last ones: as it was, or along the line through the
last two (FORA, Selvaraju et al. 2407.01425; the first order of TaylorSeer, Liu et al. 2503.06923)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from backbones.caching.kept import branches, kept
from backbones.caching.plan import AGAIN, FULL, LINE
from backbones.types import RunContext


class Seen(NamedTuple):
    """What was computed at a row of the plan, at time t of the run."""

    row: int
    t: float
    value: Tensor


Past = tuple[Seen, ...]  # the last two


def remembered(past: Past, row: int, t: float, value: Tensor) -> Past:
    """What was computed behind what was before it."""
    return (*past[-1:], Seen(row, t, value))


def foretold(past: Past, t: float, letter: str) -> Tensor:
    """The last value, or at time t what lies on the line through the last two."""
    last = past[-1]
    if letter != LINE or len(past) < 2 or last.t == past[0].t:
        return last.value
    slope = (t - last.t) / (last.t - past[0].t)
    return torch.lerp(past[0].value, last.value, 1 + slope)


def through(blocks: Callable[[Tensor], Tensor], h: Tensor, ctx: RunContext | None, owner: object) -> Tensor:
    """``blocks(h)`` (B, N, D), or h and the change that they made before, where the plan of the run says so.
    ``owner``: the network."""
    plan, names = (None, ()) if ctx is None else (ctx.plan, branches(ctx))
    row = None if plan is None or ctx is None else plan.row(ctx.step, ctx.evaluation)
    if ctx is None or plan is None or row is None or not names or not plan.trunk or ctx.time is None:
        return blocks(h)
    memory = kept(ctx, owner, "trunk")
    letter = plan.trunk[row]
    if letter != FULL and all(_current(memory, name) for name in names):
        changes = [foretold(memory[name], ctx.time, letter) for name in names]
        return h + (changes[0] if len(changes) == 1 else torch.cat(changes))
    out = blocks(h)
    if any(later in (AGAIN, LINE) for later in plan.trunk[row + 1 :]):
        for name, change in zip(names, (out - h).chunk(len(names))):
            memory[name] = remembered(memory.get(name, ()), row, ctx.time, change)
    return out


def _current(memory: dict[str, Past], branch: str) -> bool:
    """Whether a branch's last change is as new as the conditional one's: see `attention.current`."""
    return branch in memory and ("cond" not in memory or memory[branch][-1].row >= memory["cond"][-1].row)
