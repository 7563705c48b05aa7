"""A prediction that can be read in any space that its path converts to (`Path.convert`): data, noise,
velocity, v and score on a path from noise, ends and drifts on a bridge, logits of categories."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from samplers.paths.base import Path
from samplers.paths.coefficients import expand as expand
from samplers.paths.conversions import SPACES as SPACES
from samplers.paths.conversions import convert
from samplers.paths.conversions import ratio as ratio


@dataclass(frozen=True)
class Prediction:
    """``value`` (B, ...) in ``space``, made at state ``x`` and time ``t`` of ``path``. ``heads`` carries what
    differs: ``variance`` (B, ...) in [−1, 1] of a learned-range model, a separate score, a re-noising
    direction."""

    space: str
    value: Tensor
    x: Tensor
    t: float | Tensor
    path: Path
    heads: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, space: str) -> Tensor:
        """The prediction in another space, ``native`` the path's own; a path that has coefficients and no
        ``convert`` is read as one of noise. Raises ``ValueError`` for a space that the path does not have."""
        space = self.path.native if space == "native" else space
        if space == self.space:
            return self.value
        return getattr(self.path, "convert", convert)(self, space)

    def with_(self, space: str, value: Tensor) -> "Prediction":
        """The same place with another value."""
        return replace(self, space=self.path.native if space == "native" else space, value=value)

    def rows(self, rows: slice, x: Tensor, t: float | Tensor) -> "Prediction":
        """Some rows of a batch, made at ``x`` and ``t``."""
        return Prediction(
            self.space, self.value[rows], x, t, self.path, {k: v[rows] for k, v in self.heads.items()}
        )

    def head(self, name: str) -> Any:
        """A head by name; raises ``ValueError`` when the model has none."""
        if name not in self.heads:
            raise ValueError(
                f"this model has no {name} head (it has {', '.join(self.heads) or 'none'}); choose an "
                "option that does not need it"
            )
        return self.heads[name]
