"""Kinds of condition that are floats of one shape, standardised for the network: fields of numbers, and
vectors of sentences."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from backbones.registry import plain
from studio.data.condition_files import path_of, text_in
from studio.data.conditions import Field
from studio.data.decode import decode
from studio.data.kinds import ArrayKind

MODEL = "all-MiniLM-L6-v2"  # a usual one, for the hint
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class Standardised(ArrayKind):
    """Floats in a unit of their own, less the mean over the spread of all numbers that trained."""

    def fit(self, field: Field, given: Sequence[Any]) -> Field:
        """With mean, spread and range of the numbers. Raises ``ValueError`` where there is none."""
        field = super().fit(field, given)
        rows = [self.datum(field, v).double() for v in given]
        every = torch.cat([r[~r.isnan()] for r in rows]) if rows else torch.zeros(0)
        if not len(every):
            raise ValueError(f"got no value for the condition {field.name!r}, expected at least one")
        std = float(every.std(correction=0))
        reach = (float(every.min()), float(every.max()))
        return replace(field, mean=float(every.mean()), std=std if std > 0 else 1.0, range=reach)

    def seen(self, field: Field, value: Tensor) -> Tensor:
        return ((value.double() - field.mean) / field.std).float()


class FieldKind(Standardised):
    """Arrays of one to three axes, patched as pictures are: (L,), (H, W), (C, H, W) with channels in front,
    or frames (T, C, H, W). ``options``: ``axes``, where that reads otherwise, such as 1 for (C, L) and 3 for
    (T, H, W); and those of the encoder, such as ``patch``. A picture's file is numbers from 0 to 255."""

    def read(self, field: Field, given: Any, files: bool) -> np.ndarray:
        if isinstance(given, str) and Path(given).suffix.lower() in PICTURES and given.startswith("@"):
            given = _picture(path_of(field, given, files), field)
        elif isinstance(given, Image.Image):
            given = _picture(given, field)
        value = super().read(field, given, files)
        return value[None] if field.shape == (1, *value.shape) else value  # a table is one channel

    def fit(self, field: Field, given: Sequence[Any]) -> Field:
        field = super().fit(field, given)
        self.encoder(field)
        return field

    def beyond(self, field: Field, value: Tensor) -> str:
        there = value[~value.isnan()]
        if field.range is None or not ((there < field.range[0]) | (there > field.range[1])).any():
            return ""
        return f"numbers of {field.range[0]:.4g} to {field.range[1]:.4g}"

    def encoder(self, field: Field) -> dict[str, Any]:
        shape, options = list(field.shape), dict(field.options)
        axes = options.pop("axes", {1: 1, 2: 2, 3: 2, 4: 3}.get(len(shape)))
        if axes not in (1, 2, 3) or len(shape) - axes not in (0, 1) or math.prod(shape) == 0:
            raise ValueError(
                f"got {field.name} of shape {field.shape}, expected one to three axes, with channels or "
                "without; say which in options={'axes': 2}"
            )
        if len(shape) == axes:
            return {"encoder": "field", "sides": shape, **options}
        place = 1 if axes == 3 else 0
        return {
            "encoder": "field",
            "sides": [s for i, s in enumerate(shape) if i != place],
            "channels": shape[place],
            "frames": axes == 3,
            **options,
        }


class SentenceKind(Standardised):
    """A vector for each sentence: given as an array, or made of a text by sentence-transformers with the
    model in the folder ``options={"model": FOLDER}``."""

    def read(self, field: Field, given: Any, files: bool) -> np.ndarray:
        if isinstance(given, str) and not given.lstrip().startswith("["):
            if not given.startswith("@") or Path(given).suffix.lower() == ".txt":
                return _sentence(
                    str(field.options.get("model", "")), text_in(field, given, files), field.name
                )
        return super().read(field, given, files)

    def datum(self, field: Field, given: Any) -> Tensor:
        said = plain(given)
        if isinstance(said, str) and said.strip():
            return self.parse(field, _sentence(str(field.options.get("model", "")), said, field.name))
        return self.parse(field, given)

    def hint(self, field: Field) -> str:
        text = "a sentence, or " if field.options.get("model") else ""
        return f"{text}{'×'.join(map(str, field.shape))} numbers as [...] or @FILE.npy"

    def control(self, field: Field) -> str:
        return "text" if field.options.get("model") else super().control(field)

    def encoder(self, field: Field) -> dict[str, Any]:
        return {"encoder": "numbers", "count": math.prod(field.shape)}


def _picture(picture: Any, field: Field) -> np.ndarray:
    """uint8 (C, H, W), or (H, W) where the field has no channels. Raises ``ValueError``."""
    try:
        read = decode(picture, None, field.shape[0] if len(field.shape) == 3 else 1)
    except OSError as error:
        raise ValueError(f"{picture} for {field.name} cannot be read: {error.strerror or error}") from None
    return read[0] if len(field.shape) == 2 else read


@lru_cache(maxsize=2)
def _model(folder: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise ValueError(
            "sentences need sentence-transformers, which is not installed; pip install "
            "'drift-studio[text]', or give vectors, such as @FILE.npy"
        ) from None
    return SentenceTransformer(folder, device="cpu", local_files_only=True)


@lru_cache(maxsize=4096)
def _sentence(folder: str, text: str, name: str) -> np.ndarray:
    if not folder or not Path(folder).expanduser().is_dir():
        model = f"the model {folder!r}" if folder else "no model"
        raise ValueError(
            f"got the sentence {text[:60]!r} for {name} and {model}, expected a "
            f"folder with a model of sentence-transformers, such as {MODEL}, as the field's "
            "options={'model': FOLDER}; or give vectors"
        )
    vector = np.asarray(_model(str(Path(folder).expanduser())).encode(text), dtype=np.float32)
    vector.flags.writeable = False
    return vector
