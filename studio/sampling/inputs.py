"""What a caller gives to start from or to change: pictures and masks as files, PIL pictures, arrays or
tensors, in the numbers of a model.

Of a mask white may change and black is kept. Where the mask lies in alpha, in a layer of one colour, what is
opaque may change, as in what a brush has painted over; a layer of black and white strokes is read as on
black.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from studio.data.decode import decode
from studio.data.depth import Reading, bits_for
from studio.sampling import array_files


def picture(given: Any, shape: Sequence[int], *, pictures: bool, reading: Reading) -> Tensor:
    """(C, H, W) uint8 of a file, PIL picture, array or tensor; or floats for a model of floats of its own
    (``pictures`` False), which takes no picture. Raises ``ValueError``."""
    given = _arrays(given, "init", "given")
    if not has_sides(shape):
        return _array(given, shape)
    if isinstance(given, str | Path | Image.Image):
        if not pictures:
            raise ValueError(
                "got a picture, but this model works on floats of its own; give them as a tensor, an "
                "array or an .npy file"
            )
        value = torch.from_numpy(_decoded(given, shape[0], reading).copy())
    else:
        value = numbers(laid_out(_tensor(given), shape), pictures=pictures)
    if tuple(value.shape) != tuple(shape):
        raise ValueError(
            f"got a picture of shape {tuple(value.shape)}, expected {tuple(shape)} (C, H, W); resize it first"
        )
    return value


def has_sides(shape: Sequence[int]) -> bool:
    """Whether samples are (C, H, W): pictures, or numbers that lie like them."""
    return len(shape) == 3


def source(given: Any, shape: Sequence[int], *, pictures: bool, reading: Reading) -> Tensor:
    """One sample to start from: as `picture`, or numbers as they are where samples have no sides."""
    if not has_sides(shape):
        return torch.as_tensor(given)
    return picture(given, shape, pictures=pictures, reading=reading)


def _array(given: Any, shape: Sequence[int]) -> Tensor:
    """(*shape) numbers of a sample without sides, in the data's own unit and type. Raises ``ValueError``."""
    if is_picture(given):
        raise ValueError(f"got {given}, expected numbers of shape {tuple(shape)}: an array or an .npy file")
    value = torch.from_numpy(np.array(given.detach().cpu() if isinstance(given, Tensor) else given))
    if tuple(value.shape) != tuple(shape):
        raise ValueError(f"got a sample of shape {tuple(value.shape)}, expected {tuple(shape)}")
    if value.is_floating_point() and not torch.isfinite(value).all():
        raise ValueError("got values that are not finite, expected none; the mask says what is not known")
    return value


def places(given: Any, shape: Sequence[int]) -> Tensor:
    """Bool, True where a sample of this shape without sides may change, of a shape that broadcasts to it; one
    number for each place of all channels, too. Raises ``ValueError``."""
    given = _arrays(given, "mask")
    if is_picture(given):
        raise ValueError(
            f"got {given} as the mask, expected bools of shape {tuple(shape)}: an array or an .npy file"
        )
    value = torch.from_numpy(
        _above_half(np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given))
    )
    try:
        fits = torch.broadcast_shapes(value.shape, tuple(shape)) == tuple(shape)
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"got a mask of {tuple(value.shape)}, expected {tuple(shape)}, or a shape that broadcasts to it; "
            "1 is what may change"
        )
    return value


def is_picture(given: Any) -> bool:
    """Whether something is a file or a PIL picture, which has to be decoded."""
    return isinstance(given, str | Path | Image.Image)


def _arrays(given: Any, *names: str) -> Any:
    """The array of a file that holds some, anything else as it is."""
    return array_files.read(given, *names) if array_files.is_array(given) else given


def _decoded(given: str | Path | Image.Image, channels: int, reading: Reading | None = None) -> np.ndarray:
    """Of a PIL picture that is not read yet its file, which may hold more than Pillow takes from it."""
    if isinstance(given, Image.Image) and getattr(given, "tile", None):
        name = getattr(given, "filename", "")
        if name and Path(name).is_file():
            return decode(name, None, channels, reading, given.tell())
    return decode(given, None, channels, reading)


def _tensor(given: Any) -> Tensor:
    if isinstance(given, Tensor):
        return given
    array = np.ascontiguousarray(given)
    return torch.from_numpy(
        array.astype(np.int64) if array.dtype.kind in "ui" and array.dtype != np.uint8 else array
    )


def laid_out(value: Tensor, shape: Sequence[int]) -> Tensor:
    """(..., H, W, C), or (..., H, W) of one channel, as (..., C, H, W) where it fits no other way."""
    if not has_sides(shape):
        return value
    c, *sides = shape
    lead = value.ndim - 3
    if lead >= 0 and tuple(value.shape[lead:]) == tuple(shape):
        return value
    if lead >= 0 and tuple(value.shape[lead:]) == (*sides, c):
        return value.movedim(-1, -3)
    return (
        value.unsqueeze(-3)
        if c == 1 and value.ndim >= 2 and tuple(value.shape[-2:]) == tuple(sides)
        else value
    )


