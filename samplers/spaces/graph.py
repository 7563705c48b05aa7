"""Packed graphs of atoms and bonds (`samplers.spaces.packing`), padded to one size."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from backbones.types import Cond, Noise
from samplers.spaces.euclid import Euclid
from samplers.spaces.packing import BONDS, pack, valid_of


class Graph(Euclid):
    """Categories: there is no way between two of them, and errors are measured by the head."""

    name, geometry = "graph", "discrete"

    def start(
        self,
        noise: Noise,
        shape: Sequence[int],
        cond: Cond = Cond(),
        *,
        scale: float = 1.0,
        stream: str = "prior",
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Cond]:
        """Raises ``ValueError``: frequencies and sizes are the path's and the codec's."""
        raise ValueError(
            "got a space of graphs without a data set, expected the frequencies of atoms and bonds; start "
            "from the model's codec, or from GraphPath.prior"
        )

    def difference(self, a: Tensor, b: Tensor) -> Tensor:
        """Raises ``ValueError``."""
        raise ValueError("got graphs, which have no differences; choose the sampler graph")

    def step(self, x: Tensor, d: Tensor) -> Tensor:
        """Raises ``ValueError``."""
        return self.difference(x, d)

    def told(self, data: Tensor, cond: Cond) -> Cond:
        """With ``valid`` (B, n), which atoms are real: where the conditions do not say, those with a type."""
        return replace(cond, valid=valid_of(data, cond, data.shape[-1] - BONDS * data.shape[1]))

    def known(self, places: Tensor, data: Tensor) -> Tensor:
        """Atoms (B, n, 1), each with its type, and the bonds between two that are known."""
        n, width = data.shape[1:]
        both = places & places.transpose(1, 2)  # (B, n, n)
        return pack(places.expand(-1, -1, width - BONDS * n), both[..., None].expand(-1, -1, -1, BONDS))
