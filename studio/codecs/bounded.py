"""Vectors whose numbers have ends that they never reach: the network sees them without."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from studio.codecs.codec import Codec, Columns

NEAR = 1e-6  # of the whole width: how near an end a number can be seen


class Bounded(Columns):
    """Vectors (B, d) float, each number between ``low`` and ``high`` (None: no end) ↔ the logarithm of its
    distance from an end, or of two the logit of its place between them, less a ``mean`` and over a ``std``.
    Samples never lie beyond the ends. Raises ``ValueError`` for data that does, and for ends that are none.
    """

    name, rescales = "bounded", False

    def __init__(
        self,
        *,
        low: tuple[float | None, ...],
        high: tuple[float | None, ...],
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
        names: tuple[str, ...] = (),
    ):
        super().__init__(mean=mean or (0.0,) * len(low), std=std or (1.0,) * len(low), names=names)
        if len(low) != len(high) or any(
            a is not None and b is not None and a >= b for a, b in zip(low, high)
        ):
            raise ValueError(f"got ends from {low} to {high}, expected as many, each below its other")
        self.low, self.high = low, high

    def encode(self, data: Tensor) -> Tensor:
        pairs = zip(data.double().unbind(-1), self.low, self.high)
        return super().encode(torch.stack([_free(x, low, high) for x, low, high in pairs], -1))

    def decode(self, x: Tensor) -> Tensor:
        free = super().decode(x).double().unbind(-1)
        pairs = zip(free, self.low, self.high)
        return torch.stack([_bound(u, low, high) for u, low, high in pairs], -1).float()

    def log_det(self, shape: Sequence[int]) -> float | None:
        return None

    def log_dets(self, data: Tensor) -> Tensor:
        """(B,) float64: see `Codec.log_det`, of each sample."""
        total = torch.zeros(len(data), dtype=torch.float64)
        for x, low, high, std in zip(data.double().unbind(-1), self.low, self.high, self.std):
            if low is not None and high is not None:
                total = total - ((x - low) * (high - x) / (high - low)).log()
            elif low is not None or high is not None:
                total = total - (x - low if low is not None else (high or 0.0) - x).log()
            total = total - math.log(std)
        return total

    def apart(self, other: Codec, mine: str, theirs: str) -> str:
        if (self.low, self.high) != (getattr(other, "low", ()), getattr(other, "high", ())):
            return f"{theirs} bounds its numbers otherwise than {mine}; choose a model of the same ends"
        return super().apart(other, mine, theirs)


def _free(x: Tensor, low: float | None, high: float | None) -> Tensor:
    if bool(
        (x < (-torch.inf if low is None else low)).any() or (x > (torch.inf if high is None else high)).any()
    ):
        raise ValueError(f"got values from {x.min():g} to {x.max():g}, expected {low} to {high}")
    if low is None and high is None:
        return x
    if low is not None and high is not None:
        return ((x - low) / (high - low)).clamp(NEAR, 1 - NEAR).logit()
    return (
        (x - low).clamp(min=1e-30).log() if low is not None else -((high or 0.0) - x).clamp(min=1e-30).log()
    )


def _bound(u: Tensor, low: float | None, high: float | None) -> Tensor:
    if low is not None and high is not None:
        return low + (high - low) * u.sigmoid()
    if low is not None:
        return low + u.exp()
    return u if high is None else high - (-u).exp()
