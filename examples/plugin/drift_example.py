"""Parts of one's own for drift-studio, which finds them by the entry points of this package."""

import math

import torch
from torch import nn

from backbones.encoders import ClassEncoder
from backbones.noise import NoiseSource
from guidance import Rule
from samplers import Coupled
from samplers.solvers.ode import ODE
from studio.data import Data, from_arrays


class Waves(nn.Module):
    """A network for points (B, dim): an MLP over sines of the point and of the time, 0 to 1000."""

    def __init__(self, *, dim: int = 2, num_classes: int = 0, width: int = 128, frequencies: int = 4):
        super().__init__()
        self.dim, self.num_classes, self.width, self.frequencies = dim, num_classes, width, frequencies
        self.label = ClassEncoder(num_classes, width) if num_classes else None
        self.inner = nn.Linear((dim + 1) * (2 * frequencies + 1), width)
        self.outer = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, dim))

    def forward(self, x, t, cond=None, ctx=None):
        z = torch.cat([x, t.expand(len(x))[:, None] / 1000], 1)  # (B, dim + 1)
        steps = torch.arange(1, self.frequencies + 1, device=x.device, dtype=x.dtype)
        angles = (z[:, :, None] * steps).flatten(1)  # (B, (dim + 1) frequencies)
        h = self.inner(torch.cat([z, angles.sin(), angles.cos()], 1))
        if self.label is not None:
            none = torch.full((len(x),), -1, device=x.device)
            h = h + self.label(none if cond is None or cond.label is None else cond.label)
        return self.outer(h)


class Ralston(ODE):
    """Ralston's method of order 2, the one of least error: x + h/4 (u(x, τ) + 3 u(x + 2h/3 u, τ + 2h/3))."""

    def step(self, x, t, s, predict, noise, history):
        u = predict(x, t).to("velocity")
        later = predict(x + 2 / 3 * (s - t) * u, t + 2 / 3 * (s - t)).to("velocity")
        return x + (s - t) / 4 * (u + 3 * later)


class Shrink(Rule):
    """The guided data, brought nearer to zero by a share ``amount``."""

    space, stage = "data", "finish"

    def __init__(self, amount: float = 0.1):
        self.amount = amount

    def active(self, t, path):
        return self.amount != 0

    def combine(self, predictions, *, x, t, path, state):
        return (1 - self.amount) * predictions.get("guided", predictions["cond"])


class Sliced:
    """Along a random direction the k-th source goes to the k-th data point."""

    def __call__(self, source, data, cond, noise):  # (B, ...), (B, ...)
        direction = noise.normal(data.shape[1:], stream="slice", dtype=data.dtype)[:1].flatten()  # (D,)
        along_source, along_data = source.flatten(1) @ direction, data.flatten(1) @ direction  # (B,)
        which = torch.empty_like(along_data, dtype=torch.long)
        which[along_data.argsort()] = along_source.argsort()
        return Coupled(source[which], data, cond)  # data stay in their places, their conditions with them


def rings(*, count: int = 1000, radius: float = 2.0) -> Data:
    """Points on two circles, one twice as wide: the classes inner and outer."""
    draws = NoiseSource([0] * count, index=range(count))
    angle, label = 2 * math.pi * draws.uniform(stream="angle"), torch.arange(count) % 2
    points = torch.stack([angle.cos(), angle.sin()], 1) * radius * (1 + label[:, None])
    points = points + 0.05 * draws.normal((2,), stream="jitter")
    return from_arrays("rings", points, label, ["inner", "outer"], codec={"name": "scale", "std": 2.0})


def gap(samples, reference, options):
    """The distance between the means of what an extractor saw of two sets of pictures."""
    means = (side.need("features").mean(0) for side in (samples, reference))
    return {"gap": float(torch.dist(*means))}
