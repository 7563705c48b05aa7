"""A sampler is a generator of steps; a subclass writes one ``step``.

Progress, preview, cancelling and plots all come from iterating ``steps``. The base owns the grid of times, counts network evaluations and
puts known entries back: clean for networks trained with them, re-noised to the current level for others.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from backbones.types import Cond, Noise, RunContext
from samplers.denoiser import Queryable
from samplers.paths import Path, check_warp, warp
from samplers.prediction import Prediction
from samplers.space import Euclid

Predict = Callable[..., Prediction]


@dataclass(frozen=True)
class Step:
    """One step from ``t`` to ``s``: ``x`` (B, ...) is the state at s. ``evaluations`` counts network queries so far."""

    index: int
    num_steps: int
    t: float
    s: float
    x: Tensor
    prediction: Prediction
    evaluations: int

    @property
    def data_hat(self) -> Tensor:
        """(B, ...) the data as seen from t."""
        return self.prediction.to("data")


class Sampler:
    """Base of all samplers. ``families``: which models it fits, those that start from noise (gaussian) or from data (bridge). ``needs``: which
    side of a bridge it asks for, the velocity or the drift towards the data. ``follows``: heads besides the value that its steps heed. ``spacing``: leading | trailing | linspace on VP tables. ``shift`` and ``skew`` bend the
    grid (`samplers.paths.warp`); above 1 more of the steps are at the noise end."""

    families: tuple[str, ...] = ("gaussian",)
    needs = "velocity"
    follows: frozenset[str] = frozenset()

    def __init__(self, *, spacing: str | None = None, shift: float = 1.0, skew: float = 1.0):
        check_warp(shift, skew)
        self.spacing, self.shift, self.skew = spacing, shift, skew

    def times(self, path: Path, num_steps: int) -> list[float]:
        """num_steps + 1 increasing times ending at 1 (data)."""
        times = self.grid(path, num_steps)
        if self.shift == 1 and self.skew == 1:
            return times
        return [*warp(path, torch.tensor(times[:-1], dtype=torch.float64), self.shift, self.skew).tolist(), times[-1]]

    def grid(self, path: Path, num_steps: int) -> list[float]:
        """The times before they are bent: the path's own."""
        return path.grid(num_steps, self.spacing)

    def check(self, denoiser: Queryable) -> None:
        """Raise ``ValueError`` when the sampler does not fit the model's family or does not follow what its guidance asks for."""
        if denoiser.family not in self.families:
            raise ValueError(
                f"the sampler {type(self).__name__} is for {' and '.join(self.families)} models, got a {denoiser.family} model; choose "
                + {"bridge": "bridge, bridge_sde or an ODE sampler such as heun", "graph": "graph"}.get(denoiser.family, "another sampler")
            )
        unheard: frozenset[str] = getattr(denoiser, "demands", frozenset()) - self.follows
        if unheard:
            raise ValueError(
                f"the sampler {type(self).__name__} does not follow {', '.join(sorted(unheard))}, which the guidance asks for; choose ddim"
            )

    def begin(self, path: Path, times: list[float], start: int) -> list[Any]:
        """What a run's ``history`` holds before the first step."""
        return []

    def step(self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]) -> Tensor:
        """The state at s from the state x at t. ``predict(x, t)`` queries the model; ``history`` is this run's list to keep things in."""
        raise TypeError(f"{type(self).__name__} has no step: subclass Sampler and write one")

    def steps(
        self, denoiser: Queryable, x: Tensor, cond: Cond | None = None, noise: Noise | None = None, *, num_steps: int = 30, start: int = 0,
        ctx: RunContext | None = None,
    ) -> Iterator[Step]:  # fmt: skip
        """Iterate the steps from x (B, ...), the state at ``times[start]``. ``noise`` feeds stochastic steps and re-noising.

        Raises ``ValueError`` when `check` does or a stochastic step has no noise.
        """
        self.check(denoiser)
        cond, ctx = cond if cond is not None else Cond(), ctx if ctx is not None else RunContext()
        times = self.times(denoiser.path, num_steps)
        if not 0 <= start < len(times) - 1:
            raise ValueError(f"got start={start}, expected 0 to {len(times) - 2} for {len(times) - 1} steps")
        return self._iterate(denoiser, x, cond, noise, times, start, ctx)

    def _iterate(
        self, denoiser: Queryable, x: Tensor, cond: Cond, noise: Noise | None, times: list[float], start: int, ctx: RunContext
    ) -> Iterator[Step]:
        run = _Run(denoiser, cond, ctx, grad=torch.is_grad_enabled() and x.requires_grad)
        restore = _restorer(denoiser, cond, noise, x)
        history = self.begin(denoiser.path, times, start)
        ctx.num_steps = len(times) - 1
        with run.mode():
            x = restore(x, times[start])
        for i in range(start, len(times) - 1):
            t, s = times[i], times[i + 1]
            ctx.step, ctx.t, ctx.t_next, ctx.evaluation, run.first = i, t, s, 0, None
            with run.mode():
                x = self.step(x, t, s, run.predict, None if noise is None else noise.at(i), history)
                x = restore(Euclid().project(x), s)
            assert run.first is not None
            yield Step(i, len(times) - 1, t, s, x, run.first, run.count)

    def sample(self, denoiser: Queryable, x: Tensor, cond: Cond | None = None, noise: Noise | None = None, **options: Any) -> Tensor:
        """The last state of ``steps`` with the same arguments."""
        for step in self.steps(denoiser, x, cond, noise, **options):
            x = step.x
        return x


class _Run:
    """Queries of one run: counts them and keeps the first of every step."""

    def __init__(self, denoiser: Queryable, cond: Cond, ctx: RunContext, *, grad: bool):
        self.denoiser, self.cond, self.ctx, self.grad = denoiser, cond, ctx, grad
        self.count, self.first = 0, None  # type: int, Prediction | None

    def mode(self) -> Any:
        return torch.set_grad_enabled(self.grad)

    def predict(self, x: Tensor, t: float) -> Prediction:
        self.ctx.accepted = self.first is None  # the first query of a step is where rules commit their state
        prediction = self.denoiser.predict(x, t, self.cond, self.ctx)
        self.ctx.evaluation += 1
        self.count += 1
        if self.first is None:
            self.first = prediction
        return prediction


def _restorer(denoiser: Queryable, cond: Cond, noise: Noise | None, x: Tensor) -> Callable[[Tensor, float], Tensor]:
    """The function that puts known entries back at a time."""
    if cond.known is None:
        return lambda x, t: x
    if cond.given is None:
        raise ValueError("got known entries without their values; set Cond.given beside Cond.known")
    given, known = cond.given.to(x), cond.known
    if denoiser.known_trained:
        return lambda x, t: torch.where(known, given, x)
    if noise is None:
        raise ValueError("known entries are re-noised for this model, which needs noise; pass noise=NoiseSource(seeds)")
    own = getattr(denoiser.path, "restorer", None)  # a path whose noise is no sum with factors
    if own is not None:
        return own(given, known, cond, noise)
    fixed = noise.normal(x.shape[1:], stream="known", dtype=x.dtype)

    def restore(x: Tensor, t: float) -> Tensor:
        c = denoiser.path.coefficients(t)
        return torch.where(known, c.alpha * given + c.sigma * fixed, x)

    return restore
