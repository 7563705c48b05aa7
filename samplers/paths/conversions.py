"""Predictions on a path x = alpha·data + sigma·noise, read in any space.

Every space is an affine function of any other at the same x and t:

    velocity = alpha'·data + sigma'·noise      v = alpha·noise − sigma·data (Salimans & Ho 2202.00512)
      score = −noise/sigma

The care at the ends lives here: where sigma is 0 the noise in x is 0 (its posterior mean there), where alpha
is 0 a noise prediction says nothing of the data and 0 is returned.
"""

import math
from typing import Any

import torch
from torch import Tensor

from samplers.paths.coefficients import Coefficients, expand

SPACES = ("data", "noise", "velocity", "v", "score")


def ratio(a: Tensor, b: Tensor) -> Tensor:
    """a/b, and 0 where b is 0."""
    zero = b == 0
    return torch.where(zero, torch.zeros_like(a), a / torch.where(zero, torch.ones_like(b), b))


def affine(given: str, wanted: str, path: Any, t: float) -> tuple[float, float] | None:
    """(p, q) with wanted = p·given + q·x at one time, or None where a space is degenerate and the care of
    `convert` is needed."""
    a, s, da, ds = (float(v) for v in vars(path.coefficients(t)).values())
    det, total = a * ds - s * da, a * a + s * s
    if a == 0 or s == 0 or det == 0 or not (math.isfinite(det) and math.isfinite(ds)) or given not in SPACES:
        return None
    data, noise = {
        "noise": ((-s / a, 1 / a), (1.0, 0.0)),
        "score": ((s * s / a, 1 / a), (-s, 0.0)),
        "data": ((1.0, 0.0), (-a / s, 1 / s)),
        "v": ((-s / total, a / total), (a / total, s / total)),
        "velocity": ((-s / det, ds / det), (a / det, -da / det)),
    }[given]
    of_data, of_noise = {
        "data": (1.0, 0.0),
        "noise": (0.0, 1.0),
        "score": (0.0, -1 / s),
        "v": (-s, a),
        "velocity": (da, ds),
    }[wanted]
    return of_data * data[0] + of_noise * noise[0], of_data * data[1] + of_noise * noise[1]


def expanded(p: Any) -> Coefficients:
    """The coefficients at a prediction, made to multiply (B, ...)."""
    c = p.path.coefficients(p.t)
    return Coefficients(*(expand(v, p.x) for v in (c.alpha, c.sigma, c.d_alpha, c.d_sigma)))


def convert(p: Any, space: str) -> Tensor:
    """(B, ...) a prediction in another space. Raises ``ValueError`` for an unknown one."""
    if space not in SPACES:
        raise ValueError(f"got space {space!r}, expected one of {', '.join(SPACES)} or native")
    weights = None if isinstance(p.t, Tensor) else affine(p.space, space, p.path, p.t)
    if weights is not None:
        return (
            weights[0] * p.value
            if weights[1] == 0
            else torch.add(weights[1] * p.x, p.value, alpha=weights[0])
        )
    c = expanded(p)
    a, s, x, value = c.alpha, c.sigma, p.x, p.value
    data: Any  # None where it is still to follow from the noise, and the other way round
    noise: Any
    if p.space == "noise" or p.space == "score":
        noise = value if p.space == "noise" else -s * value
        data = None
    elif p.space == "data":
        data, noise = value, None
    elif p.space == "v":
        data, noise = (a * x - s * value) / (a * a + s * s), (s * x + a * value) / (a * a + s * s)
    elif p.space == "velocity":
        det = a * c.d_sigma - s * c.d_alpha
        # not at t = 1 of a VP table, where x is the data, nor at its t = 0 with alpha = 0
        usable = torch.isfinite(det) & (det != 0)
        det, slope = torch.where(usable, det, 1.0), torch.where(usable, c.d_sigma, 0.0)
        data = torch.where(usable, (slope * x - s * value) / det, torch.where(s == 0, x, 0.0))
        noise = torch.where(usable, (a * value - c.d_alpha * x) / det, torch.where(s == 0, 0.0, x))
    else:
        raise ValueError(f"got a prediction in the unknown space {p.space!r}")
    if space == "data":
        return data if data is not None else ratio(x - s * noise, a + torch.zeros_like(x))
    if noise is None:
        noise = ratio(x - a * data, s + torch.zeros_like(x))
    if space == "noise":
        return noise
    if space == "score":
        return -ratio(noise, s + torch.zeros_like(x))
    if data is None:
        data = ratio(x - s * noise, a + torch.zeros_like(x))
    if space == "v":
        return a * noise - s * data
    slope = torch.where(torch.isfinite(c.d_sigma), c.d_sigma, 0.0)
    return c.d_alpha * data + slope * noise
