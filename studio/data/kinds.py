"""The kinds of conditions that the studio has; `studio.data.conditions.KINDS` is open to others."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from backbones.registry import plain
from studio.data.condition_files import numbers_in
from studio.data.conditions import Field, Kind
from studio.data.decode import decode
from studio.data.labels import NO_LABEL, labels_text, listed, names_of

CELLS = 64  # of a table, along a side
ARRAYS = (".npy", ".npz", ".json", ".csv", ".txt")


def left_open(given: Any) -> bool:
    """Whether a condition is said to be missing: None or the word."""
    return given is None or (isinstance(given, str) and given.strip().lower() in ("none", ""))


class PlainKind(Kind):
    """What most kinds have in common."""

    packed = any_length = False

    def fit(self, field: Field, given: Sequence[Any]) -> Field:
        return field

    def datum(self, field: Field, given: Any) -> Tensor:
        return self.parse(field, given)

    def seen(self, field: Field, value: Tensor) -> Tensor:
        return value

    def beyond(self, field: Field, value: Tensor) -> str:
        return ""

    def control(self, field: Field) -> str:
        return "text"


class ClassKind(PlainKind):
    """One of ``names``, by its name or number; −1 is none of them."""

    def fit(self, field: Field, given: Sequence[Any]) -> Field:
        """Names found among the values, sorted, where the field brings none. Raises ``ValueError`` for whole
        numbers, which have no names."""
        if field.names:
            return field
        found = {plain(v) for v in given if not left_open(v)}
        if not found or not all(isinstance(v, str) for v in found):
            raise ValueError(
                f"got the condition {field.name!r} of class numbers, expected their names too; say "
                "them in its "
                "field: names=(...)"
            )
        return replace(field, names=tuple(sorted(found)))

    def parse(self, field: Field, given: Any, *, files: bool = True) -> Tensor:
        names = names_of(field.names)
        if given is None:
            return torch.tensor(NO_LABEL)
        found = names.text(given) if isinstance(given, str) else [names.number(plain(given))]
        if len(found) != 1:
            raise ValueError(f"got {len(found)} classes for {field.name}, expected one")
        return torch.tensor(found[0])

    def show(self, field: Field, value: Tensor) -> str:
        text = labels_text([int(value)], field.names)
        return json.dumps([field.names[int(value)]]) if "=" in text else text

    def hint(self, field: Field) -> str:
        return listed(field.names)

    def control(self, field: Field) -> str:
        return "choice"

    def encoder(self, field: Field) -> dict[str, Any]:
        return {"encoder": "class", "num_classes": len(field.names)}


class NumberKind(PlainKind):
    """A number, standardised for the network."""

    packed = True

    def parse(self, field: Field, given: Any, *, files: bool = True) -> Tensor:
        number = plain(given)
        if left_open(number):
            return torch.tensor(math.nan, dtype=torch.float64)
        try:
            value = math.nan if isinstance(number, bool) else float(number)
        except (TypeError, ValueError, OverflowError):
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(
                f"got condition {field.name}={given!r}, expected a number; to leave it open write "
                f"{field.name}=none, or nothing"
            )
        return torch.tensor(value, dtype=torch.float64)

    def show(self, field: Field, value: Tensor) -> str | float:
        return "none" if math.isnan(value) else float(value)

    def seen(self, field: Field, value: Tensor) -> Tensor:
        return ((value - field.mean) / field.std).float().reshape(1)

    def beyond(self, field: Field, value: Tensor) -> str:
        if field.range is None or not (value < field.range[0] or value > field.range[1]):
            return ""
        return f"{field.range[0]:.4g} to {field.range[1]:.4g}"

    def hint(self, field: Field) -> str:
        return "a number" if field.range is None else f"{field.range[0]:.4g} to {field.range[1]:.4g}"


def ragged(given: Any) -> str:
    """The lengths of a list's rows, where they differ; empty where they do not."""
    if not isinstance(given, list | tuple) or not all(isinstance(v, list | tuple) for v in given):
        return ""
    lengths = sorted({len(v) for v in given})
    return " and ".join(map(str, lengths)) if len(lengths) > 1 else ""


