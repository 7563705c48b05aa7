"""Rows of numbers (n, d), some of which are padding ↔ the same in units of the data."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from backbones.types import Cond, Noise
from studio.codecs.codec import Setting
from studio.codecs.curves import Curves


class Rows(Curves):
    """(B, n, d) floats, real rows first, then padding ↔ float32 less ``mean`` over ``std``, each a number for
    each of d; decoded to ``dtype`` with 0 on padding. ``lengths``: how many samples of the data have 1 … n
    real rows, which a run draws from where it is not told."""

    name, any_length = "rows", True
    axis = -1

    def __init__(
        self,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        lengths: tuple[int, ...],
        dtype: str = "float32",
    ):
        super().__init__(mean=mean, std=std, dtype=dtype)
        self.lengths = tuple(lengths)

    def decode(self, x: Tensor) -> Tensor:
        """States are 0 on padding, and on nothing else."""
        return torch.where((x == 0).all(-1, keepdim=True), 0, super().decode(x)).to(self.dtype)

    @property
    def settings(self) -> Mapping[str, Setting]:
        """``rows``: how many a sample gets."""
        return {"rows": Setting(1, len(self.lengths))}

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
        """With ``valid`` (B, n), the rows that are real: at least those of which something is known. Raises
        ``ValueError`` where fewer are asked for."""
        count = counted(self.lengths, noise, (settings or {}).get("rows"), cond)
        valid = torch.arange(shape[0], device=count.device) < count[:, None]
        return super().start(replace(cond, valid=valid), noise, path, shape)

    def log_det(self, shape: Sequence[int]) -> float | None:
        """None: it depends on how many rows are real."""
        return None

    def sizes(self, shape: Sequence[int]) -> dict[str, Any]:
        """One side, of ``rows``, each a patch."""
        return {"in_channels": shape[1], "input_size": (shape[0],), "patch_size": 1, "rows": True}

    def places(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The rows."""
        return (0,)


def counted(lengths: Sequence[int], noise: Noise, told: Any, cond: Cond) -> Tensor:
    """(B,) how many rows each sample gets: ``told``, for all or for each, or drawn (stream ``rows``) from how
    many samples of the data have 1 … n; as many at least as reach to the last that is known. Raises
    ``ValueError`` where fewer are told."""
    source: Any = noise
    u = source.uniform(stream="rows").double()
    ends = torch.tensor(lengths, dtype=torch.float64, device=u.device).cumsum(0)
    count = 1 + torch.searchsorted(ends, u * ends[-1], right=True).clamp_max(len(ends) - 1)
    if told is not None:
        count = torch.as_tensor(told, device=u.device).to(count).expand(len(u))
    if cond.known is None:
        return count
    known = cond.known.any(-1)
    least = (known * torch.arange(1, known.shape[1] + 1, device=u.device)).amax(1).to(count)
    if told is not None and (short := least > count).any():
        k = int(short.nonzero()[0])
        raise ValueError(
            f"got {int(count[k])} rows for samples of which row {int(least[k])} is known, expected at least "
            f"{int(least[k])}"
        )
    return torch.maximum(count, least)
