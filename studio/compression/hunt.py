"""Plans tried one after the other until the cheapest within an error is found, or the most exact one within a
cost."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from backbones.caching.plan import FULL, Plan
from studio.compression import adaptive, greedy, local, schedules
from studio.compression.budget import Budget
from studio.compression.cost import Cost, Parts, cost
from studio.compression.notes import Notes
from studio.compression.trial import Trial

SEARCHES = {"local": local.searched, "greedy": greedy.searched}
ROUNDS = 7  # of halving the range of a threshold
WORTH = 0.02  # of the operations of a run that attention has to have left for a search of it
SHARE = 0.7  # of an error that blocks and the unconditional pass may take, where attention follows


@dataclass(frozen=True)
class Found:
    """A plan that was tried, with its error and what it costs."""

    plan: Plan
    error: float
    cost: Cost


class Hunt:
    """``methods`` of blocks, uncond and attention; ``search`` of attention, ``schedule`` of the others;
    ``notes`` keep what was tried, ``say`` is told of it."""

    def __init__(
        self,
        trial: Trial,
        parts: Parts,
        budget: Budget,
        methods: Sequence[str],
        *,
        search: str,
        schedule: str,
        notes: Notes,
        say: Callable[[str], Any],
    ):
        self.trial, self.parts, self.budget, self.methods = trial, parts, budget, methods
        self.search, self.schedule, self.notes, self.say = SEARCHES[search], schedule, notes, say
        self.whole = cost(parts, Plan.full(trial.evaluations), trial.guided)

    def found(self, full: Plan) -> Found:
        """The plan that the budget allows: first blocks and the unconditional pass, then attention where they
        leave it something to do. Raises ``ValueError`` where there is none."""
        best, budget, attention = Found(full, 0.0, self.whole), self.budget, "attention" in self.methods
        if {"blocks", "uncond"} & set(self.methods):
            part = budget.share(SHARE) if attention else budget
            best = (self._every if self.schedule == "interval" else self._adaptive)(full, best, part)
        left = self.parts.layers * (self.parts.core + self.parts.projections) / max(self.parts.all, 1)
        done = budget.kind == "flops" and budget.met(best, self.whole)
        if attention and left > WORTH and not done:
            start = best.plan.with_(attention=(FULL * self.parts.layers,) * full.total)
            searched = self.search
            best = self._halved(
                "attention", start, lambda h: searched(self.trial, start, h), (1e-4, 30.0), best, budget
            )
        if not budget.met(best, self.whole):
            raise ValueError(
                f"no plan meets {budget}: the cheapest that was tried costs "
                f"{best.cost.flops / self.whole.flops:.0%}; allow more, or other methods"
            )
        if set("".join(best.plan.attention)) == {FULL}:
            best = replace(best, plan=best.plan.with_(attention=()))
        return best

    def _adaptive(self, full: Plan, best: Found, budget: Budget) -> Found:
        """Blocks and the unconditional pass as measured along a run."""
        trunk, uncond = "blocks" in self.methods, "uncond" in self.methods
        return self._halved(
            "reuse",
            full,
            lambda h: adaptive.searched(self.trial, full, h, trunk=trunk, uncond=uncond),
            (1e-5, 0.3),
            best,
            budget,
        )

    def _every(self, full: Plan, best: Found, budget: Budget) -> Found:
        """The same at every n-th evaluation: of an error the cheapest within it, from the cheapest on."""
        trunk, uncond = "blocks" in self.methods, "uncond" in self.methods
        costs = {
            plan: cost(self.parts, plan, self.trial.guided).flops
            for plan in schedules.candidates(full, self.trial.guided, trunk=trunk, uncond=uncond)
        }
        for plan in sorted(costs, key=lambda p: costs[p]):
            if budget.kind == "flops" and costs[plan] > budget.most * self.whole.flops and best.plan != full:
                break
            found = self._tried(f"interval {plan.hash}", plan, partial(self._run, plan))
            if budget.better(found, best, self.whole):
                best = found
            if budget.kind == "error" and budget.met(found, self.whole):
                break
        return best

    def _run(self, plan: Plan) -> tuple[Plan, Tensor]:
        return plan, self.trial.run(plan)

    def _halved(
        self,
        what: str,
        start: Plan,
        run: Callable[[float], tuple[Plan, Tensor]],
        span: tuple[float, float],
        best: Found,
        budget: Budget,
    ) -> Found:
        """By halving a threshold's range on a logarithmic scale: of an error the cheapest plan within it, of
        a cost the most exact one that is cheap enough (the cheapest where none is)."""
        low, high = map(math.log, span)
        for _ in range(ROUNDS):
            middle = math.exp((low + high) / 2)
            found = self._tried(f"{what} below {middle:.3g}", start, partial(run, middle))
            if budget.better(found, best, self.whole):
                best = found
            if budget.met(found, self.whole) == (budget.kind == "error"):
                low = math.log(middle)
            else:
                high = math.log(middle)
        return best

    def _tried(self, what: str, start: Plan, run: Callable[[], tuple[Plan, Tensor]]) -> Found:
        def made() -> tuple[Plan, float]:
            plan, states = run()
            return plan, self.trial.error(states)

        plan, error = self.notes.kept(f"{what} {start.hash}", made)
        found = Found(plan, error, cost(self.parts, plan, self.trial.guided))
        self.say(f"{what}: {found.cost.flops / self.whole.flops:.0%} of the operations, error {error:.4f}")
        return found
