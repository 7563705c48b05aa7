"""Unconditional-prior swap (Phan et al. 2503.20240, equation 7): the unconditional prediction comes from
another model ψ, typically the base that the conditional one θ was fine-tuned from,

    g = e_ψ(x, ∅) + w (e_θ(x, c) − e_ψ(x, ∅))

which samples p_ψ(x)^{1−w} p_θ(x|c)^w. ψ may have another path, schedule and parameterisation: it is asked at
its own time with the same log SNR and its answer is brought back (`samplers.reparameterised`). ψ gets its own
null condition.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from backbones.types import Cond, RunContext
from guidance.borrowed import Borrowed
from guidance.rules import Rule
from samplers.denoiser import Queryable
from samplers.paths import Path, Time
from samplers.prediction import Prediction


class PriorSwap(Borrowed, Rule):
    """``model`` ψ: a denoiser, or a name that the studio loads; ``match`` as in 2503.20240 (nearest table
    entry) or continuous; ``clip`` bounds ψ's data predictions where its path is another; ``free`` lets it go
    in steps that do not ask it (and loads it again). ``channels``: how many of the first ones ψ knows, where
    they are not all; the others keep the conditional prediction."""

    stage = "source"
    needs: frozenset[str] = frozenset()
    provides = "uncond"

    def __init__(
        self,
        model: Queryable | str,
        *,
        match: str = "continuous",
        clip: float | None = None,
        channels: int | None = None,
        free: bool = False,
    ):
        super().__init__(model, match, clip, free)
        if channels is not None and channels < 1:
            raise ValueError(f"got channels={channels}, expected at least 1")
        self.channels = channels

    def check(self, denoiser: Queryable) -> None:
        self.agree(denoiser)

    def branch(self, denoiser: Queryable) -> Queryable:
        other = self.on(denoiser.path)
        return other if self.channels is None else _First(other, self.channels)

    def condition(self, cond: Cond) -> Cond:
        """What is known of the sample; an absent condition is the other model's own null."""
        return Cond(valid=cond.valid, known=cond.known, given=cond.given)


@dataclass(frozen=True)
class _First:
    """A model that is shown the first channels only."""

    denoiser: Queryable
    channels: int

    @property
    def path(self) -> Path:
        return self.denoiser.path

    @property
    def known_trained(self) -> bool:
        return self.denoiser.known_trained

    @property
    def space(self) -> str:
        return self.denoiser.space

    @property
    def starts(self) -> str:
        return self.denoiser.starts

    def predict(self, x: Tensor, t: Time, cond: Cond, ctx: RunContext | None = None) -> Prediction:
        first: dict[str, Any] = {
            k: None if v is None or v.ndim < 2 else v[:, : self.channels]
            for k, v in (("known", cond.known), ("given", cond.given))
        }
        return self.denoiser.predict(x[:, : self.channels], t, Cond(valid=cond.valid, **first), ctx)
