"""Angles: every entry of a sample lies on a circle of its own, in [−π, π)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from backbones.types import Cond, Noise
from samplers.spaces.euclid import Euclid, real

TAU = 2 * math.pi
PRIORS = ("wrapped_normal", "uniform")


def wrap(x: Tensor) -> Tensor:
    """The same angles (...) in [−π, π), in x's own dtype; those that lie there keep their bits."""
    # the greatest number below π; of float32 it is below the double's π too
    top = math.nextafter(math.pi, 0) if x.dtype == torch.float64 else 3.1415925
    return (x - TAU * (x / TAU).round()).clamp(-top, top)


class Torus(Euclid):
    """``prior``: wrapped_normal, a normal draw of standard deviation ``sigma`` (radians) wound about the
    circle, or uniform, which a wrapped one of sigma 3 is within 3 %. Raises ``ValueError`` for others."""

    name, straight = "torus", False

    def __init__(self, *, prior: str = "wrapped_normal", sigma: float = 1.0):
        if prior not in PRIORS:
            raise ValueError(f"got the prior {prior!r} of angles, expected one of {', '.join(PRIORS)}")
        if not 0 < sigma < math.inf:
            raise ValueError(f"got sigma={sigma} of the angles' prior, expected a positive number of radians")
        if prior == "uniform" and sigma != 1:
            raise ValueError(
                f"got sigma={sigma} for a uniform prior, which has none; leave it out, or choose "
                "prior=wrapped_normal"
            )
        self.prior, self.sigma = prior, sigma

    def start(
        self,
        noise: Noise,
        shape: Sequence[int],
        cond: Cond = Cond(),
        *,
        scale: float = 1.0,
        stream: str = "prior",
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Cond]:
        """(B, *shape) angles, 0 on padding. Both priors are made of the normal draw, so that a start that is
        given as numbers, or walked along, means the same as with any other model."""
        z = noise.normal(shape, stream=stream, dtype=dtype)
        if self.prior == "uniform":
            return real(wrap(TAU * torch.special.ndtr(z) - math.pi), cond), cond
        return real(wrap(scale * self.sigma * z), cond), cond

    def project(self, x: Tensor, cond: Cond) -> Tensor:
        """See `wrap`; 0 on padding."""
        return real(wrap(x), cond)

    def difference(self, a: Tensor, b: Tensor) -> Tensor:
        """The shortest way to a from b, in [−π, π)."""
        return wrap(a - b)

    def step(self, x: Tensor, d: Tensor) -> Tensor:
        return wrap(x + d)

    def mean_way(self, x: Tensor) -> Tensor:
        """(...) the mean of ``difference(x, source)`` over the prior: 0 for a uniform one. Each turn that x −
        source lies beyond is taken off with its probability."""
        if self.prior == "uniform":
            return torch.zeros_like(x)
        turns = math.ceil((math.pi + 9 * self.sigma) / TAU) + 1
        past = torch.zeros_like(x)
        for seam in (math.pi + TAU * k for k in range(turns)):
            past = past + torch.special.ndtr((x - seam) / self.sigma)
            past = past - torch.special.ndtr((-x - seam) / self.sigma)
        return x - TAU * past
