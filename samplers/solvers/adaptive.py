"""torchdiffeq's solvers (dopri5, dopri8, bosh3, rk4, ...) on the probability-flow ODE.

The solver runs in a worker thread and hands over every accepted step, so that it can be iterated, watched and
stopped like any other. One step size is shared by the batch, so an adaptive result depends on the batch it is
solved in, within the tolerances. Where the start asks for gradients they go through the solver's own steps,
whose sizes count as given. On a flat space, such as that of angles, the sums that a solver makes are steps
walked on in numbers; the model is asked where they lead to (``project``), and so are steps handed over.
"""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from backbones.types import Cond, Noise, NoiseSource, RunContext
from samplers import spaces
from samplers.denoiser import Queryable
from samplers.prediction import Prediction
from samplers.solvers.base import Step
from samplers.solvers.ode import ODE
from samplers.solvers.run import Run, restorer

ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")
FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4")
QUERIES = dict(zip(FIXED, (1, 2, 2, 3, 4)))  # of a step


class _Stopped(Exception):
    pass


def _size(error: Tensor) -> Tensor:
    """torchdiffeq's norm, by which it chooses its steps, without gradients: they would reach the end by the
    steps' sizes in part only."""
    return error.detach().abs().pow(2).mean().sqrt()


def _walked(path: Any, times: list[float]) -> Tensor:
    """The path's clock at the times that are solved for, float64. Where the ODE cannot be asked at the data
    it stops at the last place the network was trained for, else short of the data, and the data prediction
    there is taken."""
    clock = path.clock
    grid = torch.tensor([clock.at(t) for t in times], dtype=torch.float64)
    if not path.open_end(times[-1]):
        return grid
    entry = clock.at(path.last_trained)
    if entry - grid[-2] > 1e-9:
        grid[-1] = entry
    elif len(grid) > 2:
        grid = grid[:-1]
    else:
        grid[-1] = grid[-2] + (grid[-1] - grid[-2]) * (1 - 1e-3)
    return grid


