"""A model that a rule borrows: given as a denoiser, or by a name that whoever loads models (the studio) has
to replace by one."""

import copy
from typing import Self

from samplers.denoiser import Queryable
from samplers.paths import Path
from samplers.reparameterised import seen_from


class Borrowed:
    """``model``: a denoiser, or the name of a model that is not loaded yet. ``match``: how a level is found
    on its VP table: continuous, or nearest for its entries only, as in 2503.20240. ``clip`` bounds its data
    predictions where its path is another. ``free``: in steps that do not ask it, a model that can (one that
    the studio has loaded) lets go of its weights."""

    def __init__(
        self,
        model: Queryable | str | None,
        match: str = "continuous",
        clip: float | None = None,
        free: bool = False,
    ):
        if match not in ("continuous", "nearest"):
            raise ValueError(f"got match={match!r}, expected continuous or nearest")
        if clip is not None and not clip > 0:
            raise ValueError(f"got clip={clip}, expected a positive bound or none")
        self.model, self.match, self.clip, self.free = model, match, clip, free

    def with_model(self, model: Queryable) -> Self:
        """The same rule with its model loaded."""
        changed = copy.copy(self)
        changed.model = model
        return changed

    def loaded(self) -> Queryable:
        """The model; raises ``ValueError`` where there is none yet."""
        name = type(self).__name__
        if self.model is None:
            raise ValueError(f"{name} needs another model; pass model=")
        if isinstance(self.model, str):
            raise ValueError(
                f"{name} names the model {self.model!r}, which is not loaded; pass a denoiser (the studio "
                "loads names by itself)"
            )
        return self.model

    def agree(self, denoiser: Queryable) -> None:
        """Raise ``ValueError`` where the borrowed model is made of something else, or starts elsewhere."""
        theirs, ours = ((d.space, d.starts) for d in (self.loaded(), denoiser))
        if theirs != ours:
            raise ValueError(
                f"got a model of {theirs[0]} that starts from {theirs[1]} to guide one of {ours[0]} that "
                f"starts from {ours[1]}, expected both alike"
            )

    def rest(self) -> None:
        """Nobody asks the model in this step."""
        release = getattr(self.model, "release", None)
        if self.free and release is not None:
            release()

    def on(self, path: Path) -> Queryable:
        """The model asked on the guided model's path."""
        return seen_from(self.loaded(), path, snap=self.match == "nearest", clip=self.clip)
