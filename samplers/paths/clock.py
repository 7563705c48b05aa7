"""The variable τ in which a path's ODE dx/dτ is solved; it grows with t."""

from typing import Any

from torch import Tensor


class Clock:
    """τ = t, and the slope is the velocity."""

    def at(self, t: float) -> float:
        return t

    def time(self, tau: float) -> float:
        """The t of a τ, the inverse of ``at``."""
        return tau

    def pace(self, t: float) -> float:
        """dt/dτ."""
        return 1.0

    def slope(self, prediction: Any) -> Tensor:
        """dx/dτ."""
        return prediction.to("velocity")


class Level(Clock):
    """τ = −sigma for sigma = (1 − t)/t: there the slope is −noise, which is smooth (Karras et al.
    2206.00364)."""

    def at(self, t: float) -> float:
        return (t - 1) / t

    def time(self, tau: float) -> float:
        return 1 / (1 - tau)

    def pace(self, t: float) -> float:
        return t**2

    def slope(self, prediction: Any) -> Tensor:
        return -prediction.to("noise")
