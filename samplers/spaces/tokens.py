"""Ids of a vocabulary: every place of a sample is one of ``vocab`` tokens, or is masked on the way there."""

from collections.abc import Sequence

import torch
from torch import Tensor

from backbones.types import Cond, Noise
from samplers.spaces.euclid import Euclid


class Tokens(Euclid):
    """int64 ids 0 … vocab − 1; ``mask`` is the id ``vocab``. ``prior``: all masked, or ``uniform`` ids.
    Raises ``ValueError`` for other priors."""

    name, geometry = "tokens", "discrete"

    def __init__(self, *, vocab: int = 256, prior: str = "mask"):
        if vocab < 2:
            raise ValueError(f"got a vocabulary of {vocab}, expected at least two tokens")
        if prior not in ("mask", "uniform"):
            raise ValueError(f"got the prior {prior!r} of tokens, expected mask or uniform")
        self.vocab, self.prior = vocab, prior

    @property
    def mask(self) -> int:
        return self.vocab

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
        """(B, *shape) ids. The uniform ones are made of the normal draw, so that a start that is given as
        numbers means the same as with any other model."""
        z = noise.normal(shape, stream=stream, dtype=torch.float64)
        if self.prior == "mask":
            return torch.full(z.shape, self.mask, device=z.device), cond
        return (torch.special.ndtr(z) * self.vocab).long().clamp_max(self.vocab - 1), cond

    def difference(self, a: Tensor, b: Tensor) -> Tensor:
        """Raises ``ValueError``."""
        raise ValueError("got tokens, which have no differences; choose the sampler masked")

    def step(self, x: Tensor, d: Tensor) -> Tensor:
        """Raises ``ValueError``."""
        return self.difference(x, d)
