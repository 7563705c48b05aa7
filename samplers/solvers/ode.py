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

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from backbones.types import Noise
from samplers import spaces
from samplers.paths import Path
from samplers.solvers.base import Sampler
from samplers.solvers.run import Predict
from samplers.spaces import Space


def start(predict: Predict, x: Tensor, t: float, s: float) -> tuple[Path, Space, float, Tensor]:
    """The path, its space, h and the slope at t."""
    first = predict(x, t)
    path = first.path
    return path, spaces.of(path.space), path.clock.at(s) - path.clock.at(t), path.clock.slope(first)


class ODE(Sampler):
    """What solves a velocity, wherever it starts. Slopes of two places are added, so a space has to be
    flat."""

    geometries: ClassVar[tuple[str, ...]] = ("flat",)
    starts = ("noise", "source")
    by_slope = True


class Euler(ODE):
    geometries = ("flat", "curved")

    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        _, space, h, u = start(predict, x, t, s)
        return space.step(x, h * u)


class AB2(ODE):
    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        _, space, h, u = start(predict, x, t, s)
        before = history[-1] if history else None
        history[:] = [(h, u)]
        if before is None:
            return space.step(x, h * u)
        return space.step(x, h * (u + h / (2 * before[0]) * (u - before[1])))


class Midpoint(ODE):
    def evaluations(self, path: Any, times: list[float]) -> tuple[int, ...]:
        return (2,) * (len(times) - 1)

    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        path, space, h, u = start(predict, x, t, s)
        middle = path.clock.time(path.clock.at(t) + h / 2)
        return space.step(x, h * path.clock.slope(predict(space.step(x, h / 2 * u), middle)))


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

    def evaluations(self, path: Any, times: list[float]) -> tuple[int, ...]:
        return tuple(1 if self._alone(path, s) else 2 for s in times[1:])

    def _alone(self, path: Any, s: float) -> bool:
        """Whether a step that leads to s asks only where it begins."""
        return bool(path.open_end(s)) or s == 1 and self.last == "euler"

    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        path, space, h, u = start(predict, x, t, s)
        ahead = space.step(x, h * u)
        if self._alone(path, s):
            return ahead
        return space.step(x, h / 2 * (u + path.clock.slope(predict(ahead, s))))


class RK4(ODE):
    def evaluations(self, path: Any, times: list[float]) -> tuple[int, ...]:
        return tuple(2 if path.open_end(s) else 4 for s in times[1:])

    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        path, space, h, k1 = start(predict, x, t, s)
        clock = path.clock
        middle = clock.time(clock.at(t) + h / 2)
        k2 = clock.slope(predict(space.step(x, h / 2 * k1), middle))
        if path.open_end(s):
            return space.step(x, h * k2)
        k3 = clock.slope(predict(space.step(x, h / 2 * k2), middle))
        k4 = clock.slope(predict(space.step(x, h * k3), s))
        return space.step(x, h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
