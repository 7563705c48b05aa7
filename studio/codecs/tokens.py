"""Ids of a vocabulary ↔ the same as int64."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from studio.codecs.codec import Codec, FromNoise


class TokensCodec(FromNoise):
    """(B, ...) whole numbers 0 … vocab − 1 ↔ int64; decoded to ``dtype``, what the data had. ``symbols``:
    what the ids stand for, where that is known. Raises ``ValueError`` for ids beyond the vocabulary."""

    name, bound, pictures, rescales, space = "tokens", None, False, True, "tokens"

    def __init__(self, *, vocab: int, dtype: str = "int64", symbols: tuple[str, ...] = ()):
        self.vocab, self.dtype, self.symbols = vocab, getattr(torch, dtype), tuple(symbols)

    def encode(self, data: Tensor) -> Tensor:
        ids = data.long()
        if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= self.vocab):
            raise ValueError(
                f"got tokens from {int(ids.min())} to {int(ids.max())}, expected 0 to {self.vocab - 1}"
            )
        return ids

    def decode(self, x: Tensor) -> Tensor:
        """A place that is still masked, as in a preview, is the last id."""
        return x.clamp_max(self.vocab - 1).to(self.dtype)

    def sizes(self, shape: Sequence[int]) -> dict[str, Any]:
        """``vocab``, and ``input_size``, the places along each axis."""
        return {"vocab": self.vocab, "input_size": tuple(shape)}

    def places(self, shape: Sequence[int]) -> tuple[int, ...]:
        """All axes: tokens have no channels."""
        return tuple(range(len(shape)))

    def apart(self, other: Codec, mine: str, theirs: str) -> str:
        if (self.vocab, self.symbols) == (getattr(other, "vocab", 0), getattr(other, "symbols", ())):
            return ""
        return f"{theirs} has another vocabulary than {mine}; choose a model of the same tokens"
