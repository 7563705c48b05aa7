"""What a rule is: it declares the ``space`` it works in, its ``stage``, and does what that stage does.

    source    where a branch comes from: ``provides`` names it, ``branch`` and ``condition`` say who is asked
              and with what
    change    ``transform(predictions, ...)`` changes branches before they are combined
    combine   ``combine(predictions, ...)`` returns the guided tensor, which later rules find as "guided"
    finish    the same, after every rule that combines; one that ``queries`` is given the whole prediction by
              ``finish(prediction, query=..., ...)`` instead, and may ask the model again

The engine runs the stages in this order and the rules of a stage in theirs. Tensors come by branch name
("cond", "uncond", ...) in the rule's space. A rule has no state of its own: ``state`` is its dict in the run,
with the run's ``step`` and ``num_steps``; what it writes is kept once per step.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from backbones.registry import plain
from backbones.types import Cond
from samplers.denoiser import Queryable
from samplers.paths import Path, Time, sigma_of
from samplers.prediction import Prediction

STAGES = ("source", "change", "combine", "finish")
Tensors = Mapping[str, Tensor]
Query = Callable[[Tensor, Time], Prediction]


class Rule:
    """Base: combines, active everywhere, needs the unconditional branch, does nothing. ``changes``: branches
    that it transforms where others need them. ``demands``: heads that a sampler must follow for the rule to
    mean anything. ``queries``: it asks the model itself, see ``finish``."""

    space: str = "native"
    stage: str = "combine"
    needs: frozenset[str] = frozenset({"uncond"})
    changes: frozenset[str] = frozenset()
    provides: str = ""
    demands: frozenset[str] = frozenset()
    queries: bool = False

    def check(self, denoiser: Queryable) -> None:
        """Raise ``ValueError`` where the rule makes no sense for a model. Called when a model is guided,
        before anything is computed."""

    def active(self, t: float, path: Path) -> bool:
        """Whether the rule acts in a step that starts at t. Off means that its branches are not even
        computed."""
        return True

    def branch(self, denoiser: Queryable) -> Queryable:
        """Who is asked for the branch it provides."""
        return denoiser

    def condition(self, cond: Cond) -> Cond:
        """With what condition."""
        return cond.null()

    def rest(self) -> None:
        """The branch it provides is not asked for in this step."""

    def transform(
        self, predictions: Tensors, *, x: Tensor, t: Time, path: Path, state: dict[str, Any]
    ) -> dict[str, Tensor]:
        return {}

    def combine(
        self, predictions: Tensors, *, x: Tensor, t: Time, path: Path, state: dict[str, Any]
    ) -> Tensor | None:
        return None

    def finish(
        self,
        prediction: Prediction,
        *,
        query: Query,
        x: Tensor,
        t: Time,
        path: Path,
        state: dict[str, Any],
    ) -> Prediction:
        """The prediction in place of the one that the other rules made. ``query(x, t)`` is the model as they
        guide it, at any state of the batch; x asks for gradients, which go through it: of a loss of
        ``query(x, t).to("data")`` take ``torch.autograd.grad(loss, x)``."""
        return prediction

    def heads(self, predictions: Tensors) -> dict[str, Tensor]:
        """Heads, in the rule's space, that the guided prediction carries besides its value."""
        return {}


class Interval:
    """A half-open stretch of the path: ``interval`` (a, b) acts on a <= t < b; ``interval_sigma`` (lo, hi) on
    lo < sigma/alpha <= hi (Kynkäänniemi et al. 2404.07724). Decided by the start of a step, for all its
    evaluations."""

    def __init__(
        self, interval: tuple[float, float] | None = None, interval_sigma: tuple[float, float] | None = None
    ):
        if interval is not None and interval_sigma is not None:
            raise ValueError("got both interval and interval_sigma, expected one of them")
        for name, pair in (("interval", interval), ("interval_sigma", interval_sigma)):
            if pair is not None and (len(pair) != 2 or not pair[0] < pair[1]):
                raise ValueError(f"got {name}={pair}, expected two increasing numbers a:b")
        self.interval, self.interval_sigma = interval, interval_sigma

    def __bool__(self) -> bool:
        """Whether it bounds anything."""
        return self.interval is not None or self.interval_sigma is not None

    def contains(self, t: float, path: Path) -> bool:
        if self.interval is not None:
            return self.interval[0] <= t < self.interval[1] or (t == 1.0 and self.interval[1] >= 1.0)
        if self.interval_sigma is not None:
            return self.interval_sigma[0] < float(sigma_of(path, t)) <= self.interval_sigma[1]
        return True


def check_scale(scale: Any, name: str) -> float:
    scale = plain(scale)
    if not isinstance(scale, int | float) or isinstance(scale, bool) or not abs(scale) < float("inf"):
        raise ValueError(f"got {name}={scale}, expected a finite number (1 is off)")
    return float(scale)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """⟨a, b⟩ of each sample over all its entries, in float64, of a shape that multiplies (B, ...)."""
    axes = tuple(range(1, a.ndim))
    wide = torch.float32 if a.device.type == "mps" else torch.float64
    return (a.float() * b.float() if a.dtype in (torch.bfloat16, torch.float16) else a * b).sum(
        axes, keepdim=True, dtype=wide
    )


def towards(predictions: Tensors, other: str, scale: float | Tensor) -> Tensor:
    """other + scale (cond − other); on top of what an earlier rule has guided, that plus (scale − 1)(cond −
    other)."""
    c, u = predictions["cond"], predictions[other]
    if "guided" in predictions:
        return predictions["guided"] + (scale - 1) * (c - u)
    return torch.lerp(u, c, scale)
