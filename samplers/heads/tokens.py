"""What a network on tokens emits, logits (B, ..., V) of the clean token of every place, and how its
cross-entropy is weighed.

    ce      the mean over what is masked (Chang et al. 2202.04200)
    elbo    keep'/(1 − keep) times the sum over what is masked, for each token: its mean over even times is a
            bound of −log p in nats a token, whatever the schedule (Sahoo et al. 2406.07524)
    count   the same bound with the masks' own number instead of the time, the sum over it times keep'(t) (n +
            1)/k for k of n masked: on the linear schedule no weight is beyond n + 1
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.types import Backbone, Cond, RunContext
from samplers.batch import Error, State
from samplers.prediction import Prediction

NEVER = -1e9  # a logit whose probability is 0


@dataclass(frozen=True)
class TokenError(Error):
    """``value`` (B,) mean cross-entropy over the places that were replaced, ``replaced`` of ``free`` ones
    (B,) that are not known."""

    replaced: Tensor
    free: Tensor


class TokenLogits:
    """The only parameterisation of tokens. Where a place is visible under absorbing corruption its token is
    certain; the mask is never predicted."""

    space, variance, channels, cond_source = "logits", None, 1, False

    def predict(
        self, net: Backbone, x: Tensor, t: Any, cond: Cond, path: Any, ctx: RunContext | None = None
    ) -> Prediction:
        """Of ids x (B, ...) at times t."""
        clock = path.network_time(t).to(x.device).float().expand(len(x))
        value = net(x, clock, cond, ctx)
        if value.shape != (*x.shape, path.vocab):
            raise ValueError(
                f"got logits of shape {tuple(value.shape)} of the network, expected "
                f"{(*x.shape, path.vocab)}: one for each token of every place"
            )
        if path.absorbing:
            seen = x != path.space.mask
            sure = NEVER * (1 - F.one_hot(x.clamp_max(path.vocab - 1), path.vocab)).to(value)
            value = torch.where(seen[..., None], sure, value)
        return Prediction("logits", value, x, t, path)

    def errors(self, p: Prediction, state: State, space: Any) -> list[Error]:
        """The cross-entropy over what was replaced and is not known; of uniform corruption over all that is
        not known, as nothing tells what was replaced."""
        data = state.targets["data"]
        free = torch.ones_like(data, dtype=torch.bool)
        if state.cond.known is not None:
            free = ~state.cond.known.expand_as(data)
        path: Any = p.path
        asked = free & (p.x == space.mask) if path.absorbing else free
        ce = F.cross_entropy(p.value.float().flatten(0, -2), data.flatten(), reduction="none").view(
            data.shape
        )
        k, n = asked.flatten(1).sum(1), free.flatten(1).sum(1)
        value = (ce * asked).flatten(1).sum(1) / k.clamp_min(1)
        return [TokenError("tokens", value, torch.ones(()), k, n)]


class ELBO:
    """Raises ``ValueError`` for uniform corruption, of which it is no bound."""

    def __call__(self, error: TokenError, path: Any, t: Tensor) -> Tensor:
        _check(path, "elbo")
        share = error.replaced / error.free.clamp_min(1)
        return error.value * (path.rate(t).clamp_max(1e4) * share).to(error.value)


class Count:
    """Raises ``ValueError`` for uniform corruption."""

    def __call__(self, error: TokenError, path: Any, t: Tensor) -> Tensor:
        _check(path, "count")
        slope = path.rate(t) * (1 - path.keep(t))
        return error.value * (slope * (error.free + 1) / error.free.clamp_min(1)).to(error.value)


def _check(path: Any, name: str) -> None:
    if not path.absorbing:
        raise ValueError(
            f"got objective.weight={name} on {path.corruption} corruption, of which it is no bound, expected "
            "absorbing; choose weight=ce"
        )
