"""Runs of a model over a few calibration samples: whole, by a plan, and watched."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from backbones.caching.plan import Plan
from backbones.types import Cond, RunContext
from samplers.denoiser import Queryable
from samplers.paths import Time
from samplers.prediction import Prediction
from studio import sampling
from studio.model.model import Model


class Watched:
    """A guided model whose every evaluation is first shown to ``watch(ask, ctx)``; ``ask(ctx)`` makes the
    prediction with another context."""

    def __init__(self, model: Any, watch: Callable[[Callable[[RunContext], Prediction], RunContext], None]):
        self.model, self.watch = model, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def predict(self, x: Tensor, t: Time, cond: Cond, ctx: RunContext | None = None) -> Prediction:
        assert ctx is not None
        self.watch(lambda other: self.model.predict(x, t, cond, other), ctx)
        return self.model.predict(x, t, cond, ctx)


class Trial:
    """Calibration samples in pairs of one class: ``run(plan)`` gives their last states (N, ...), ``error``
    how far these are from the unplanned ones, as a share of how far the two of a pair are from each
    other."""

    def __init__(self, model: Model, request: sampling.Request):
        self.model, self.request = model, replace(request, plan=None, plan_name="")
        self.evaluations: tuple[int, ...] = ()
        self.guided: tuple[bool, ...] = ()
        self.plain = self._plain()
        near, far = self.plain[0::2], self.plain[1::2]
        self.apart = rms(near - far).repeat_interleave(2)  # (N,)

    def _plain(self) -> Tensor:
        """The unplanned run, in which evaluations are counted, and those that ask for both branches."""
        counts: dict[int, int] = {}
        guided: list[bool] = []

        def watch(ask: Callable[[RunContext], Prediction], ctx: RunContext) -> None:
            counts[ctx.step] = max(counts.get(ctx.step, 0), ctx.evaluation + 1)
            guided.append(wants_both(model, ctx))

        model: Any = None

        def around(inner: Queryable) -> Queryable:
            nonlocal model
            model = inner
            return Watched(inner, watch)

        states = self.run(None, around)
        self.evaluations, self.guided = tuple(counts[i] for i in sorted(counts)), tuple(guided)
        return states

    def run(self, plan: Plan | None, around: Callable[[Queryable], Queryable] | None = None) -> Tensor:
        """(N, ...) the last states."""
        last = None
        for progress in self.model.stream(
            replace(self.request, plan=plan), around=around or (lambda model: model)
        ):
            last = progress.step.x
        assert last is not None
        return last

    def error(self, states: Tensor) -> float:
        """Of the worst sample."""
        return float((rms(states - self.plain) / self.apart).max())


def rms(x: Tensor) -> Tensor:
    """(N,) of (N, ...)."""
    return x.float().flatten(1).square().mean(1).sqrt()


def wants_both(model: Any, ctx: RunContext) -> bool:
    """Whether guidance needs the unconditional branch of its own model at an evaluation's step."""
    active = [r for r in getattr(model, "stages", ()) if r.active(ctx.t, model.path)]
    return any("uncond" in r.needs for r in active) and not any(r.provides == "uncond" for r in active)


def without_trace(ctx: RunContext, **changes: Any) -> RunContext:
    """The same run for an evaluation of which nothing is kept."""
    caches: dict[Any, Any] = {k: dict(v) for k, v in ctx.caches.items()}
    return replace(ctx, caches=caches, states=dict(ctx.states), accepted=False, **changes)


def pairs(count: int, classes: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Seeds, and labels of ``count`` calibration samples: two of each class in turn."""
    labels = tuple((i // 2) % len(classes) for i in range(count)) if classes else None
    return tuple(range(count)), labels


__all__ = ["Trial", "Watched", "pairs", "rms", "wants_both", "without_trace"]
