"""What a run keeps, by branch: it survives a change between one call of twice the batch and two calls."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from backbones.types import RunContext

BRANCHES = {"both": ("cond", "uncond"), "cond": ("cond",), "uncond": ("uncond",)}


def branches(ctx: RunContext) -> tuple[str, ...]:
    """Of this call, in the order of its rows; none of a branch of which nothing is kept."""
    return BRANCHES.get(ctx.branch, ())


def kept(ctx: RunContext, owner: object, part: Any) -> dict[str, Any]:
    """What a part of a network keeps in this run, by branch."""
    return ctx.caches.setdefault((id(owner), part), {})


def by_branch(
    x: Tensor,
    names: Sequence[str],
    groups: Iterable[Sequence[str]],
    make: Callable[[Tensor, Sequence[str]], Tensor],
) -> dict[str, Tensor]:
    """``make(rows, names)`` (B, ...) for the rows of each group of branches, by branch."""
    rows = dict(zip(names, x.chunk(len(names))))
    made: dict[str, Tensor] = {}
    for group in filter(None, groups):
        part = x if tuple(group) == tuple(names) else torch.cat([rows[name] for name in group])
        made.update(zip(group, make(part, group).chunk(len(group))))
    return made
