"""torchdiffeq's solvers (dopri5, dopri8, bosh3, rk4, ...) on the probability-flow ODE.

The solver runs in a worker thread and hands over every accepted step, so that it can be iterated, watched and stopped like any other. One
step size is shared by the batch, so an adaptive result depends on the batch it is solved in, within the tolerances.
"""

import queue
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from backbones.types import Cond, Noise, RunContext
from samplers.base import Sampler, Step, _restorer, _Run
from samplers.denoiser import Queryable

ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")
FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4")


class _Stopped(Exception):
    pass


class TorchDiffEq(Sampler):
    """``method``: one of torchdiffeq's. Adaptive methods use ``rtol`` and ``atol`` and ignore the grid but for its ends; fixed ones step on it."""

    def __init__(self, *, method: str = "dopri5", rtol: float = 1e-5, atol: float = 1e-5, spacing: str | None = None):
        super().__init__(spacing=spacing)
        if method not in ADAPTIVE + FIXED:
            raise ValueError(f"got method {method!r}, expected one of {', '.join(ADAPTIVE + FIXED)}")
        if rtol <= 0 or atol <= 0:
            raise ValueError(f"got rtol={rtol}, atol={atol}, expected positive tolerances")
        self.method, self.rtol, self.atol = method, rtol, atol

    def _iterate(
        self, denoiser: Queryable, x: Tensor, cond: Cond, noise: Noise | None, times: list[float], start: int, ctx: RunContext
    ) -> Iterator[Step]:
        from torchdiffeq import odeint

        if cond.known is not None:
            raise ValueError("torchdiffeq methods cannot put known entries back between their steps; choose euler, heun, ab2 or another of our solvers")
        run = _Run(denoiser, cond, ctx, grad=False)
        grid = torch.tensor(times[start:], dtype=torch.float64)
        finite_end = bool(torch.isfinite(denoiser.path.coefficients(times[-1]).d_sigma))
        if not finite_end:  # the velocity has no limit at the data: stop one table entry before and take the data prediction
            grid[-1] = grid[-2] + (grid[-1] - grid[-2]) * (1 - 1e-3)
        results: queue.Queue[Any] = queue.Queue(maxsize=1)
        stop, threads = threading.Event(), torch.get_num_threads()

        class Field(torch.nn.Module):
            def forward(self, t: Tensor, y: Tensor) -> Tensor:
                if stop.is_set():
                    raise _Stopped
                return run.predict(y, float(t)).to("velocity")

            def callback_accept_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
                hand(("step", float(t0), float(t0 + dt), y0, run.first, run.count))
                run.first = None

        def hand(item: Any) -> None:
            while not stop.is_set():
                try:
                    return results.put(item, timeout=0.1)
                except queue.Full:
                    continue

        def work() -> None:
            torch.set_num_threads(threads)
            try:
                with torch.no_grad():
                    ends = grid if self.method in FIXED else grid[[0, -1]]
                    hand(("end", odeint(Field(), x, ends.to(x.device), rtol=self.rtol, atol=self.atol, method=self.method)[-1]))
            except _Stopped:
                pass
            except BaseException as error:  # noqa: BLE001  carried to the caller's thread
                hand(("error", error))

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        held: tuple[Any, ...] | None = None  # a step is yielded when its end state is known: with the next one's start
        index = 0
        try:
            while True:
                item = results.get()
                if item[0] == "error":
                    raise item[1]
                if held is not None:
                    end = item[3] if item[0] == "step" else item[1]
                    if item[0] == "end" and not finite_end:
                        with torch.no_grad():
                            end = run.predict(end, float(grid[-1])).to("data")
                    ctx.step, ctx.t_next, ctx.num_steps = index, held[2], index + 1
                    yield Step(index, max(len(times) - 1, index + 1), held[1], held[2], end, held[4], held[5])
                    index += 1
                if item[0] == "end":
                    return
                held = item
        finally:
            stop.set()
            worker.join()
