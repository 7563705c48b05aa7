"""Angles along chains of several lengths, undefined at the ends ↔ angles with padding."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from backbones.types import Cond, Noise
from samplers.spaces.torus import wrap
from studio.codecs.angles import Angles
from studio.codecs.codec import Setting
from studio.codecs.rows import counted


class Chains(Angles):
    """(B, n, d) radians, NaN on padding and where an angle is not defined ↔ float32 (B, n, d), 0 there.

    ``scale``: (d,) what the network's angles are divided by, so that narrow ones fill more of their circle;
    what lies beyond half a turn of it is cut off. ``lengths``: how many chains of the data have 1 … n places,
    which a run draws from where it is not told. ``first`` and ``last``: angles that the first and the last
    place of a chain do not have.
    """

    name, holes, any_length = "chains", True, True

    def __init__(
        self,
        *,
        lengths: tuple[int, ...],
        centre: tuple[float, ...] = (),
        scale: tuple[float, ...] = (),
        first: tuple[int, ...] = (),
        last: tuple[int, ...] = (),
    ):
        super().__init__(centre=centre)
        self.lengths, self.scale = tuple(lengths), tuple(scale)
        self.first, self.last = list(first), list(last)

    def encode(self, data: Tensor) -> Tensor:
        x = wrap(data.double() - self._centre(data)) / self._scale(data)
        return wrap(x.clamp(-torch.pi, torch.pi).float()).nan_to_num(nan=0.0)

    def decode(self, x: Tensor) -> Tensor:
        """States are 0 on padding, and in no row else."""
        real = (x != 0).any(-1)  # (B, n)
        made = wrap(x.double() * self._scale(x) + self._centre(x)).float()
        made = torch.where(real[..., None], made, torch.nan)
        ends = real & ~torch.nn.functional.pad(real[:, 1:], (0, 1))  # the last place of each
        made[:, 0, self.first] = torch.nan
        lost = torch.zeros(x.shape[-1], dtype=torch.bool, device=x.device)
        lost[self.last] = True
        return torch.where(ends[..., None] & lost, torch.nan, made)

    def _scale(self, like: Tensor) -> Tensor | float:
        return torch.tensor(self.scale, dtype=torch.float64, device=like.device) if self.scale else 1.0

    @property
    def settings(self) -> Mapping[str, Setting]:
        """``length``: how many places a chain gets."""
        there = [k + 1 for k, count in enumerate(self.lengths) if count]
        return {"length": Setting(min(there), max(there))}

    def start(
        self,
        cond: Cond,
        noise: Noise,
        path: Any,
        shape: Sequence[int],
        *,
        settings: Mapping[str, Any] | None = None,
        part: Tensor | None = None,
        free: Tensor | None = None,
    ) -> tuple[Tensor, Cond]:
        """With ``valid`` (B, n), the places that are real; lengths are drawn (stream ``rows``)."""
        count = counted(self.lengths, noise, (settings or {}).get("length"), cond)
        valid = torch.arange(shape[0], device=count.device) < count[:, None]
        return super().start(replace(cond, valid=valid), noise, path, shape)

    def apart(self, other: Any, mine: str, theirs: str) -> str:
        if self.scale == getattr(other, "scale", ()):
            return super().apart(other, mine, theirs)
        return f"{theirs} divides its angles otherwise than {mine}; choose a model of the same scale"