class ArrayKind(PlainKind):
    """Floats of one shape, as they are."""

    def fit(self, field: Field, given: Sequence[Any]) -> Field:
        """The shape of the first that is there, where the field brings none."""
        first = next((v for v in given if v is not None), None)
        if field.shape or first is None:
            return field
        return replace(field, shape=tuple(self.read(field, first, True).shape))

    def read(self, field: Field, given: Any, files: bool) -> np.ndarray:
        """Float32 of a text of JSON, a file of numbers (`studio.data.condition_files`), an array or a
        tensor."""
        if isinstance(given, str | Path):
            given = numbers_in(field, str(given), files)
        if getattr(getattr(given, "dtype", None), "kind", "") == "c":
            raise ValueError(f"got complex numbers in {field.name}, expected real ones; try .real or .imag")
        try:
            return np.asarray(
                [np.asarray(v) for v in given]
                if isinstance(given, list | tuple) and any(hasattr(v, "shape") for v in given)
                else given.detach().cpu()
                if isinstance(given, Tensor)
                else given,
                dtype=np.float32,
            )
        except (TypeError, ValueError):
            if lengths := ragged(given):
                raise ValueError(
                    f"got {field.name} with rows of {lengths} numbers, expected as many in each; fill up "
                    "what is missing with null"
                ) from None
            raise ValueError(
                f"got {field.name} of {type(given).__name__}, expected an array or a tensor of numbers "
                "of shape "
                f"{field.shape}, a list of them, or @FILE.npy"
            ) from None

    def parse(self, field: Field, given: Any, *, files: bool = True) -> Tensor:
        if left_open(given):
            return torch.full(field.shape, torch.nan)
        value = self.read(field, given, files)
        if value.shape != field.shape:
            raise ValueError(f"got {field.name} of shape {value.shape}, expected {field.shape}")
        if np.isinf(value).any():
            raise ValueError(f"got infinite numbers in {field.name}, expected finite ones; NaN is missing")
        return torch.from_numpy(np.require(value, requirements=["C", "W"]))

    def show(self, field: Field, value: Tensor) -> str:
        """JSON, each number as short as it can be; a missing one is null."""
        return json.dumps(_listed(value.float().numpy()), separators=(",", ":"))

    def hint(self, field: Field) -> str:
        return f"{'×'.join(map(str, field.shape))} numbers as [[...]], or @FILE.npy"

    def control(self, field: Field) -> str:
        """A table of what has at most two sides and fits on a page."""
        fits = len(field.shape) in (1, 2) and max(field.shape) <= CELLS
        return "table" if fits else "file"

    def encoder(self, field: Field) -> dict[str, Any]:
        return {"encoder": "numbers", "count": math.prod(field.shape)}


class ImageKind(ArrayKind):
    """(C, H, W) floats, of which −1 is black and 1 is white in a picture; also a picture's file, a PIL
    picture, or uint8."""

    def read(self, field: Field, given: Any, files: bool) -> np.ndarray:
        picture = Path(given[1:]).expanduser() if isinstance(given, str) and given[:1] == "@" else given
        if isinstance(picture, Path) and picture.suffix.lower() not in ARRAYS and files:
            if not picture.is_file():
                raise ValueError(f"{picture} for {field.name} is no file; check the path")
            given = decode(picture, None, field.shape[0] if field.shape else None)
        elif isinstance(picture, Image.Image):
            given = decode(picture, None, field.shape[0] if field.shape else None)
        if getattr(given, "dtype", None) in (np.uint8, torch.uint8):
            return np.asarray(given, dtype=np.float32) / 127.5 - 1
        return super().read(field, given, files)

    def hint(self, field: Field) -> str:
        return f"@PICTURE of {'×'.join(map(str, field.shape[1:]))} pixels, or @FILE.npy"

    def encoder(self, field: Field) -> dict[str, Any]:
        return {"encoder": "picture", "channels": field.shape[0]}


def _listed(values: Any) -> Any:
    if getattr(values, "ndim", 0):
        return [_listed(v) for v in values]
    return None if math.isnan(values) else float(str(values))  # of single precision 0.1 is 0.1
