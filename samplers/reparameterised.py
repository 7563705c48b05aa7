"""Sampling a model on another path than it was trained on.

Every Gaussian path passes the same noise levels, at other times and on another scale. A state x at t of the
new path is the state x' = s·x at t' of the trained one, where t' has the same log SNR and s = √(alpha'² +
sigma'²)/√(alpha² + sigma²); what the model predicts of data and noise there holds here (the schedule
transform of Pokle et al. 2310.07894 and of exponential integrators before it). The ODE's solution is the same
curve, so every solver ends at the same place in the limit of small steps; at few steps the paths differ.
"""

from typing import Any

import torch
from torch import Tensor, nn

from backbones.registry import build, resolve
from backbones.types import Cond, RunContext
from samplers.denoiser import Queryable
from samplers.names import canonical
from samplers.paths import PATHS, Path, Time, as_time
from samplers.prediction import Prediction, expand


class Reparameterised:
    """A denoiser that lives on ``path``. Levels outside those it was trained on are taken to the nearest;
    ``snap`` asks a model on a VP table at its entries only. Heads that belong to the trained path's steps (a
    learned variance) are left out. ``clip`` bounds the data prediction: that of a model of noise is anything
    where there is nothing but noise."""

    def __init__(self, denoiser: Any, path: Any, *, snap: bool = False, clip: float | None = None):
        if snap and not denoiser.path.tabled:
            raise ValueError("got snap=True for a model that was not trained on a VP table; leave it out")
        self.denoiser, self.path, self.snap, self.clip = denoiser, path, snap, clip
        self.known_trained, self.starts, self.space = (
            denoiser.known_trained,
            denoiser.starts,
            denoiser.space,
        )

    @property
    def net(self) -> nn.Module:
        """The network that is asked."""
        return self.denoiser.net

    @property
    def grad(self) -> str:
        """See `Denoiser.grad`."""
        return getattr(self.denoiser, "grad", "none")

    @property
    def dtype(self) -> torch.dtype | None:
        """What the network runs in."""
        return getattr(self.denoiser, "dtype", None)

    def lowered(self) -> "Reparameterised":
        """See `Denoiser.lowered`."""
        lowered = getattr(self.denoiser, "lowered", None)
        return self._with(self.denoiser if lowered is None else lowered())

    def with_net(self, net: nn.Module, dtype: torch.dtype | None = None) -> "Reparameterised":
        """See `Denoiser.with_net`."""
        return self._with(self.denoiser.with_net(net, dtype))

    def _with(self, denoiser: Any) -> "Reparameterised":
        return Reparameterised(denoiser, self.path, snap=self.snap, clip=self.clip)

    def doubles(self, x: Tensor) -> bool:
        """See `Denoiser.doubles`."""
        doubles = getattr(self.denoiser, "doubles", None)
        return doubles is not None and doubles(x)

    def place(self, t: Time) -> tuple[Tensor, Tensor]:
        """(t', s): where on the trained path, and by what factor the state is larger there."""
        trained, here = self.denoiser.path, self.path.coefficients(t)
        log_snr = self.path.log_snr(t)
        there = trained.nearest(log_snr) if self.snap else trained.time_of(log_snr)
        there = as_time(there).clamp(trained.t_start, trained.last_trained)
        c = trained.coefficients(there)
        return there, torch.hypot(c.alpha, c.sigma) / torch.hypot(here.alpha, here.sigma)

    def predict(self, x: Tensor, t: Time, cond: Cond, ctx: RunContext | None = None) -> Prediction:
        """(B, ...) state at time t of ``path`` to a prediction at the same place."""
        there, scale = self.place(t)
        if not isinstance(t, Tensor):
            answer = self.denoiser.predict(float(scale) * x, float(there), cond, ctx)
        else:
            answer = self.denoiser.predict(expand(scale, x) * x, there, cond, ctx)
        if self.clip is not None:
            return Prediction("data", answer.to("data").clamp(-self.clip, self.clip), x, t, self.path)
        # at a table's entry the level is not quite that of the state, and it is the noise that is kept
        space = "noise" if self.snap else "data"
        return Prediction(space, answer.to(space), x, t, self.path)


def same_path(a: Path, b: Path) -> bool:
    """Whether two paths pass the same states at the same times."""
    return a is b or a.same_as(b)


def seen_from(denoiser: Queryable, path: Path, *, snap: bool = False, clip: float | None = None) -> Queryable:
    """A model asked on another model's path: itself where the paths are one, otherwise the ``view`` that both
    paths have in common. Raises ``ValueError`` where they have none."""
    theirs = denoiser.path
    if same_path(theirs, path):
        return denoiser
    if not path.view or theirs.view != path.view:
        raise ValueError(
            f"got a model on the path {type(theirs).__name__} beside one on {type(path).__name__}, from "
            "where it cannot be asked; choose another model"
        )
    view = resolve({"view": path.view}, "view", "view")
    return view(denoiser, path, snap=snap and theirs.tabled, clip=clip)


def on_path(denoiser: Queryable, path: Path | str | dict[str, Any], *, snap: bool = False) -> Reparameterised:
    """A trained model on another path: an object, a name, or ``{"name": ..., options}`` as configs write
    it. Raises ``ValueError`` for paths of different states."""
    if isinstance(path, str | dict):
        options = {"name": path} if isinstance(path, str) else dict(path)
        if "name" not in options:
            raise ValueError(f"got a path without a name: {options}, expected e.g. {{'name': 'linear'}}")
        path = build(PATHS, canonical("path", options.pop("name")), "path", options)
    here: Any = path
    if getattr(denoiser.path, "view", here.view) != here.view:
        raise ValueError(
            f"got the path {type(here).__name__} for a model on {type(denoiser.path).__name__}, whose states "
            "it does not pass; leave it out"
        )
    return Reparameterised(denoiser, here, snap=snap)
