"""What a sample is made of. `euclid` is real numbers; graphs, angles and masked tokens have spaces of their
own with the same verbs."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from backbones.types import Cond, Noise
from samplers.batch import mean_unknown
from samplers.paths import Coefficients
from samplers.prediction import expand


class Space(Protocol):
    def prior(
        self, noise: Noise, shape: Sequence[int], *, scale: float = 1.0, dtype: torch.dtype = torch.float32
    ) -> Tensor: ...
    def interpolate(self, source: Tensor, data: Tensor, c: Coefficients) -> Tensor: ...
    def project(self, x: Tensor) -> Tensor: ...
    def told(self, data: Tensor, cond: Cond) -> Cond:
        """The conditions, with what the data say of themselves."""
        ...

    def reduce(self, squared: Tensor, cond: Cond) -> Tensor:
        """(B,) mean of errors (B, ...) over the entries that are neither padding nor known."""
        ...


class Euclid:
    """Real tensors with a Gaussian prior."""

    def prior(
        self, noise: Noise, shape: Sequence[int], *, scale: float = 1.0, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """(B, *shape) draws of the prior, from the stream ``prior``."""
        return scale * noise.normal(shape, stream="prior", dtype=dtype)

    def interpolate(self, source: Tensor, data: Tensor, c: Coefficients) -> Tensor:
        """x_t = alpha·data + sigma·source; coefficients of shape () or (B,)."""
        return expand(c.alpha, data) * data + expand(c.sigma, data) * source

    def project(self, x: Tensor) -> Tensor:
        """The nearest point of the space: x itself."""
        return x

    def told(self, data: Tensor, cond: Cond) -> Cond:
        """As they are: every entry is real."""
        return cond

    def reduce(self, squared: Tensor, cond: Cond) -> Tensor:
        """(B,) mean of errors (B, ...) over the entries that are not known."""
        return mean_unknown(squared, cond.known)
