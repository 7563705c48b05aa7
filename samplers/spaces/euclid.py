"""Real tensors with a Gaussian prior. Spaces of other things subclass it and write what differs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from backbones.types import Cond, Noise
from samplers.batch import mean_unknown


class Euclid:
    """See `samplers.spaces.space.Space`."""

    name, geometry, straight = "euclid", "flat", True

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
        """(B, *shape) normal draws of standard deviation ``scale``, 0 on padding."""
        return real(scale * noise.normal(shape, stream=stream, dtype=dtype), cond), cond

    def project(self, x: Tensor, cond: Cond) -> Tensor:
        """x itself, 0 on padding."""
        return real(x, cond)

    def difference(self, a: Tensor, b: Tensor) -> Tensor:
        return a - b

    def step(self, x: Tensor, d: Tensor) -> Tensor:
        return x + d

    def told(self, data: Tensor, cond: Cond) -> Cond:
        """As they are: where they say nothing, every entry is real."""
        return cond

    def known(self, places: Tensor, data: Tensor) -> Tensor:
        """The mask as it is, one for all channels."""
        return places

    def reduce(self, error: Tensor, cond: Cond) -> Tensor:
        """(B,) mean of (B, ...) over the entries that are neither padding nor known."""
        if cond.valid is None:
            return mean_unknown(error, cond.known)
        padding = ~beside(cond.valid, error)
        return mean_unknown(error, padding if cond.known is None else padding | cond.known)


def real(x: Tensor, cond: Cond) -> Tensor:
    """(B, n, ...) with 0 for what is padding."""
    return x if cond.valid is None else x * beside(cond.valid, x)


def beside(valid: Tensor, x: Tensor) -> Tensor:
    """(B, n) as it broadcasts to (B, n, ...)."""
    return valid.view(*valid.shape, *[1] * (x.ndim - valid.ndim))
