"""In which order the sampler of tokens reveals what is masked: a score of every place, the highest first.

random       any
confidence   by the probability of the token that was drawn there
gumbel       the same with Gumbel noise, which fades along the run (Chang et al. 2202.04200)
halton       spread over the places evenly, always alike (Besnier et al. 2503.17076)
"""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from backbones.plugins import Registry
from backbones.types import NoiseSource

REGISTRY = Registry(
    "orders", {k: f"samplers.solvers.orders:{k}" for k in ("random", "confidence", "gumbel", "halton")}
)


def random(logp: Tensor, s: float, noise: NoiseSource, temperature: float) -> Tensor:
    """``logp`` (B, ...) of the tokens drawn for every place, at the time s that the step leads to."""
    return noise.uniform(logp.shape[1:], stream="order", dtype=torch.float64).to(logp.device)


def confidence(logp: Tensor, s: float, noise: NoiseSource, temperature: float) -> Tensor:
    return logp.double()


def gumbel(logp: Tensor, s: float, noise: NoiseSource, temperature: float) -> Tensor:
    # in float64: the greatest draw of float32 caps the noise
    u = noise.uniform(logp.shape[1:], stream="order", dtype=torch.float64).to(logp.device)
    return logp.double() - temperature * (1 - s) * (-u.log()).log()


def halton(logp: Tensor, s: float, noise: NoiseSource, temperature: float) -> Tensor:
    return -halton_ranks(tuple(logp.shape[1:])).to(logp.device).expand(logp.shape)


@cache
def halton_ranks(shape: Sequence[int]) -> Tensor:
    """float64 (*shape): when each place comes, by the Halton sequence of one base an axis (2, 3, 5)."""
    ranks = torch.full(tuple(shape), -1.0, dtype=torch.float64)
    found, i = 0, 0
    while found < ranks.numel():
        place = tuple(int(_inverse(i, base) * n) for base, n in zip((2, 3, 5), shape))
        i += 1
        if ranks[place] < 0:
            ranks[place], found = found, found + 1
    return ranks


def _inverse(i: int, base: int) -> float:
    """The digits of i behind the point, the last first."""
    value, share = 0.0, 1.0 / base
    while i:
        i, digit = divmod(i, base)
        value, share = value + digit * share, share / base
    return value
