"""Steps on tokens: what is masked is drawn, and some of it revealed.

``ancestral`` reveals every place by itself with the probability that the path says, (keep_s − keep_t)/(1 −
keep_t), and so draws from p(x_s | x_t) of each (Sahoo et al. 2406.07524); of uniform corruption it draws
every place from its posterior. Every other order (`samplers.solvers.orders`) reveals as many as the path
expects, at least one, and a run of more steps than places ends when nothing is masked. An order that looks
at what was drawn is no sampler of the model: it prefers what is likely, and variety falls.

``remask`` hides visible tokens again with a probability σ, and reveals so many more that the share of
visible ones stays what the path says (Wang et al. 2503.00307): ``cap``, σ = eta at most, ``rescale``, σ =
eta times the greatest that keeps that share, (1 − keep_s)/keep_t.
"""

from typing import Any

import torch
from torch import Tensor

from backbones.registry import resolve
from backbones.types import Noise
from samplers.denoiser import Queryable
from samplers.solvers.base import Predict, Sampler
from samplers.solvers.orders import REGISTRY as ORDERS
from samplers.spaces.packing import category

REMASKS = ("none", "cap", "rescale")


class Masked(Sampler):
    """``temperature`` below 1 sharpens every draw; ``top_p``: of what is likeliest only so much is drawn
    from; ``choice_temperature``: of the order gumbel; ``remask``, ``eta``: see the module, with the order
    ancestral. Raises ``ValueError`` for what does not go together."""

    spaces = ("tokens",)
    resamples = False
    differentiable = False

    def __init__(
        self,
        *,
        order: str = "ancestral",
        temperature: float = 1.0,
        top_p: float = 1.0,
        choice_temperature: float = 4.5,
        remask: str = "none",
        eta: float = 0.02,
    ):
        super().__init__()
        self.score: Any = None if order == "ancestral" else resolve(ORDERS, order, "order")
        if not temperature > 0:
            raise ValueError(f"got temperature={temperature}, expected a positive number")
        if not 0 < top_p <= 1:
            raise ValueError(f"got top_p={top_p}, expected a share above 0, at most 1")
        if choice_temperature < 0:
            raise ValueError(f"got choice_temperature={choice_temperature}, expected 0 or more")
        if remask not in REMASKS or not 0 <= eta <= 1:
            raise ValueError(
                f"got remask={remask!r} and eta={eta}, expected one of {', '.join(REMASKS)} and a share"
            )
        if remask != "none" and order != "ancestral":
            raise ValueError(f"got remask={remask} with the order {order}, expected ancestral; leave one out")
        self.order, self.temperature, self.top_p = order, temperature, top_p
        self.choice_temperature, self.remask, self.eta = choice_temperature, remask, eta

    def check(self, denoiser: Queryable) -> None:
        super().check(denoiser)
        if not getattr(denoiser.path, "absorbing", True) and (self.order, self.remask) != (
            "ancestral",
            "none",
        ):
            raise ValueError(
                f"got order={self.order} and remask={self.remask} for a model of uniform corruption, where "
                "nothing is masked; leave them out"
            )

    def sigma(self, kept: float, then: float) -> float:
        """How likely a visible token is masked again, from a share ``kept`` of visible ones to ``then``."""
        if self.remask == "none":
            return 0.0
        bound = min(1.0, (1 - then) / max(kept, 1e-12))
        return min(self.eta, bound) if self.remask == "cap" else self.eta * bound

    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        if noise is None:
            raise ValueError("the sampler masked draws in every step; pass noise=NoiseSource(seeds)")
        source: Any = noise
        prediction: Any = predict(x, t)
        path = prediction.path
        p = self.tempered(prediction.to("logp").double())
        if not path.absorbing:
            p = path.posterior(x, p, t, s)
        drawn = category(p, source.uniform(x.shape[1:], stream="token", dtype=torch.float64).to(x.device))
        if not path.absorbing:
            return drawn
        hidden = x == path.space.mask
        kept, then = float(path.keep(t)), float(path.keep(s))
        if self.score is not None:
            return torch.where(self._chosen(hidden, p, drawn, then, s, source, history), drawn, x)
        sigma = self.sigma(kept, then)
        u = source.uniform(x.shape[1:], stream="reveal", dtype=torch.float64).to(x.device)
        share = (then - (1 - sigma) * kept) / max(1 - kept, 1e-12)
        told = torch.where(hidden & ((u < share) | (s >= 1)), drawn, x)
        return torch.where(~hidden & (u < sigma), path.space.mask, told) if sigma else told

    def tempered(self, logp: Tensor) -> Tensor:
        """(B, ..., V) probabilities to draw from."""
        p = (logp / self.temperature).softmax(-1)
        if self.top_p == 1:
            return p
        ranked, places = p.sort(dim=-1, descending=True, stable=True)
        outside = ranked.cumsum(-1) - ranked >= self.top_p
        p = torch.zeros_like(p).scatter(-1, places, ranked.masked_fill(outside, 0.0))
        return p / p.sum(-1, keepdim=True)

    def _chosen(
        self,
        hidden: Tensor,
        p: Tensor,
        drawn: Tensor,
        then: float,
        s: float,
        noise: Any,
        history: list[Any],
    ) -> Tensor:
        """(B, ...) bool of what is revealed: ties go by place, so that a batch changes nothing."""
        masked = hidden.flatten(1).sum(1)
        if not history:
            history.append(masked)
        left = (history[0] * (1 - then) + 1e-9).floor().long()
        left = torch.minimum(left, masked - 1).clamp_min(0) if s < 1 else torch.zeros_like(masked)
        logp = p.gather(-1, drawn[..., None])[..., 0].clamp_min(1e-300).log()
        score = self.score(logp, s, noise, self.choice_temperature).flatten(1)
        score = score.masked_fill(~hidden.flatten(1), -torch.inf)
        places = score.argsort(dim=1, descending=True, stable=True)
        rank = torch.empty_like(places).scatter(1, places, torch.arange(places.shape[1]).expand_as(places))
        return (rank < (masked - left)[:, None]).view(hidden.shape) & hidden
