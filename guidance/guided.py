"""The engine: a `Denoiser` and an ordered list of rules are again something that can be queried.

A query makes the conditional prediction, then the branches that active rules need, lets every rule transform them in its own space and
combines. Where no rule that needs another branch is active, the conditional prediction is returned and nothing else is computed.
"""

from collections.abc import Sequence

from torch import Tensor

from backbones.types import Cond, RunContext
from guidance.rules import Rule
from samplers.denoiser import Queryable
from samplers.paths import Path, Time
from samplers.prediction import Prediction


class Guided:
    """``Guided(denoiser, [CFG(2.0, interval=(0.1, 0.9)), Rescale(0.7)])``. Learned-variance and other heads come from the conditional branch."""

    def __init__(self, denoiser: Queryable, stages: Sequence[Rule]):
        self.denoiser, self.stages = denoiser, list(stages)

    @property
    def path(self) -> Path:
        return self.denoiser.path

    @property
    def family(self) -> str:
        return self.denoiser.family

    @property
    def known_trained(self) -> bool:
        return self.denoiser.known_trained

    def predict(self, x: Tensor, t: Time, cond: Cond, ctx: RunContext | None = None) -> Prediction:
        ctx = ctx if ctx is not None else RunContext()
        start = ctx.t if ctx.t is not None else float(t.reshape(-1)[0] if isinstance(t, Tensor) else t)
        active = [(i, rule) for i, rule in enumerate(self.stages) if rule.active(start, self.path)]
        needs = frozenset().union(*(rule.needs for _, rule in active)) if active else frozenset()
        ours = self.denoiser.predict(x, t, cond, ctx.on("cond"))
        if not needs:
            return ours
        branches = {"cond": ours, "uncond": self.denoiser.predict(x, t, cond.null(), ctx.on("uncond"))}
        for i, rule in active:
            state = ctx.states.setdefault(("rule", i), {})
            space = self.path.native if rule.space == "native" else rule.space
            tensors = {name: p.to(space) for name, p in branches.items()}
            changed = rule.transform(tensors, x=x, t=t, path=self.path, state=state)
            branches.update({name: branches[name].with_(space, value) for name, value in changed.items()})
            guided = rule.combine({**tensors, **changed}, x=x, t=t, path=self.path, state=state)
            if guided is not None:
                branches["guided"] = ours.with_(space, guided)
        return branches.get("guided", ours)
