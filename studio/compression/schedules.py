"""Schedules of blocks and of the unconditional pass: every n-th evaluation, aligned, so that an unconditional
pass falls on one in which the blocks run."""

from collections.abc import Iterator, Sequence

from backbones.caching.plan import FULL, LINE, Plan

TRUNK = (1, 2, 3, 4)  # blocks run at every n-th evaluation
UNCOND = (1, 2, 3, 4, 5, 6)
FIRST = 2  # evaluations that are whole: a line needs two


def every(n: int, total: int, letter: str = LINE) -> str:
    """F at every n-th of the evaluations, from the first ones on."""
    return "".join(
        FULL if i < FIRST or (i - FIRST + 1) % n == 0 or i == total - 1 else letter for i in range(total)
    )


def among(asked: Sequence[bool], n: int, trunk: str, letter: str = LINE) -> str:
    """Of the evaluations that guidance asks, F at every n-th one at which the blocks run, and at the first
    two after a pause."""
    out, since, run = [], n, 0
    for i, wanted in enumerate(asked):
        run = run + 1 if wanted else 0
        since += 1
        whole = not trunk or trunk[i] == FULL
        # what it runs after a pause is of its own time, as `caching.reuse` has it
        here = not wanted or run <= FIRST or (since >= n and whole)
        since = 0 if here and wanted else since
        out.append(FULL if here else letter)
    return "".join(out)


def candidates(
    plan: Plan, guided: Sequence[bool], *, trunk: bool = True, uncond: bool = True
) -> Iterator[Plan]:
    """Plans with the blocks at every n-th evaluation and the unconditional pass at every m-th of those that
    guidance asks, m ≥ n."""
    seen = set()
    for n in TRUNK if trunk else (1,):
        blocks = every(n, plan.total) if n > 1 else ""
        for m in UNCOND if uncond and any(guided) else (1,):
            if m > 1 and m < n:
                continue
            passes = among(guided, m, blocks) if m > 1 else ""
            if (blocks, passes) not in seen and (blocks or passes):
                seen.add((blocks, passes))
                yield plan.with_(trunk=blocks, uncond=passes)
