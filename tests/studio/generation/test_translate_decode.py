"""Pictures that are translated are read as the model's own were, and what was done to them is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import dit_config

import studio
from studio.data import Arrays, Data
from studio.generation.translate import read, translate
from studio.model.model import Model

GREY = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A bridge between grey pictures that were read on grey 100, in 12 bits."""
    values = np.random.default_rng(1).integers(0, 256, (16, 1, 8, 8), dtype=np.uint8)
    data = Data(
        "pairs",
        "image",
        (1, 8, 8),
        Arrays(values),
        source=Arrays(255 - values),
        source_name="negatives",
        paired=True,
        decoder=2,
        background=(100, 100, 100),
        bits=12,
    )
    config: dict[str, Any] = dit_config(Path("none"), steps=2)
    config |= {
        "objective": {
            "path": "i2sb",
            "parameterization": {"name": "displacement", "cond_source": True},
            "coupling": "paired",
        }
    }
    config |= {"sample": {"num_steps": 2, "guidance": "", "sampler": "bridge"}, "data": {}}
    return studio.train(config, data=data, out=tmp_path_factory.mktemp("run") / "bridge", quiet=True).load(
        dtype="fp32", device="cpu"
    )


def test_a_run_records_how_its_pictures_were_read(bridge: Model) -> None:
    assert (bridge.info.decoder, tuple(bridge.info.background), bridge.info.bits) == (2, (100, 100, 100), 12)


def test_files_are_read_as_the_data_was(bridge: Model, tmp_path: Path) -> None:
    alpha = np.where(np.arange(8) < 4, 255, 0).astype(np.uint8)[None].repeat(8, 0)
    Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(alpha))).save(tmp_path / "clear.png")
    Image.fromarray(GREY.astype(np.uint16) * 16).save(tmp_path / "deep.png")
    turned = Image.fromarray(GREY)
    exif = turned.getexif()
    exif[0x0112] = 3
    turned.save(tmp_path / "turned.png", exif=exif)
    wanted = {
        "clear.png": np.where(alpha > 0, GREY, 100),
        "deep.png": np.round(GREY.astype(float) * 16 * 255 / 4095),
        "turned.png": GREY[::-1, ::-1],
    }
    for name, array in wanted.items():
        assert np.array_equal(read(tmp_path / name, (1, 8, 8), False, bridge.reading)[0].numpy(), array), name
    done = translate(bridge, [tmp_path], tmp_path / "out", num_steps=1)
    assert len(done.written) == 3
    assert any("turned as EXIF says (first turned.png)" in note for note in done.notes)
    assert any("background [100, 100, 100]" in note and "data." not in note for note in done.notes)


def test_values_and_files_in_python(bridge: Model, tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    wanted = bridge.translate(torch.from_numpy(GREY)[None, None], num_steps=1).values
    for sources in (
        GREY[None, None] / np.float32(255),
        GREY[None, ..., None],
        [tmp_path / "a.png"],
        [Image.fromarray(GREY)],
    ):
        assert torch.equal(bridge.translate(sources, num_steps=1).values, wanted)
    with pytest.raises(ValueError, match=r"try \(x \+ 1\) / 2"):
        bridge.translate(torch.from_numpy(GREY)[None, None] / 127.5 - 1)