def numbers(value: Tensor, *, pictures: bool) -> Tensor:
    """uint8 of whole numbers 0..255, of bools, and of floats in 0..1 as ``ToTensor()`` gives them; of a model
    of floats of its own the floats. Raises ``ValueError`` for numbers that mean neither."""
    if value.is_floating_point() and not torch.isfinite(value).all():
        raise ValueError(
            f"got {int((~torch.isfinite(value)).sum())} values that are not finite, expected none; mend them"
        )
    if not pictures:
        if value.dtype in (torch.uint8, torch.bool):
            raise ValueError(
                f"got {str(value.dtype).removeprefix('torch.')}, but this model works on floats of its "
                "own; give what its data had"
            )
        return value.float()
    if value.dtype in (torch.uint8, torch.bool):
        return value if value.dtype == torch.uint8 else value.to(torch.uint8) * 255
    low, high = float(value.min()), float(value.max())
    if low < 0:
        fix = "(x + 1) / 2" if high <= 1 and low >= -1 else "to scale them"
        raise ValueError(
            f"got values from {low:g} to {high:g}, expected uint8 0..255 or floats in 0..1, as ToTensor() "
            f"gives them; try {fix}"
        )
    if value.is_floating_point() and high <= 1:
        return (value.double() * 255).round().to(torch.uint8)
    if high > 255 or value.is_floating_point() and bool((value != value.round()).any()):
        raise ValueError(
            f"got values up to {high:g}, expected uint8 0..255 or floats in 0..1, as ToTensor() gives "
            "them; scale, clip or round them"
        )
    return value.to(torch.uint8)


def mask(given: Any, sides: Sequence[int], picture_sides: Sequence[int] | None = None) -> Tensor:
    """(H, W) bool, True where the picture may change. ``sides``: of what the model works on; a mask of the
    decoded picture's sides frees every latent that it touches. Raises ``ValueError`` for another size, and
    for what is no mask; warns where it frees nothing or all."""
    wanted, seen = tuple(sides), tuple(picture_sides or sides)
    free = _free(_arrays(given, "mask"), (seen, wanted))
    if tuple(free.shape) == seen != wanted:
        factor = (seen[0] // wanted[0], seen[1] // wanted[1])
        free = F.max_pool2d(free[None, None].float(), factor)[0, 0] > 0
    if tuple(free.shape) != wanted:
        raise ValueError(
            f"got a mask of {tuple(free.shape)}, expected {seen} (H, W); white is what may change; "
            "resize it first"
        )
    if not free.any():
        warnings.warn(
            "the mask is black everywhere: nothing may change, and the picture is kept; white is what "
            "may change",
            stacklevel=4,
        )
    elif free.all():
        warnings.warn(
            "the mask is white everywhere: nothing of the picture is kept; black is what is kept",
            stacklevel=4,
        )
    return free


def _free(given: Any, sizes: Sequence[tuple[int, ...]]) -> Tensor:
    """(H, W) bool. ``sizes``: what (H, W) can be, which tells channels from rows."""
    if is_picture(given):
        return torch.from_numpy(_above_half(_shown(_decoded(given, 4))))
    value = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given)
    if value.dtype.kind not in "buif":
        raise ValueError(f"got a mask of {value.dtype}, expected bools, 0 and 1, 0 to 255, or floats in 0..1")
    while value.ndim > 3 and value.shape[0] == 1:
        value = value[0]
    if value.ndim == 3 and value.shape[1:] not in sizes and value.shape[:2] in sizes:
        value = value.transpose(2, 0, 1)
    if value.ndim == 3 and value.shape[0] in (2, 3, 4):
        grey, alpha = (
            value[: 3 if len(value) > 2 else 1],
            value[len(value) - 1 :] if len(value) in (2, 4) else np.ones_like(value[:1]),
        )
        planes = [np.where(_above_half(part), 255, 0).astype(np.uint8) for part in (grey, alpha)]
        value = _shown(np.concatenate([np.broadcast_to(planes[0], (3, *value.shape[1:])), planes[1]]))
    elif value.ndim == 3 and value.shape[0] == 1:
        value = value[0]
    if value.ndim != 2:
        raise ValueError(f"got a mask of {value.shape}, expected (H, W); white is what may change")
    return torch.from_numpy(_above_half(value))


def _shown(array: np.ndarray) -> np.ndarray:
    """(H, W) uint8 of a mask (4, H, W) uint8."""
    grey, alpha = (
        np.asarray(Image.fromarray(np.ascontiguousarray(array[:3].transpose(1, 2, 0))).convert("L")),
        array[3],
    )
    if alpha.min() == 255 or not alpha.any():
        return grey if alpha.any() else alpha
    drawn = grey[alpha > 0]
    if int(drawn.max()) - int(drawn.min()) <= 8:  # one colour: the mask is the alpha
        return alpha
    if np.mean((drawn > 8) & (drawn < 247)) > 0.1:
        raise ValueError(
            "got a mask that is a picture with transparency, expected black and white, or one colour "
            "whose alpha is the mask; "
            "save what may change as white"
        )
    return (grey.astype(np.int64) * alpha // 255).astype(np.uint8)


def _above_half(value: np.ndarray) -> np.ndarray:
    """Of bools, of 0 and 1, of whole numbers up to 255 or 65535, and of floats in 0..1."""
    if value.dtype.kind == "b" or value.size == 0:
        return value.astype(bool)
    low, high = value.min(), value.max()
    if not np.isfinite(value).all() or low < 0 or high > (255 if value.dtype.kind == "f" else 65535):
        raise ValueError(
            f"got a mask with values from {low:g} to {high:g}, expected bools, 0 and 1, 0 to 255, or "
            "floats in 0..1"
        )
    return value > (0.5 if high <= 1 else (2 ** bits_for(float(high)) - 1) / 2)
