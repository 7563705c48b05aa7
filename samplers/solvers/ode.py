"""Fixed-step solvers of the probability-flow ODE dx/dτ = u(x, τ). h is the step in τ.

    euler     x + h u(x, τ)                                                    order 1, 1 evaluation
    ab2       x + h (u + (h / 2h₋)(u − u₋))        Adams–Bashforth              order 2, 1 evaluation
    midpoint  x + h u(x + h/2 u, τ + h/2)                                       order 2, 2 evaluations
    heun      x + h/2 (u + u(x + h u, τ + h))                                   order 2, 2 evaluations
    rk4       the classical Runge–Kutta step                                    order 4, 4 evaluations

τ is t and u the velocity, but on the EDM path τ = −sigma and u = −noise, in which its ODE is smooth: euler is
then DDIM and heun Algorithm 1 of Karras et al. 2206.00364. Where the ODE cannot be evaluated at the data (VP
tables, the EDM path), heun and rk4 end with a step that does not (euler and midpoint).
"""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from backbones.types import Noise
from samplers.paths import EDMPath, Path
from samplers.prediction import Prediction
from samplers.solvers.base import Predict, Sampler


@dataclass(frozen=True)
class Clock:
    """The variable τ in which a path's ODE is solved; it grows with t."""

    path: Path

    def at(self, t: float) -> float:
        return (t - 1) / t if isinstance(self.path, EDMPath) else t

    def time(self, tau: float) -> float:
        """The t of a τ, the inverse of ``at``."""
        return 1 / (1 - tau) if isinstance(self.path, EDMPath) else tau

    def slope(self, prediction: Prediction) -> Tensor:
        """dx/dτ."""
        return -prediction.to("noise") if isinstance(self.path, EDMPath) else prediction.to("velocity")

    def open_end(self, s: float) -> bool:
        """Whether s is a place where the slope has no limit or the network no input."""
        return (
            s == 1
            and isinstance(self.path, EDMPath)
            or not math.isfinite(float(self.path.coefficients(s).d_sigma))
        )


def start(predict: Predict, x: Tensor, t: float, s: float) -> tuple[Clock, float, Tensor]:
    """The clock, h and the slope at t."""
    first = predict(x, t)
    clock = Clock(first.path)
    return clock, clock.at(s) - clock.at(t), clock.slope(first)


class ODE(Sampler):
    """What solves a velocity, wherever it starts."""

    starts = ("noise", "source")


class Euler(ODE):
    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        _, h, u = start(predict, x, t, s)
        return x + h * u


class AB2(ODE):
    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        _, h, u = start(predict, x, t, s)
        before = history[-1] if history else None
        history[:] = [(h, u)]
        if before is None:
            return x + h * u
        return x + h * (u + h / (2 * before[0]) * (u - before[1]))


class Midpoint(ODE):
    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        clock, h, u = start(predict, x, t, s)
        return x + h * clock.slope(predict(x + h / 2 * u, clock.time(clock.at(t) + h / 2)))


@dataclass(kw_only=True, eq=False)
class Heun(ODE):
    """``last``: euler leaves out the query at the data, where a network knows least of the velocity, and
    saves an evaluation; heun asks there too."""

    last: str = "heun"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.last not in ("heun", "euler"):
            raise ValueError(
                f"got last={self.last!r}, expected heun or euler, the kind of the step that ends at the data"
            )

    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        clock, h, u = start(predict, x, t, s)
        if clock.open_end(s) or s == 1 and self.last == "euler":
            return x + h * u
        return x + h / 2 * (u + clock.slope(predict(x + h * u, s)))


class RK4(ODE):
    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        clock, h, k1 = start(predict, x, t, s)
        middle = clock.time(clock.at(t) + h / 2)
        k2 = clock.slope(predict(x + h / 2 * k1, middle))
        if clock.open_end(s):
            return x + h * k2
        k3 = clock.slope(predict(x + h / 2 * k2, middle))
        k4 = clock.slope(predict(x + h * k3, s))
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