@dataclass(kw_only=True, eq=False)
class TorchDiffEq(ODE):
    """``method``: one of torchdiffeq's. Adaptive methods use ``rtol`` and ``atol`` and ignore the grid but
    for its ends; fixed ones step on it. ``alone`` solves sample by sample, so that no sample's steps depend
    on its company; steps are then reported for one sample after the other."""

    resamples = False

    method: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5
    alone: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in ADAPTIVE + FIXED:
            raise ValueError(f"got method {self.method!r}, expected one of {', '.join(ADAPTIVE + FIXED)}")
        if self.rtol <= 0 or self.atol <= 0:
            raise ValueError(f"got rtol={self.rtol}, atol={self.atol}, expected positive tolerances")

    @property
    def mixes(self) -> bool:
        """Adaptive methods choose their steps by the whole batch."""
        return self.method in ADAPTIVE

    def evaluations(self, path: Any, times: list[float]) -> tuple[int, ...] | None:
        if self.mixes:
            return None
        counts = [QUERIES[self.method]] * (len(_walked(path, times)) - 1)
        counts[-1] += bool(path.open_end(times[-1]))  # the data prediction
        return tuple(counts)

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
        return (
            self._one_by_one(denoiser, x, cond, noise, times, start, ctx)
            if self.alone and len(x) > 1
            else self._solve(denoiser, x, cond, noise, times, start, ctx)
        )

    def _one_by_one(
        self,
        denoiser: Queryable,
        x: Tensor,
        cond: Cond,
        noise: Noise | None,
        times: list[float],
        start: int,
        ctx: RunContext,
    ) -> Iterator[Step]:
        """The steps of each sample in turn; ``x`` and ``data_hat`` hold the others where they are. Only the
        very last step has index num_steps − 1."""
        state, data = x.clone(), x.clone()
        index, count = start, 0
        for i in range(len(x)):
            row, done = slice(i, i + 1), count
            # what rules and caches keep belongs to one sample
            own = replace(ctx, caches={}, states={}, taps={})
            draws = noise.select(row) if isinstance(noise, NoiseSource) else noise
            for step in self._solve(denoiser, x[row], cond.index(row), draws, times, start, own):
                before, state, data, count = state, state.clone(), data.clone(), done + step.evaluations
                state[row], data[row] = step.x, step.data_hat
                more = i + 1 < len(x) or step.index + 1 < step.num_steps or step.s < times[-1]
                seen = Prediction("data", data, before, step.prediction.t, denoiser.path)
                yield Step(index, max(len(times) - 1, index + 1 + more), step.t, step.s, state, seen, count)
                index += 1
            data[row] = state[row]

    def _solve(
        self,
        denoiser: Queryable,
        x: Tensor,
        cond: Cond,
        noise: Noise | None,
        times: list[float],
        start: int,
        ctx: RunContext,
    ) -> Iterator[Step]:
        from torchdiffeq import odeint

        restore, grad = restorer(denoiser, cond, noise, x), torch.is_grad_enabled() and x.requires_grad
        run, path, fixed = (
            Run(self, denoiser, cond, ctx, restore, grad=grad),
            denoiser.path,
            self.method in FIXED,
        )
        clock, space = path.clock, spaces.of(path.space)
        grid = _walked(path, times[start:])
        way = 1 if grid[-1] > grid[0] else -1  # steps are told with their size
        finite_end = not path.open_end(times[-1])
        results: queue.Queue[Any] = queue.Queue(maxsize=1)
        stop, threads = threading.Event(), torch.get_num_threads()
        begun: list[tuple[float, float, Tensor]] = []  # the step that a fixed method is in
        ctx.step, ctx.num_steps, ctx.t, ctx.t_next = start, len(times) - 1, None, None

        class Field(torch.nn.Module):
            def forward(self, t: Tensor, y: Tensor) -> Tensor:
                if stop.is_set():
                    raise _Stopped
                slope = clock.slope(run.predict(space.project(y, cond), clock.time(float(t))))
                # given, not solved for; the query puts them in place
                return slope if cond.known is None else slope.masked_fill(cond.known, 0.0)

        def begin(t0: Tensor, y0: Tensor, dt: Tensor) -> None:  # fixed methods tell of the start of a step
            close(begun.pop() if begun else None)
            begun.append((clock.time(float(t0)), clock.time(float(t0 + way * dt)), y0))
            ctx.t, ctx.t_next = begun[0][:2]

        # adaptive ones of the end of an accepted step
        def accept(t0: Tensor, y0: Tensor, dt: Tensor) -> None:
            close((clock.time(float(t0)), clock.time(float(t0 + way * dt)), y0))

        def close(step: tuple[float, float, Tensor] | None) -> None:
            if step is not None:
                hand(("step", *step, run.first, run.count))
                run.first, ctx.evaluation = None, 0
                ctx.step += 1

        def hand(item: Any) -> None:
            while not stop.is_set():
                try:
                    return results.put(item, timeout=0.1)
                except queue.Full:
                    continue

        def work() -> None:
            torch.set_num_threads(threads)
            try:
                with run.mode():  # each thread has a mode of its own
                    ends = grid.to(x.device)
                    # without step_t the last step would run past the data
                    ends, options = (
                        (ends, {}) if fixed else (ends[[0, -1]], {"step_t": ends[-1:], "norm": _size})
                    )
                    field = Field()
                    setattr(field, *(("callback_step", begin) if fixed else ("callback_accept_step", accept)))
                    last = odeint(
                        field, x, ends, rtol=self.rtol, atol=self.atol, method=self.method, options=options
                    )[-1]
                    close(begun.pop() if begun else None)
                    hand(("end", last))
            except _Stopped:
                pass
            except BaseException as error:  # noqa: BLE001  carried to the caller's thread
                hand(("error", error))

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        # a step is yielded when its end state is known: with the next one's start
        held: tuple[Any, ...] | None = None
        index = start
        try:
            while True:
                item = results.get()
                if item[0] == "error":
                    raise item[1]
                if held is not None:
                    end, s, count = (
                        (item[3], held[2], held[5]) if item[0] == "step" else (item[1], times[-1], run.count)
                    )
                    end = space.project(end, cond)
                    if item[0] == "end" and not finite_end:
                        with run.mode():
                            end, count = run.predict(end, clock.time(float(grid[-1]))).to("data"), run.count
                    # only at the end is it known
                    total = index + 1 if item[0] == "end" else max(len(times) - 1, index + 1)
                    yield Step(index, total, held[1], s, restore(end, s), held[4], count)
                    index += 1
                if item[0] == "end":
                    return
                held = item
        finally:
            stop.set()
            worker.join()
