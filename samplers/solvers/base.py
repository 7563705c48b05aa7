"""A sampler is a generator of steps; a subclass writes one ``step``.

Progress, preview, cancelling and plots all come from iterating ``steps``. The base owns the grid of times and
where it starts, bounds the data prediction, counts network evaluations and puts known entries back before
every query: clean for networks trained with them, re-noised to the query's own level for others.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from backbones.types import Cond, Noise, RunContext
from samplers import spaces
from samplers.denoiser import Queryable
from samplers.paths import Path, check_warp, warp
from samplers.prediction import Prediction
from samplers.solvers.run import Predict, Run, at_noise, noised_back, restorer
from samplers.spaces import Space


@dataclass(frozen=True)
class Step:
    """One step from ``t`` to ``s``: ``x`` (B, ...) is the state at s. ``index`` of ``num_steps`` counts a
    step as often as it is taken, ``evaluations`` the network queries so far."""

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


@dataclass(kw_only=True, eq=False)
class Sampler:
    """Base of all samplers: a dataclass, so that a subclass adds its own options as fields and has these too.

    ``spacing``: leading | trailing | linspace on VP tables. ``shift`` and ``skew`` bend the grid
    (`samplers.paths.warp`); above 1 more of the steps are at the noise end. ``lambda_min``: log-SNR/2 at
    which the grid starts, None for the path's own start; a prediction of noise says nothing of the data
    before about -5.1 (the value that DPM-Solver's authors use on the cosine table, Lu et al. 2211.01095).
    ``clip``: bound of the data prediction. ``threshold``: dynamic thresholding (Saharia et al. 2205.11487):
    where that quantile of a sample's absolute values is beyond ``clip`` (1 unless given), the sample is cut
    there and scaled back into the bound. ``resample``: how often each step is taken where known entries are
    re-noised (RePaint, Lugmayr et al. 2201.09865): before it is taken again the state is noised back to where
    it began, so that the free entries fit the known ones; multistep solvers restart their history there.

    ``spaces``: what the states that it steps are made of, by name, and ``geometries`` of others (see
    `samplers.spaces.space`) that it steps too; ``starts``: whether from noise or from a source;
    ``mixes``: whether its steps depend on the batch, so that a sample is the same only by itself.
    ``by_moments``: whether the moments of a path's steps are all that it asks for. ``needs``: which side of a
    bridge it asks for, the velocity or the drift towards the data. ``follows``: heads besides the value that
    its steps heed. ``differentiable``: whether gradients in the start pass through its steps. ``by_slope``:
    whether they are sums of slopes (`samplers.paths.clock`).
    """

    spaces: ClassVar[tuple[str, ...]] = ("euclid",)
    geometries: ClassVar[tuple[str, ...]] = ()
    starts: ClassVar[tuple[str, ...]] = ("noise",)
    by_moments: ClassVar[bool] = False
    needs: ClassVar[str] = "velocity"
    follows: ClassVar[frozenset[str]] = frozenset()
    differentiable: ClassVar[bool] = True
    by_slope: ClassVar[bool] = False
    resamples: ClassVar[bool] = True  # whether its steps can be taken again

    spacing: str | None = None
    shift: float = 1.0
    skew: float = 1.0
    lambda_min: float | None = None
    clip: float | None = None
    threshold: float | None = None
    resample: int = 1

    def __post_init__(self) -> None:
        check_warp(self.shift, self.skew)
        if self.lambda_min is not None and not math.isfinite(self.lambda_min):
            raise ValueError(
                f"got lambda_min={self.lambda_min}, expected a finite log-SNR/2 such as -5.1, or none"
            )
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ValueError(f"got clip={self.clip}, expected a positive bound or none")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise ValueError(
                f"got threshold={self.threshold}, expected a quantile above 0, at most 1, such as "
                "0.995, or none"
            )
        if self.resample < 1:
            raise ValueError(f"got resample={self.resample}, expected 1 (every step once) or more")
        if self.resample > 1 and not self.resamples:
            raise ValueError(
                f"got resample={self.resample} for {type(self).__name__}, whose steps are not ours to "
                "take again; choose ddpm, ddim or euler"
            )

    def begin_time(self, path: Any) -> float:
        """Where grids start: the time of ``lambda_min`` (on a table, of the first entry after it), or the
        path's own start where that is later."""
        if self.lambda_min is None:
            return path.t_start
        begin = max(path.t_start, float(path.time_of(2 * self.lambda_min)))
        return path.first(begin)

    def times(self, path: Path, num_steps: int) -> list[float]:
        """num_steps + 1 increasing times ending at 1 (data)."""
        times = self.grid(path, num_steps)
        if self.shift == 1 and self.skew == 1:
            return times
        inner = torch.tensor(times[:-1], dtype=torch.float64)
        return [*warp(path, inner, self.shift, self.skew, begin=self.begin_time(path)).tolist(), times[-1]]

    def grid(self, path: Path, num_steps: int) -> list[float]:
        """The times before they are bent: the path's own."""
        if self.lambda_min is None:
            return path.grid(num_steps, self.spacing)
        return path.grid(num_steps, self.spacing, begin=self.begin_time(path))

    def bound(self, data: Tensor) -> Tensor:
        """(B, ...) data within ``clip``, or thresholded; bounding twice is bounding once."""
        if self.threshold is None:
            return data if self.clip is None else data.clamp(-self.clip, self.clip)
        bound = 1.0 if self.clip is None else self.clip
        reach = torch.quantile(data.flatten(1).abs().float(), self.threshold, dim=1).clamp_min(bound)
        reach = reach.to(data).view(-1, *[1] * (data.ndim - 1))
        return data.clamp(-reach, reach) * (bound / reach)

    def bounded(self, prediction: Prediction) -> Prediction:
        """A prediction whose data is within bounds, the noise following from it; at the data itself, where
        from data no velocity follows, as it is."""
        if (
            self.clip is None
            and self.threshold is None
            or prediction.space != "data"
            and not at_noise(prediction)
        ):
            return prediction
        return prediction.with_("data", self.bound(prediction.to("data")))

    @classmethod
    def fits(cls, space: str | Space) -> bool:
        """Whether it can step in a space."""
        found = spaces.of(space)
        return found.name in cls.spaces or found.geometry in cls.geometries

    @classmethod
    def steps_on(cls, path: Any) -> bool:
        """Whether it can step along a path."""
        return cls.by_moments if getattr(path, "moments", False) else cls.fits(path.space)

    def check(self, denoiser: Queryable) -> None:
        """Raise ``ValueError`` when the sampler does not fit what the model is made of or starts from, or
        does not follow what its guidance asks for."""
        path = denoiser.path
        if getattr(path, "moments", False) and not self.by_moments:
            raise ValueError(
                f"the sampler {type(self).__name__} follows the flow of a path, got {type(path).__name__} of "
                f"{denoiser.space}, of which only moments are known; choose one of moments, such as "
                f"{path.sampler}"
            )
        if denoiser.space not in self.spaces and not self.steps_on(path):
            others = f" and other {' or '.join(self.geometries)} spaces" if self.geometries else ""
            raise ValueError(
                f"the sampler {type(self).__name__} is for models of {' and '.join(self.spaces)}{others}, "
                f"got one of {denoiser.space}; choose {path.sampler or 'another sampler'}"
            )
        if denoiser.starts not in self.starts:
            raise ValueError(
                f"the sampler {type(self).__name__} is for models that start from "
                f"{' or '.join(self.starts)}, got one that starts from {denoiser.starts}; choose "
                + ("another sampler" if denoiser.starts == "noise" else "bridge, bridge_sde or heun")
            )
        if denoiser.starts == "source" and (
            self.lambda_min is not None
            or self.needs == "velocity"
            and (self.clip, self.threshold) != (None, None)
        ):
            raise ValueError(
                f"got lambda_min, clip or threshold for {type(self).__name__} on a model that starts from "
                "data, where they have no meaning; leave "
                "them out (the samplers bridge and bridge_sde take clip and threshold)"
            )
        if denoiser.starts == "noise" and not path.levels:
            options = {"lambda_min": None, "clip": None, "threshold": None, "resample": 1}
            if given := [name for name, unset in options.items() if getattr(self, name) != unset]:
                raise ValueError(
                    f"got {' and '.join(given)} for {type(self).__name__} on the path {type(path).__name__}, "
                    "which has no levels of noise; leave them out"
                )
        unheard: frozenset[str] = getattr(denoiser, "demands", frozenset()) - self.follows
        if unheard:
            raise ValueError(
                f"the sampler {type(self).__name__} does not follow {', '.join(sorted(unheard))}, which "
                "the guidance asks for; choose ddim"
            )

    @property
    def mixes(self) -> bool:
        """Whether its steps depend on the batch."""
        return False

    @property
    def turns(self) -> bool:
        """Whether its steps lead from the data to the source too (`samplers.solvers.backward`)."""
        return self.by_slope

    def evaluations(self, path: Any, times: list[float]) -> tuple[int, ...] | None:
        """How often each step along times queries the model; None where that is not known ahead. A sampler
        that asks more than once a step says so here."""
        return (1,) * (len(times) - 1)

    def begin(self, path: Path, times: list[float], start: int) -> list[Any]:
        """What a run's ``history`` holds before the first step."""
        return []

    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        """The state at s from the state x at t. ``predict(x, t)`` queries the model; ``history`` is this
        run's list to keep things in."""
        raise TypeError(f"{type(self).__name__} has no step: subclass Sampler and write one")

    def steps(
        self,
        denoiser: Queryable,
        x: Tensor,
        cond: Cond | None = None,
        noise: Noise | None = None,
        *,
        num_steps: int = 30,
        start: int = 0,
        ctx: RunContext | None = None,
    ) -> Iterator[Step]:
        """Iterate the steps from x (B, ...), the state at ``times[start]``. ``noise`` feeds stochastic steps
        and re-noising.

        Raises ``ValueError`` when `check` does or a stochastic step has no noise.
        """
        self.check(denoiser)
        if self.resample > 1 and (
            cond is None or cond.known is None or denoiser.known_trained or denoiser.starts != "noise"
        ):
            raise ValueError(
                f"got resample={self.resample}, which is for known entries that a model from noise was "
                "not trained with, and there are none; leave it out"
            )
        if not self.differentiable and torch.is_grad_enabled() and x.requires_grad:
            raise ValueError(
                "got a start that asks for gradients, which the draws of the sampler "
                f"{type(self).__name__} do not let through; leave requires_grad out "
                "(a sampler of continuous data, such as heun, follows them)"
            )
        cond, ctx = cond if cond is not None else Cond(), ctx if ctx is not None else RunContext()
        times = self.times(denoiser.path, num_steps)
        if not 0 <= start < len(times) - 1:
            raise ValueError(f"got start={start}, expected 0 to {len(times) - 2} for {len(times) - 1} steps")
        return self.along(denoiser, x, cond, noise, times, start, ctx)

    def along(
        self,
        denoiser: Queryable,
        x: Tensor,
        cond: Cond,
        noise: Noise | None,
        times: list[float],
        start: int,
        ctx: RunContext,
    ) -> Iterator[Step]:
        """The steps from x, the state at ``times[start]``, along times that grow, or of a sampler that
        ``turns`` fall; nothing is checked."""
        restore = restorer(denoiser, cond, noise, x)
        run = Run(self, denoiser, cond, ctx, restore, grad=torch.is_grad_enabled() and x.requires_grad)
        history = self.begin(denoiser.path, times, start)
        n = ctx.num_steps = len(times) - 1
        space = spaces.of(denoiser.path.space)
        with run.mode():
            x = restore(x, times[start])
        for place in range(start * self.resample, n * self.resample):
            i, again = divmod(place, self.resample)
            t, s = times[i], times[i + 1]
            # the draws of a step that is taken again are its own
            page = None if noise is None else noise.at(i + again * n)
            ctx.step, ctx.t, ctx.t_next, ctx.evaluation, run.first = i, t, s, 0, None
            with run.mode():
                if again:
                    x, history = (
                        restore(space.project(noised_back(denoiser.path, x, t, s, page), cond), t),
                        self.begin(denoiser.path, times, i),
                    )
                x = self.step(x, t, s, run.predict, page, history)
                x = restore(space.project(x, cond), s)
            assert run.first is not None
            yield Step(place, n * self.resample, t, s, x, run.first, run.count)

    def sample(
        self,
        denoiser: Queryable,
        x: Tensor,
        cond: Cond | None = None,
        noise: Noise | None = None,
        **options: Any,
    ) -> Tensor:
        """The last state of ``steps`` with the same arguments."""
        for step in self.steps(denoiser, x, cond, noise, **options):
            x = step.x
        return x
