"""Packed graphs (B, n, dx + 5n) of atoms and bonds, padded to one size."""

from dataclasses import replace

from torch import Tensor

from backbones.types import Cond
from samplers.paths.graph import BONDS, valid_of
from samplers.spaces.euclid import Euclid


class Graph(Euclid):
    """Padding is told by the conditions; where it is not, by the atoms."""

    def told(self, data: Tensor, cond: Cond) -> Cond:
        """With ``valid`` (B, n): which atoms are real."""
        return replace(cond, valid=valid_of(data, cond, data.shape[-1] - BONDS * data.shape[1]))
