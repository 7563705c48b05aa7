"""Autoguidance (Karras et al. 2406.02507): away from a weaker model ω that is asked the *same* condition,

    g = e_ω(x, c) + w (e_θ(x, c) − e_ω(x, c))

where ω is an earlier snapshot of the same training or a smaller network. With cfg beside it the two add
up."""

from typing import Any

from torch import Tensor

from backbones.types import Cond
from guidance.borrowed import Borrowed
from guidance.rules import Interval, Rule, Tensors, check_scale, towards
from samplers.denoiser import Queryable
from samplers.paths import Path, Time


class Autoguidance(Borrowed, Rule):
    """``scale`` w (1 is off); ``model`` the weaker one: a denoiser, or a name that the studio loads;
    ``match`` and ``clip`` as in the prior swap. ``interval``, ``interval_sigma`` as in cfg."""

    needs = frozenset({"weak"})
    provides = "weak"

    def __init__(
        self,
        scale: float = 1.0,
        *,
        model: Queryable | str | None = None,
        match: str = "continuous",
        clip: float | None = None,
        interval: tuple[float, float] | None = None,
        interval_sigma: tuple[float, float] | None = None,
    ):
        super().__init__(model, match, clip)
        self.scale, self.where = check_scale(scale, "autoguidance scale"), Interval(interval, interval_sigma)

    def check(self, denoiser: Queryable) -> None:
        self.agree(denoiser)

    def active(self, t: float, path: Path) -> bool:
        return self.scale != 1 and self.where.contains(t, path)

    def branch(self, denoiser: Queryable) -> Queryable:
        return self.on(denoiser.path)

    def condition(self, cond: Cond) -> Cond:
        return cond

    def combine(
        self, predictions: Tensors, *, x: Tensor, t: Time, path: Path, state: dict[str, Any]
    ) -> Tensor:
        return towards(predictions, "weak", self.scale)
