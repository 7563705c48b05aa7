"""Entries of samples that a caller knows and that stay: a mask of them and their values, in the data's own
unit, as files hold them.

They come back to the last bit. What the mask leaves free of the values is not looked at and may be NaN.
Networks that were trained with known entries (``train.known``) find them clean and are told which they are;
others find them as noisy as the rest, and their samplers take every step several times
(`studio.sampling.sampler_spec`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.types import Cond
from studio.codecs.codec import Codec
from studio.sampling import inputs
from studio.sampling.array_files import read


@dataclass(frozen=True)
class Kept:
    """``known`` bool and ``given``, of the data's own type and 0 where nothing is known, both (N, *shape) of
    decoded samples, or (1, *shape) for all of them. ``rows``: how long the given samples are, where they
    are shorter than they could be."""

    known: Tensor
    given: Tensor
    rows: int | None = None

    def of(self, rows: Sequence[int]) -> "Kept":
        """Those of these samples."""
        known, given = (v if len(v) == 1 else v[list(rows)] for v in (self.known, self.given))
        return Kept(known, given, self.rows)

    def put_back(self, made: Tensor) -> Tensor:
        """Decoded samples (N, *shape) with the known entries as they were given."""
        return torch.where(self.known, self.given.to(made), made)

    def told(self, cond: Cond, codec: Codec, rows: Sequence[int | None], device: torch.device) -> Cond:
        """The conditions of these rows with what is known of them; None is padding."""
        own = self.of([0 if i is None else i for i in rows])
        known, given = own.known.to(device), codec.encode(own.given).to(device)
        every = (len(rows), *given.shape[1:])
        return replace(cond, known=known.expand(every), given=given.expand(every))


def kept(known: Any, given: Any, shape: Sequence[int], count: int, codec: Codec, name: str) -> Kept | None:
    """What ``count`` samples of a decoded ``shape`` keep, of the model ``name``; None where nothing is asked
    for. ``known``: bools, or 0 and 1, of a shape that broadcasts to a sample's, or one for each; ``given``:
    numbers of a sample's shape, or one for each, of codecs with ``any_length`` also shorter ones, and NaN
    with ``holes``; both also as .npy files, or as arrays of these names in an .npz. Raises ``ValueError``."""
    if known is None and given is None:
        return None
    if known is None or given is None:
        there, other = ("known", "given") if given is None else ("given", "known")
        raise ValueError(f"got {there} without {other}, expected both: which entries stay, and their values")
    if codec.parts:
        raise ValueError(
            f"got known entries for {name}, of which a piece is given; give the piece as init, and what of "
            "it may change as mask"
        )
    if not codec.rescales:
        raise ValueError(
            f"got known entries for {name}, whose network sees no entries of samples but what its codec "
            f"{codec.name} makes of them; give a whole sample as init, and what may change as mask"
        )
    asked, told = _tensor(read(known, "known"), "known"), _tensor(read(given, "given"), "given")
    rows = None
    if codec.any_length:
        asked, _ = _lengthened(asked, shape)
        told, rows = _lengthened(told, shape)
    places = _known(asked, shape, count)
    values = _numbers(told, shape, count)
    length = max(len(places), len(values))
    places, values = (v.expand(length, *v.shape[1:]) for v in (places, values))
    holes = codec.holes and values.is_floating_point()
    solid = places & ~values.isnan() if holes else places
    if values.is_floating_point():
        _check_finite(values, solid)
    values = torch.where(places, values, torch.zeros((), dtype=values.dtype))
    return Kept(places, _typed(values, shape, codec, solid), rows)


def _lengthened(value: Tensor, shape: Sequence[int]) -> tuple[Tensor, int | None]:
    """Samples, or one, that are shorter than others can be, filled up by 0; and how long they were."""
    axis = value.ndim - len(shape)
    if axis < 0 or not 1 < value.shape[axis] < shape[0]:
        return value, None
    rest = value.new_zeros(*value.shape[:axis], shape[0] - value.shape[axis], *value.shape[axis + 1 :])
    return torch.cat([value, rest], axis), value.shape[axis]


def _tensor(given: Any, name: str) -> Tensor:
    try:
        value = torch.as_tensor(given.detach().cpu() if isinstance(given, Tensor) else np.array(given))
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"got {name} as {type(given).__name__}, expected an array of numbers") from None
    if value.is_complex():
        raise ValueError(f"got complex numbers as {name}, expected real ones")
    return value


def _known(given: Any, shape: Sequence[int], count: int) -> Tensor:
    """(1 or N, *shape) bool."""
    value = _tensor(given, "known")
    if value.dtype != torch.bool:
        if not ((value == 0) | (value == 1)).all():
            raise ValueError("got known with other values than 0 and 1, expected bools; true is known")
        value = value == 1
    one_each = value.ndim == len(shape) + 1 and len(value) == count
    try:
        return value.expand(count, *shape) if one_each else value.expand(tuple(shape))[None]
    except RuntimeError:
        raise ValueError(
            f"got known of shape {tuple(value.shape)}, expected {tuple(shape)}, a shape that broadcasts to "
            f"it, or {(count, *shape)}, one for each seed; true is known"
        ) from None


def _numbers(given: Any, shape: Sequence[int], count: int) -> Tensor:
    """(1 or N, *shape) in the type that they came in."""
    value = inputs.laid_out(_tensor(given, "given"), shape)
    if tuple(value.shape) == tuple(shape):
        return value[None]
    if tuple(value.shape) == (count, *shape):
        return value
    raise ValueError(
        f"got given of shape {tuple(value.shape)}, expected {tuple(shape)}, or {(count, *shape)}, one for "
        "each seed"
    )


def _check_finite(values: Tensor, known: Tensor) -> None:
    if lost := int((known & ~torch.isfinite(values)).sum()):
        raise ValueError(
            f"got {lost} known values that are not finite, expected none; say in known which are there, such "
            "as numpy.isfinite(given)"
        )


def _typed(values: Tensor, shape: Sequence[int], codec: Codec, known: Tensor) -> Tensor:
    """In the type of decoded samples. Raises ``ValueError`` for what it does not hold."""
    if codec.pictures:
        return inputs.numbers(values, pictures=True)
    kind = codec.decode(torch.zeros(1, *shape)).dtype
    made = values.to(kind)
    if kind.is_floating_point:
        _check_finite(made, known)
    elif not torch.equal(made.double(), values.double()):
        raise ValueError(f"got given with values that {codec.name} does not hold, expected whole numbers")
    return made
