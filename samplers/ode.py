"""Fixed-step solvers of the probability-flow ODE dx/dt = velocity(x, t). h = s − t, u = velocity.

    euler     x + h u(x, t)                                                    order 1, 1 evaluation
    ab2       x + h (u + (h / 2h₋)(u − u₋))        Adams–Bashforth              order 2, 1 evaluation
    midpoint  x + h u(x + h/2 u, t + h/2)                                       order 2, 2 evaluations
    heun      x + h/2 (u + u(x + h u, s))                                       order 2, 2 evaluations
    rk4       the classical Runge–Kutta step                                    order 4, 4 evaluations

Where the velocity has no limit at the data (VP tables), heun and rk4 end with a step that does not evaluate there (euler and midpoint).
"""

import math
from typing import Any

from torch import Tensor

from backbones.types import Noise
from samplers.base import Predict, Sampler


class Euler(Sampler):
    def step(self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]) -> Tensor:
        return x + (s - t) * predict(x, t).to("velocity")


class AB2(Sampler):
    def step(self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]) -> Tensor:
        h, u = s - t, predict(x, t).to("velocity")
        before = history[-1] if history else None
        history[:] = [(h, u)]
        if before is None:
            return x + h * u
        return x + h * (u + h / (2 * before[0]) * (u - before[1]))


class Midpoint(Sampler):
    def step(self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]) -> Tensor:
        h = s - t
        middle = x + h / 2 * predict(x, t).to("velocity")
        return x + h * predict(middle, t + h / 2).to("velocity")


class Heun(Sampler):
    def step(self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]) -> Tensor:
        h, first = s - t, predict(x, t)
        u = first.to("velocity")
        if not math.isfinite(float(first.path.coefficients(s).d_sigma)):
            return x + h * u
        return x + h / 2 * (u + predict(x + h * u, s).to("velocity"))


class RK4(Sampler):
    def step(self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]) -> Tensor:
        h, first = s - t, predict(x, t)
        k1 = first.to("velocity")
        k2 = predict(x + h / 2 * k1, t + h / 2).to("velocity")
        if not math.isfinite(float(first.path.coefficients(s).d_sigma)):
            return x + h * k2
        k3 = predict(x + h / 2 * k2, t + h / 2).to("velocity")
        k4 = predict(x + h * k3, s).to("velocity")
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
