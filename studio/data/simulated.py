"""Samples that a simulator makes as training goes: there is no end of them, and none comes twice."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from backbones.types import Cond
from studio.data.arrays import Arrays

BLOCK = 4096  # samples simulated at once
ENDLESS = 2**40  # what stands for their number


class Simulated(torch.utils.data.Dataset):
    """``block(k)`` gives the k-th `BLOCK` samples, a function of k alone. A list of indices is fetched in one
    go as ``(values, Cond)``; neighbours cost one block."""

    endless = True

    def __init__(self, block: Callable[[int], Arrays]):
        self.block = block
        self._kept: tuple[int, Arrays] | None = None

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self._of(i // BLOCK)[i % BLOCK]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Cond]:
        at = np.asarray(indices)
        blocks = np.unique(at // BLOCK)
        if len(blocks) == 1:
            return self._of(int(blocks[0])).__getitems__((at % BLOCK).tolist())
        parts = [self.__getitems__(at[at // BLOCK == k].tolist()) for k in blocks]
        back = torch.from_numpy(np.argsort(np.argsort(at // BLOCK, kind="stable"), kind="stable"))
        values, cond = parts[0]
        for more, beside in parts[1:]:
            values, cond = torch.cat([values, more]), cond.beside(beside)
        return values[back], cond.index(back)

    def _of(self, k: int) -> Arrays:
        if self._kept is None or self._kept[0] != k:
            self._kept = k, self.block(k)
        return self._kept[1]


def endless(dataset: object) -> bool:
    """Whether a data set has no end, so that its samples are used in their order and none again."""
    return bool(getattr(dataset, "endless", False))
