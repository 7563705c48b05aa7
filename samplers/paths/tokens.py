"""Paths of tokens: every place keeps its token with probability ``keep(t)``, each by itself, and is replaced
otherwise: by the mask (``absorbing``, Sahoo et al. 2406.07524), or by any token alike (``uniform``, Austin et
al. 2107.03006).

    linear   keep(t) = t
    cosine   keep(t) = 1 − cos(πt/2)             (Chang et al. 2202.04200)
    arccos   keep(t) = 1 − (2/π) arccos t        (Besnier et al. 2503.17076)

What is visible of a masked sample tells all, so a network needs no time there, and is given none unless
``timed``.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from backbones.types import Cond, Noise
from samplers.batch import Ends, State
from samplers.paths.base import AnyPath, Restore
from samplers.paths.coefficients import Time, as_time, expand
from samplers.spaces.tokens import Tokens

SCHEDULES = ("linear", "cosine", "arccos")
CORRUPTIONS = ("absorbing", "uniform")
SPACES = ("logits", "logp", "probs", "data")
TINY = 1e-12


class TokenPath(AnyPath):
    """See the module. ``vocab``: how many tokens there are, beside the mask. Raises ``ValueError`` for
    unknown schedules and corruptions."""

    native, sampler = "logits", "masked"
    heads = {"logits": "samplers.heads.tokens:TokenLogits"}
    weights = {
        "ce": "samplers.weights:Even",
        "elbo": "samplers.heads.tokens:ELBO",
        "count": "samplers.heads.tokens:Count",
    }
    weight = "ce"
    fixed = ("coupling", "bound_weight", "space")

    def __init__(
        self,
        *,
        vocab: int,
        schedule: str = "linear",
        corruption: str = "absorbing",
        timed: bool = False,
    ):
        if schedule not in SCHEDULES:
            raise ValueError(f"got schedule={schedule!r}, expected one of {', '.join(SCHEDULES)}")
        if corruption not in CORRUPTIONS:
            raise ValueError(f"got corruption={corruption!r}, expected one of {', '.join(CORRUPTIONS)}")
        self.vocab, self.schedule, self.corruption = vocab, schedule, corruption
        self.absorbing = corruption == "absorbing"
        self.timed = timed or not self.absorbing
        self.space = Tokens(vocab=vocab, prior="mask" if self.absorbing else "uniform")

    def same_as(self, other: Any) -> bool:
        return type(other) is type(self) and (self.vocab, self.schedule, self.corruption, self.timed) == (
            other.vocab,
            other.schedule,
            other.corruption,
            other.timed,
        )

    # ---- time ------------------------------------------------------------------------------------

    def keep(self, t: Time) -> Tensor:
        """() or (B,) probability that a place has kept its token."""
        t = as_time(t)
        if self.schedule == "cosine":
            return 1 - torch.cos(math.pi / 2 * t)
        return t if self.schedule == "linear" else 1 - 2 / math.pi * torch.arccos(t)

    def rate(self, t: Time) -> Tensor:
        """() or (B,) keep'(t) / (1 − keep(t)): how fast what is masked is told."""
        t = as_time(t)
        if self.schedule == "cosine":
            return math.pi / 2 * torch.tan(math.pi / 2 * t)
        if self.schedule == "linear":
            return 1 / (1 - t)
        return 1 / (torch.arccos(t) * (1 - t**2).sqrt())

    def network_time(self, t: Time) -> Tensor:
        """0 where the network is told no time."""
        return 1000 * as_time(t) * self.timed

    # ---- training --------------------------------------------------------------------------------

    def coupling(self, spec: str | Mapping[str, Any]) -> None:
        """Tokens have no sources: they are replaced where they are."""

    def state(self, space: Any, pairs: Ends, t: Tensor, noise: Any) -> State:
        """The data with some of its places replaced, at times (B,); those that are known are not."""
        data = pairs.data
        u = noise.uniform(data.shape[1:], stream="keep", dtype=torch.float64).to(data.device)
        kept = u < expand(self.keep(t), u)
        if pairs.cond.known is not None:
            kept = kept | pairs.cond.known
        start, _ = space.start(noise, data.shape[1:], stream="replaced")
        return State(torch.where(kept, data, start.to(data.device)), t, pairs.cond, {"data": data})

    # ---- reverse ---------------------------------------------------------------------------------

    def posterior(self, x: Tensor, clean: Tensor, t: float, s: float) -> Tensor:
        """p(x_s | x_t) = Σ_c p(c) q(x_s | x_t, c) of uniform corruption: x (B, ...) ids at t, ``clean`` (B,
        ..., V) probabilities of the data → (B, ..., V) float64 at s > t."""
        here = torch.nn.functional.one_hot(x, self.vocab).double()
        clean, at, as_ = clean.double(), self.keep(t), self.keep(s)
        ahead, even = at / as_, 1 / self.vocab
        share = clean / (at * here + (1 - at) * even).clamp_min(TINY)
        step = ahead * here + (1 - ahead) * even
        p = step * (as_ * share + (1 - as_) * even * share.sum(-1, keepdim=True))
        return p / p.sum(-1, keepdim=True)

    def restorer(self, given: Tensor, known: Tensor, cond: Cond, noise: Noise) -> Restore:
        """Clean, as visible tokens are; of uniform corruption as training sees them."""
        if not self.absorbing:
            return super().restorer(given, known, cond, noise)
        return lambda x, t: torch.where(known, given, x)

    def convert(self, prediction: Any, to: str) -> Tensor:
        """Logits of the tokens as log-probabilities, as probabilities, or as the likeliest tokens (``data``).
        Raises ``ValueError`` for other spaces."""
        if to not in SPACES or prediction.space not in SPACES[:2]:
            raise ValueError(
                f"got space {to!r} on a model of tokens, expected one of {', '.join(SPACES)}; tokens have "
                "neither noise nor velocity"
            )
        value = prediction.value
        if to == "data":
            return value.argmax(-1)
        logp = value.float().log_softmax(-1)
        return logp if to == "logp" else logp.exp() if to == "probs" else value
