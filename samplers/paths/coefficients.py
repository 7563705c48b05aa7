"""Factors of data and noise, x_t = alpha(t)·data + sigma(t)·noise, with t = 0 the source (noise) end and
t = 1 the data.

Coefficients are functions of a float or a tensor of times and are computed in float64 (float32 on devices
without it). log SNR is 2 log(alpha/sigma); `time_of` is its inverse.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Time = float | Tensor


@dataclass(frozen=True)
class Coefficients:
    """alpha, sigma and their derivatives in t; each of t's shape."""

    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor


def as_time(t: Time) -> Tensor:
    """A float or tensor as a float64 tensor (float32 on MPS)."""
    if not isinstance(t, Tensor):
        return torch.tensor(t, dtype=torch.float64)  # as_tensor would round a Python float to float32
    return t.float() if t.device.type == "mps" else t.double()


def mix(c: Coefficients, source: Tensor, data: Tensor) -> Tensor:
    """alpha·data + sigma·source; coefficients of shape () or (B,)."""
    return expand(c.alpha, data) * data + expand(c.sigma, data) * source


def expand(c: Tensor, x: Tensor) -> Tensor:
    """A coefficient of shape () or (B,) made to multiply (B, ...) without changing x's dtype."""
    return c if c.ndim == 0 else c.to(x).view(-1, *[1] * (x.ndim - 1))


def check_steps(num_steps: int) -> None:
    if not isinstance(num_steps, int) or num_steps < 1:
        raise ValueError(f"got {num_steps!r} steps, expected an integer of at least 1")


def check_begin(begin: float | None, start: float, end: float = 1.0) -> float:
    """Where a grid begins: ``start`` unless told otherwise. Raises ``ValueError`` for a place at or beyond
    ``end``."""
    if begin is None:
        return start
    if not begin < end:
        raise ValueError(
            "got a lambda_min beyond the noise levels of this path, expected a lower one, such as -5.1"
        )
    return max(begin, start)


def no_spacing(spacing: str | None, path: str) -> None:
    if spacing is not None:
        raise ValueError(
            f"got spacing={spacing!r}, which applies to VP tables only; leave it out on the {path} path"
        )


def sigma_of(path: Any, t: Time) -> Tensor:
    """The noise level in EDM's sense, sigma(t)/alpha(t)."""
    c = path.coefficients(t)
    return torch.where(c.alpha > 0, c.sigma / c.alpha.clamp_min(1e-30), torch.full_like(c.alpha, math.inf))
