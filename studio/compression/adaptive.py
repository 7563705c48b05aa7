"""Which evaluations may reuse blocks and the unconditional pass, found along one run: each is made whole
and by every way of leaving something out, and the cheapest way is taken whose deviation over the step is
below a threshold."""

from collections.abc import Callable

from torch import Tensor

from backbones.caching.plan import FULL, LINE, Plan
from backbones.types import RunContext
from samplers.prediction import Prediction
from studio.compression.trial import Trial, Watched, rms, without_trace


def searched(
    trial: Trial, base: Plan, threshold: float, *, trunk: bool = True, uncond: bool = True
) -> tuple[Plan, Tensor]:
    """``base`` with letters of blocks and of the unconditional pass, and the last states of the run in which
    they were chosen. ``threshold``: of what a step may deviate, as a share of how far samples lie apart."""
    blocks, passes = "", ""

    def watch(ask: Callable[[RunContext], Prediction], ctx: RunContext) -> None:
        nonlocal blocks, passes
        row = len(blocks)
        ways = [(FULL, FULL)]
        if row > 1 and row < base.total - 1:
            ways = _ways(trial, row, blocks, passes, trunk=trunk, uncond=uncond)
        if len(ways) > 1:
            whole = _made(ask, ctx, _plan(base, blocks + FULL, passes + FULL))
            share = abs((ctx.t_next or 1.0) - (ctx.t or 0.0))
            for way in ways[:-1]:
                tried = _made(ask, ctx, _plan(base, blocks + way[0], passes + way[1]))
                if share * float((rms(tried - whole) / trial.apart).max()) < threshold:
                    break
            else:
                way = ways[-1]
        else:
            way = ways[0]
        blocks, passes = blocks + way[0], passes + way[1]
        ctx.plan = _plan(base, blocks, passes)

    states = trial.run(_plan(base, "", ""), lambda model: Watched(model, watch))
    return base.with_(trunk=blocks, uncond=passes), states


def _ways(
    trial: Trial, row: int, blocks: str, passes: str, *, trunk: bool, uncond: bool
) -> list[tuple[str, str]]:
    """Letters of blocks and of the unconditional pass, the cheapest first. An unconditional pass can only use
    blocks again that it ran when the conditional one did, and a difference that was asked for just before."""
    wanted = trial.guided[row]
    last = max(i for i in range(row) if blocks[i] == FULL)
    aligned = not wanted or trial.guided[last] and passes[last] == FULL
    between = (LINE, FULL) if uncond and wanted and trial.guided[row - 1] else (FULL,)
    return [
        (b, u)
        for b in ((LINE, FULL) if trunk else (FULL,))
        for u in between
        if b == FULL or u == LINE or aligned
    ]


def _plan(base: Plan, blocks: str, passes: str) -> Plan:
    """The letters so far; a last one that is not reached keeps what is needed later."""
    rest = base.total - len(blocks)
    ahead = FULL * max(rest - 1, 0) + LINE * (rest > 0)
    return base.with_(trunk=blocks + ahead, uncond=passes + ahead)


def _made(ask: Callable[[RunContext], Prediction], ctx: RunContext, plan: Plan) -> Tensor:
    return ask(without_trace(ctx, plan=plan)).to("velocity")
