"""Angles in radians, any whole turns off ↔ the same in [−π, π), from a centre on where there is one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from samplers.spaces.torus import wrap
from studio.codecs.codec import Codec, FromNoise


class Angles(FromNoise):
    """(B, d) float ↔ float32. ``centre``: (d,) directions that lie at 0 for the network, such as the data's
    mean ones; the cut of the circle is then opposite to them."""

    name, bound, pictures, rescales, space = "angles", None, False, True, "torus"

    def __init__(self, *, centre: tuple[float, ...] = ()):
        self.centre = tuple(centre)

    def encode(self, data: Tensor) -> Tensor:
        return wrap(data.double() - self._centre(data)).float()

    def decode(self, x: Tensor) -> Tensor:
        return wrap(x.double() + self._centre(x)).float()

    def _centre(self, like: Tensor) -> Tensor | float:
        return torch.tensor(self.centre, dtype=torch.float64, device=like.device) if self.centre else 0.0

    def sizes(self, shape: Sequence[int]) -> dict[str, Any]:
        """``dim``, and that entries are ``periodic``."""
        return {**super().sizes(shape), "periodic": True}

    def apart(self, other: Codec, mine: str, theirs: str) -> str:
        if self.centre == getattr(other, "centre", ()):
            return ""
        return (
            f"{theirs} counts its angles from other centres than {mine}; choose a model of the same centres"
        )
