"""The engine: a `Denoiser` and an ordered list of rules are again something that can be queried.

A query makes the conditional prediction, then the branches that active rules need (each from the rule that
provides it, otherwise from the model itself without conditions), lets rules transform them in their own space
and combines. Where no active rule needs another branch, the conditional prediction is returned and nothing
else is computed. Last come rules that query: they see the prediction, and the model as it was asked for it.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from backbones.types import Cond, RunContext
from guidance import gap
from guidance.probe import record
from guidance.rules import STAGES, Rule
from samplers.denoiser import Queryable
from samplers.paths import Path, Time
from samplers.prediction import Prediction


class Guided:
    """``Guided(denoiser, [PriorSwap(base), Tangential(), CFG(2.0, interval=(0.1, 0.9))])``. Learned-variance
    and other heads come from the conditional branch. Raises ``ValueError`` for rules that do not fit the
    model or have nothing to act on."""

    def __init__(self, denoiser: Queryable, stages: Sequence[Rule]):
        self.denoiser, self.stages = denoiser, sorted(stages, key=lambda rule: STAGES.index(rule.stage))
        needed = frozenset().union(*(rule.needs for rule in stages)) if stages else frozenset()
        for rule in self.stages:
            idle = (rule.changes | {rule.provides} - {""}) - needed
            if idle:
                raise ValueError(
                    f"{type(rule).__name__} is about the {', '.join(sorted(idle))} branch, which no other "
                    "rule uses; add one, such as cfg=2.0"
                )
            if rule.provides and any(r.provides == rule.provides for r in self.stages if r is not rule):
                raise ValueError(f"got two rules that provide the {rule.provides} branch, expected one")
            rule.check(denoiser)
            _check_sums(rule, denoiser)
            rule.active(denoiser.path.t_start, denoiser.path)  # refuses an interval that the path has not
            if rule.queries and getattr(denoiser, "grad", "none") == "input":
                raise ValueError(
                    f"got {type(rule).__name__}, which follows gradients of the prediction, for a model "
                    "whose head gives none through its own (grad 'input'), expected 'double'; leave it out"
                )

    @property
    def path(self) -> Path:
        return self.denoiser.path

    @property
    def space(self) -> str:
        return self.denoiser.space

    @property
    def starts(self) -> str:
        return self.denoiser.starts

    @property
    def known_trained(self) -> bool:
        return self.denoiser.known_trained

    @property
    def demands(self) -> frozenset[str]:
        """Heads that a sampler has to follow."""
        return frozenset().union(*(rule.demands for rule in self.stages)) if self.stages else frozenset()

    def predict(self, x: Tensor, t: Time, cond: Cond, ctx: RunContext | None = None) -> Prediction:
        ctx = ctx if ctx is not None else RunContext()
        start = ctx.t if ctx.t is not None else float(t.reshape(-1)[0] if isinstance(t, Tensor) else t)
        active = [(i, rule) for i, rule in enumerate(self.stages) if rule.active(start, self.path)]
        guiding = [(i, rule) for i, rule in active if not rule.queries]
        result = self._guided(x, t, cond, ctx, guiding, start)
        for i, rule in active:
            if rule.queries:
                result = self._finished(rule, _state(ctx, i), result, x, t, cond, ctx, guiding, start)
        return result

    def _guided(
        self,
        x: Tensor,
        t: Time,
        cond: Cond,
        ctx: RunContext,
        active: Sequence[tuple[int, Rule]],
        start: float,
    ) -> Prediction:
        """What the rules make of the branches that they need."""
        branches = self._ask(x, t, cond, ctx, [rule for _, rule in active])
        ours = branches["cond"]
        if len(branches) == 1:
            return ours
        asked = dict(branches)
        of_noise = any(
            (self.path.native if rule.space == "native" else rule.space) in OF_NOISE for _, rule in active
        )
        if of_noise and any(p.space not in OF_NOISE for p in branches.values()):
            # all of them or none: rules compare what is read at one time
            branches = {name: _off_the_end(p) for name, p in branches.items()}
        for i, rule in active:
            if rule.stage == "source":
                continue
            state = _state(ctx, i)
            space = self.path.native if rule.space == "native" else rule.space
            tensors = _read(branches, space)
            changed = rule.transform(tensors, x=x, t=t, path=self.path, state=state)
            branches.update({name: branches["cond"].with_(space, value) for name, value in changed.items()})
            guided = rule.combine({**tensors, **changed}, x=x, t=t, path=self.path, state=state)
            if guided is not None:
                heads = {**branches.get("guided", ours).heads, **rule.heads({**tensors, **changed})}
                branches["guided"] = replace(branches["cond"], space=space, value=guided, heads=heads)
        result = branches.get("guided", ours)
        if result.t is not ours.t:
            result = replace(result, space="data", value=result.to("data"), t=t)
        if "probe" in ctx.taps and ctx.accepted:
            record(ctx.taps["probe"], asked, result, ctx.step, start)
        return result

    def _finished(
        self,
        rule: Rule,
        state: dict[str, Any],
        made: Prediction,
        x: Tensor,
        t: Time,
        cond: Cond,
        ctx: RunContext,
        guiding: Sequence[tuple[int, Rule]],
        start: float,
    ) -> Prediction:
        """What a rule that queries makes of a prediction. The run itself has no gradients, nor what it is
        given back, unless its start asks for them."""
        if not x.is_floating_point():
            raise ValueError(
                f"got {type(rule).__name__}, which follows gradients in the state, for a model of "
                f"{self.space}, whose states are whole numbers; leave it out"
            )
        kept = torch.is_grad_enabled()
        # other rules' states are those of the step, and nothing is kept of what is asked besides
        asking = replace(ctx, accepted=False, taps={}, plan=None)
        with torch.inference_mode(False), torch.enable_grad():
            if x.is_inference():
                x, cond = x.clone(), cond.clone()
            at = x if kept and x.requires_grad else x.detach().requires_grad_()

            def query(x: Tensor, t: Time) -> Prediction:
                with torch.enable_grad():
                    return self._guided(x, t, cond, asking, guiding, start)

            found = rule.finish(made, query=query, x=at, t=t, path=self.path, state=state)
        return found if kept else replace(found, value=found.value.detach(), x=x)

    def _ask(
        self, x: Tensor, t: Time, cond: Cond, ctx: RunContext, active: Sequence[Rule]
    ) -> dict[str, Prediction]:
        """The conditional branch and those that active rules need, by name."""
        needs = sources_of(active)
        for rule in self.stages:
            if rule.provides and rule.provides not in needs:
                rule.rest()
        apart = gap.foreseen(ctx, self) if "uncond" in needs else None
        both = needs.get("uncond") is OWN and apart is None
        branches = self._both(x, t, cond, ctx) if both else {}
        if not branches:
            branches["cond"] = self.denoiser.predict(x, t, cond, ctx.on("cond"))
        if apart is not None:
            native = branches["cond"].to(self.path.native)
            branches["uncond"] = branches["cond"].with_(self.path.native, native + apart)
        for name, rule in needs.items():
            if name in branches:
                continue
            model = rule.branch(self.denoiser)
            own = ctx if model is self.denoiser else replace(ctx, plan=None)  # a plan is of one model
            branches[name] = model.predict(x, t, rule.condition(cond), own.on(name))
        if apart is None and "uncond" in needs:
            gap.keep(ctx, self, branches, self.path.native)
        return branches

    def _both(self, x: Tensor, t: Time, cond: Cond, ctx: RunContext) -> dict[str, Prediction]:
        """Conditional and unconditional by one call of twice the batch, where that is faster than two;
        otherwise nothing."""
        doubles = getattr(self.denoiser, "doubles", None)
        if doubles is None or self.starts != "noise" or not doubles(x):
            return {}
        times = torch.cat([t, t]) if isinstance(t, Tensor) and t.ndim else t
        both = self.denoiser.predict(torch.cat([x, x]), times, cond.beside(cond.null()), ctx.on("both"))
        return {"cond": both.rows(slice(None, len(x)), x, t), "uncond": both.rows(slice(len(x), None), x, t)}


def _check_sums(rule: Rule, denoiser: Queryable) -> None:
    """Raises ``ValueError`` for a rule that adds up what has no sums on a model's path."""
    path = denoiser.path
    space, sums = path.native if rule.space == "native" else rule.space, getattr(path, "sums", ())
    if sums and space not in sums and rule.stage != "source":
        raise ValueError(
            f"got {type(rule).__name__} in the space {space} for a model of {denoiser.space}, where only "
            f"{' and '.join(sums)} can be added; set space={sums[0]} where the rule has that, or leave it out"
        )


