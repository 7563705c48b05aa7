"""Samples that are no pictures are kept exactly, with pictures beside them that only show them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import dit_config

import studio
from studio.data import Arrays, Data
from studio.model.model import Model
from studio.runtime.recipes import read_recipe
from studio.tasks import build_task


@pytest.fixture(scope="module", params=[1, 3, 4, 2])
def field_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model of floats about 40 wide, of any number of channels, as latents without a decoder are."""
    values = 40 * np.random.default_rng(0).standard_normal((32, request.param, 8, 8)).astype(np.float32)
    data = Data("fields", "image", values.shape[1:], Arrays(values), codec={"name": "scale", "std": 40.0})
    config: dict[str, Any] = {**dit_config(Path("none"), steps=2, preview=True), "data": {}}
    config["sample"] = {"sampler": "ab2", "num_steps": 2, "guidance": ""}
    return studio.train(config, data=data, out=tmp_path_factory.mktemp("run") / "field", quiet=True).load(
        dtype="fp32", device="cpu"
    )


def test_saved_samples_are_the_samples(field_model: Model, tmp_path: Path) -> None:
    samples = field_model.sample(seeds=[3, 5])
    assert samples.values.dtype == torch.float32 and float(samples.values.abs().max()) > 2
    written = samples.save(tmp_path / "out")
    assert [p.name for p in written] == ["samples.npz", "sheet.png", "seed-000003.png", "seed-000005.png"]
    with np.load(tmp_path / "out" / "samples.npz") as file:
        assert np.array_equal(file["arr_0"], samples.values.numpy()) and file["seeds"].tolist() == [3, 5]
    assert read_recipe(tmp_path / "out" / "seed-000005.png")["seed"] == 5
    c = field_model.sample_shape[0]
    with Image.open(tmp_path / "out" / "seed-000003.png") as picture:
        assert (picture.mode, picture.size) == ("RGB" if c == 3 else "L", (8 if c in (1, 3) else 8 * c, 8))
        shown = np.asarray(picture)
    assert np.mean((shown == 0) | (shown == 255)) < 0.1  # shown whole, not clamped
    with pytest.raises(FileExistsError):
        samples.save(tmp_path / "out")


def test_generated_sets_are_the_samples(field_model: Model, tmp_path: Path) -> None:
    from studio.generation import generate

    generate(field_model, tmp_path / "set", num=3, batch=2)
    with np.load(tmp_path / "set" / "samples.npz") as file:
        np.testing.assert_allclose(
            file["arr_0"], field_model.sample(seeds=range(3)).values.numpy(), rtol=1e-4, atol=1e-3
        )
    assert Image.open(tmp_path / "set" / "sheet.png").size[0] > 8


def test_what_stays_within_one_has_the_scale_it_had() -> None:
    values = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    shown = np.asarray(build_task("image", {"name": "scale", "std": 1.0}).pictures(values)[0])
    assert np.array_equal(shown, ((values[0, 0] + 1) * 127.5).round().numpy().astype(np.uint8))
    assert build_task("image", {"name": "pixels"}).one_each and build_task("image", {"name": "vae"}).one_each
