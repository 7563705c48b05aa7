"""A reference of picture files is read as the training pictures of the model that it judges were: one depth
for the folder, the same background."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.data.depth import Reading
from studio.evaluation.sets import open_set


def deep(folder: Path) -> Path:
    """Twelve-bit greys in files of sixteen, one of which is dark."""
    folder.mkdir()
    for name, top in (("bright", 4095), ("dark", 100)):
        Image.fromarray(np.full((4, 4), top, dtype=np.uint16)).save(folder / f"{name}.png")
    return folder


def test_a_folder_has_one_depth(tmp_path: Path) -> None:
    bright, dark = open_set(deep(tmp_path / "deep")).values[:]
    assert bright.max() == 255 and dark.max() == round(100 / 4095 * 255)


@pytest.mark.parametrize("name", ["{}", "images:{}"])
def test_what_the_model_recorded_goes_first(tmp_path: Path, name: str) -> None:
    folder = deep(tmp_path / "deep")
    bright, _ = open_set(name.format(folder), Reading(bits=16)).values[:]
    assert bright.max() == round(4095 / 65535 * 255)
    see_through = tmp_path / "clear"
    see_through.mkdir()
    for i in range(2):
        Image.new("LA", (4, 4), (200, 0)).save(see_through / f"{i}.png")
    for background, expected in (((0, 0, 0), 0), ((255, 255, 255), 255)):
        assert (
            np.asarray(open_set(name.format(see_through), Reading(background)).values[:]) == expected
        ).all()
