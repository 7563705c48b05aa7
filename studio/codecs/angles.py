"""Angles in radians, any whole turns off ↔ the same in [−π, π), from a centre on where there is one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from samplers.spaces.torus import wrap
from studio.codecs.codec import Codec, FromNoise


class Angles(FromNoise):
    """(B, d) or (B, L, d) float ↔ float32. ``centre``: (d,) directions that lie at 0 for the network, such as
    the data's mean ones; the cut of the circle is then opposite to them."""

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
        """``dim`` of (d,); of sequences (L, d) one side of ``rows`` with d channels; and that entries are
        ``periodic``."""
        if len(shape) == 1:
            return {"dim": shape[0], "periodic": True}
        length, channels = shape
        found = {"in_channels": channels, "input_size": (length,), "patch_size": 1}
        return {**found, "rows": True, "periodic": True}

    def places(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The angles, or of sequences their places."""
        return (0,)

    def apart(self, other: Codec, mine: str, theirs: str) -> str:
        if self.centre == getattr(other, "centre", ()):
            return ""
        return (
            f"{theirs} counts its angles from other centres than {mine}; choose a model of the same centres"
        )
