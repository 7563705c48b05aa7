"""The local search: what each layer's attention would lose by each letter, measured at its own output along
one run, and the cheapest letter below a threshold taken (after DiTFastAttnV2, Zhang et al. 2503.22796)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from backbones.attention.specs import Full, Window
from backbones.caching.attention import current
from backbones.caching.kept import branches, kept
from backbones.caching.plan import ATTENTION, BOTH, BRANCHES, FULL, STEPS, WINDOW, Plan
from backbones.types import RunContext
from samplers.prediction import Prediction
from studio.compression.trial import Trial, Watched, without_trace


@dataclass(frozen=True)
class Draft(Plan):
    """A plan that is being written: as its later rows are not known, all is kept."""

    def needs_rest(self, row: int, layer: int) -> bool:
        return True

    def needs_output(self, row: int, layer: int) -> bool:
        return True


@dataclass
class Losses:
    """Seen through ``taps["attention"]``: of each layer of an evaluation the loss by each letter that could
    be used there, the worst over branches: the deviation that its gate lets into the stream."""

    window: int
    found: dict[int, dict[str, float]] = field(default_factory=dict)
    _cond: dict[int, tuple[Tensor, Tensor | None]] = field(default_factory=dict)

    def __call__(self, attention: Any, x: Tensor, ctx: RunContext, row: int, gate: Tensor | None) -> Tensor:
        memory, names = kept(ctx, attention, "attention"), branches(ctx)
        mixed, near = attention.mix(x, [Full(), Window(self.window, self.window)], ctx)
        out = attention.project(mixed)
        outs, nears = out.chunk(len(names)), near.chunk(len(names))
        gates = [None] * len(names) if gate is None else gate.chunk(len(names))
        for name, whole, seen, weight in zip(names, outs, nears, gates):
            there = memory.get(name) if current(memory, name, row) else None
            windowed = None if there is None or there.rest is None else attention.project(seen + there.rest)
            if name == "cond":
                self._cond[ctx.layer] = (whole, windowed)
            shared, both = self._cond.get(ctx.layer, (None, None))
            for letter, instead in (
                (STEPS, None if there is None else there.output),
                (WINDOW, windowed),
                (BRANCHES, whole if name == "cond" else shared),
                (BOTH, windowed if name == "cond" else both),
            ):
                self._note(ctx.layer, letter, whole, instead, weight)
        return out

    def _note(
        self, layer: int, letter: str, whole: Tensor, instead: Tensor | None, gate: Tensor | None
    ) -> None:
        if instead is None:
            loss = float("inf")
        else:
            away = (instead - whole).float() * (1.0 if gate is None else gate.float()[:, None])
            loss = float(away.flatten(1).square().mean(1).sqrt().max())
        losses = self.found.setdefault(layer, {})
        losses[letter] = max(losses.get(letter, 0.0), loss)


def letters(losses: Mapping[int, Mapping[str, float]], threshold: float, *, guided: bool) -> str:
    """The cheapest letter below a threshold, of each layer."""
    usable = [m for m in ATTENTION if m != FULL and (guided or m not in (BRANCHES, BOTH))]
    return "".join(
        next((m for m in usable if losses[layer][m] < threshold), FULL) for layer in range(len(losses))
    )


def searched(trial: Trial, base: Plan, threshold: float) -> tuple[Plan, Tensor]:
    """``base`` with attention by letters whose loss is below a threshold, and the last states of the run in
    which they were chosen, which is a run by that plan."""

    def choose(ask: Callable[[RunContext], Prediction], ctx: RunContext, row: int) -> str:
        losses = Losses(base.window)
        ask(without_trace(ctx, taps={"attention": losses}))
        return letters(losses.found, threshold, guided=both_asked(trial, base, row))

    return row_by_row(trial, base, choose)


def both_asked(trial: Trial, plan: Plan, row: int) -> bool:
    """Whether an evaluation asks for both branches."""
    return trial.guided[row] and (not plan.uncond or plan.uncond[row] == FULL)


def row_by_row(
    trial: Trial, base: Plan, choose: Callable[[Callable[[RunContext], Prediction], RunContext, int], str]
) -> tuple[Plan, Tensor]:
    """A run in which ``choose(ask, ctx, row)`` says the letters of each evaluation before it is made; the
    first is full. ``ctx.plan`` is then that of the rows before, this one full."""
    rows: list[str] = []
    full = FULL * base.layers

    def watch(ask: Callable[[RunContext], Prediction], ctx: RunContext) -> None:
        row = len(rows)
        ctx.plan = draft(base, rows)
        passed = bool(base.trunk) and base.trunk[row] != FULL
        rows.append(full if not row or passed else choose(ask, ctx, row))
        ctx.plan = draft(base, rows)

    states = trial.run(draft(base, []), lambda model: Watched(model, watch))
    return base.with_(attention=tuple(rows)), states


def draft(base: Plan, rows: Sequence[str]) -> Draft:
    """The rows so far; those that are not reached yet are full."""
    table = (*rows, *[FULL * base.layers] * (base.total - len(rows)))
    return Draft(base.evaluations, table, base.trunk, base.uncond, base.window, base.tile)
