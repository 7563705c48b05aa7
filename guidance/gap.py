"""The unconditional prediction where the plan of a run leaves it out: the conditional one and what it
lacked to it before (the stale difference of Linear Adaptive Guidance, Castillo et al. 2312.12487, or the
line through the last two)."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from backbones.caching.kept import kept
from backbones.caching.plan import FULL
from backbones.caching.reuse import Past, foretold, remembered
from backbones.types import RunContext
from samplers.prediction import Prediction


class Gap(NamedTuple):
    """Of one run: the last two differences, and the row of the plan at which one was last asked for."""

    past: Past = ()
    row: int = -1


def foreseen(ctx: RunContext, owner: object) -> Tensor | None:
    """(B, ...) what the unconditional prediction lacks to the conditional one; None where it has to be asked:
    by the plan, and after a pause of guidance."""
    row = _row(ctx)
    if row is None or ctx.plan is None or ctx.time is None:
        return None
    memory = kept(ctx, owner, "uncond")
    gap, letter = memory.get("gap", Gap()), ctx.plan.uncond[row]
    memory["gap"] = gap._replace(row=row)
    recent = bool(gap.past) and gap.row >= row - 1
    return foretold(gap.past, ctx.time, letter) if letter != FULL and recent else None


def keep(ctx: RunContext, owner: object, branches: Mapping[str, Prediction], space: str) -> None:
    """Remember how far apart the two were."""
    row = _row(ctx)
    if row is not None and ctx.time is not None:
        memory = kept(ctx, owner, "uncond")
        apart = branches["uncond"].to(space) - branches["cond"].to(space)
        memory["gap"] = Gap(remembered(memory["gap"].past, row, ctx.time, apart), row)


def _row(ctx: RunContext) -> int | None:
    return None if ctx.plan is None or not ctx.plan.uncond else ctx.plan.row(ctx.step, ctx.evaluation)
