"""Emoji in classes: scaled, split by code point, and refused where there are none."""

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio.data import load_data
from studio.data.emoji import base_of

PATH = str(Path(__file__).parents[3] / "data" / "emoji64.npz")


@cache
def of_size(size: int) -> Any:
    return load_data({"name": "emoji-pictures", "path": PATH, "size": size})


@pytest.mark.parametrize("size", [32, *(pytest.param(s, marks=pytest.mark.slow) for s in (16, 64))])
def test_all_of_them_in_ten_classes(size: int) -> None:
    data = of_size(size)
    assert data.shape == (3, size, size) and len(data.classes) == 10 and data.classes[0] == "Activities"
    assert len(data.train) == 3432 and len(data.held_out) == 384  # six are drawn like a trained one
    assert {*data.train.labels.tolist()} | {2} == set(range(10))  # "Component" has skin tones alone


def test_no_code_point_is_on_both_sides() -> None:
    data = of_size(32)
    drawn = {v.tobytes() for v in data.train.values}
    assert not any(v.tobytes() in drawn for v in data.held_out.values)
    with np.load(PATH) as file:
        codes = file["codepoints"]
    assert len({base_of(c) for c in codes}) < len(codes)


def test_a_picture_is_the_drawing() -> None:
    data = of_size(64)
    with np.load(PATH) as file:
        first = file["webp"][: file["offsets"][1]].tobytes()
    drawing = np.asarray(Image.open(io.BytesIO(first)).convert("RGB")).transpose(2, 0, 1)
    both = [*data.train.values, *data.held_out.values]
    assert any(np.array_equal(v, drawing) for v in both)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"path": "nowhere.npz"}, "does not exist"),
        ({"size": 2}, "got size=2, expected pixels a side"),
        ({"size": [16, 24]}, r"got size=\[16,24\], expected pixels a side, from 4: emoji are squares"),
        ({"held_out": 1.0}, "got held_out=1.0"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_data({"name": "emoji-pictures", "path": PATH, **options})