OF_NOISE = ("noise", "score")
LEAST = 1e-3  # of alpha, below which a noise in float32 no longer tells of the data


def _off_the_end(p: Prediction) -> Prediction:
    """A prediction read a little off the end of pure noise, where all noise predictions are the state itself
    and say nothing of the data; rules in the space of noise then do what they do in the limit. A branch that
    predicts the noise is read there by the data that it implies."""
    floor = float(p.path.time_of(2 * math.log(LEAST)))
    if float(p.t.min() if isinstance(p.t, Tensor) else p.t) >= floor:
        return p
    return replace(
        p, space="data", value=p.to("data"), t=p.t.clamp_min(floor) if isinstance(p.t, Tensor) else floor
    )


OWN = Rule()  # a branch that no rule provides: the model itself, without conditions


def sources_of(active: Sequence[Rule]) -> dict[str, Rule]:
    """The branches that rules need beside the conditional one, by name, each with the rule that says who is
    asked for it, `OWN` where that is the model itself."""
    needs = frozenset().union(*(rule.needs for rule in active)) if active else frozenset()
    given = {rule.provides: rule for rule in active if rule.provides}
    return {name: given.get(name, OWN) for name in sorted(needs)}


def _read(branches: dict[str, Prediction], space: str) -> dict[str, Tensor]:
    """Branches in a space. One with fewer channels than the conditional (a prior that shares only the first)
    keeps the conditional's others."""
    c = branches["cond"].to(space)
    read = {name: c if name == "cond" else p.to(space) for name, p in branches.items()}
    return {
        name: v if v.shape == c.shape else torch.cat([v, c[:, v.shape[1] :]], 1) for name, v in read.items()
    }


def _state(ctx: RunContext, i: int) -> dict[str, Any]:
    """The rule's dict as it was before this step; the first evaluation's is the one that is kept, so that a
    step of several counts once."""
    before, kept = ctx.states.get(f"rule {i}", ({}, {}))
    if not ctx.accepted:
        return {**before, "step": ctx.step, "num_steps": ctx.num_steps}
    state = {**kept, "step": ctx.step, "num_steps": ctx.num_steps}
    ctx.states[f"rule {i}"] = (kept, state)
    return state
