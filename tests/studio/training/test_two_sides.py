"""`studio train images:DIR data.size=[HEIGHT,WIDTH]`, and what is then done with such a run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import dit_config, run_studio, write_pictures

import studio
from studio.data.decode import decode
from studio.generation.translate import read
from studio.training.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = [
    "train.steps=2",
    "train.batch_size=4",
    "train.ema=[]",
    "train.dtype=fp32",
    "backbone.hidden_size=32",
    "backbone.depth=1",
    "backbone.num_heads=2",
    "sample.num_steps=2",
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of pictures of many sides."""
    root, rng = tmp_path_factory.mktemp("two") / "photos", np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for k in range(6):
            sides = rng.integers(20, 60, 2)
            Image.fromarray(rng.integers(0, 256, (*sides, 3), np.uint8)).save(root / name / f"{k}.png")
    return root


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    asked = [*SMALL, "data.size=[16,24]", "train.preview=true"]
    return studio.train(f"images:{photos}", asked, out=tmp_path_factory.mktemp("two") / "run", quiet=True)


def test_a_run_at_two_sides(run: Run) -> None:
    tree = studio.config.load_config(run.folder / "config.yaml").tree()
    assert tree["data"]["size"] == tree["backbone"]["input_size"] == [16, 24]
    model = run.load(weights="raw")
    assert model.info.shape == model.sample_shape == (3, 16, 24)
    made = model.sample(seeds=[0, 1], num_steps=2)
    assert made.values.shape == (2, 3, 16, 24)
    assert [p.size for p in model.task.pictures(made.values)] == [(24, 16)] * 2
    sheet = model.task.sheet(made.values)
    zoom = round(72 / 16)
    assert sheet.size == (2 * (24 * zoom + 4) + 4, 16 * zoom + 8)
    first = np.asarray(sheet)[4 : 4 + 16 * zoom : zoom, 4 : 4 + 24 * zoom : zoom]
    assert np.array_equal(first, made.values[0].permute(1, 2, 0).numpy())
    with Image.open(next(run.folder.glob("checkpoints/*/preview.png"))) as preview:
        assert preview.width > preview.height  # five rows of four


def test_files_and_what_is_given_have_those_sides(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "made"
    studio_sample = ("sample", run.folder, "--seeds", "0-1", "--num-steps", 2, "--dtype", "fp32")
    done = run_studio(*studio_sample, "--out", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    given = out / "seed-000001.png"
    free = np.zeros((16, 24), np.uint8)
    free[:, 16:] = 255
    Image.fromarray(free).save(tmp_path / "mask.png")
    options = ("--init", given, "--mask", tmp_path / "mask.png", "--out", tmp_path / "filled")
    done = run_studio(*studio_sample, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Image.open(given) as before, Image.open(tmp_path / "filled" / "seed-000000.png") as after:
        assert before.size == after.size == (24, 16)
        assert np.array_equal(np.asarray(before)[:, :16], np.asarray(after)[:, :16])
    Image.fromarray(free.T).save(tmp_path / "mask.png")
    done = run_studio(*studio_sample, *options, cwd=tmp_path)
    assert done.returncode != 0 and "got a mask of (24, 16), expected (16, 24)" in done.stderr


def test_a_model_of_two_sides_is_fine_tuned(run: Run, photos: Path, tmp_path: Path) -> None:
    """On its own sides unless others are asked for, to which its positions are stretched."""
    begin = {"start_from": str(run.folder), "quiet": True}
    few = ["train.steps=1", "train.batch_size=4", "train.preview=false"]
    tuned = studio.train(f"images:{photos}", few, out=tmp_path / "tuned", **begin)
    assert tuned.load(weights="raw").info.shape == (3, 16, 24)
    other = studio.train(f"images:{photos}", [*few, "data.size=[24,16]"], out=tmp_path / "other", **begin)
    assert other.load(weights="raw").sample(seeds=[0], num_steps=1).values.shape == (1, 3, 24, 16)
    grey = dit_config(write_pictures(tmp_path / "grey.npz", channels=3), steps=1)
    with pytest.raises(ValueError, match=r"set data.size=\[16,24\], or backbone.input_size=\[16,24\] to"):
        studio.train(grey, out=tmp_path / "grey", **begin)


def test_a_config_says_two_sides(photos: Path, tmp_path: Path) -> None:
    tree = dit_config(photos, steps=1)
    tree["data"] = {"name": "images", "path": str(photos), "size": [8, 12]}
    path = tmp_path / "mine.yaml"
    path.write_text(studio.config.from_tree(tree).yaml())
    assert studio.train(path, out=tmp_path / "run", quiet=True).load(weights="raw").info.shape == (3, 8, 12)
    for size, said in (
        ("[8,13]", "got pictures of 8×13, expected multiples of the patch size 2"),
        ("[8]", r"got data.size=\[8\], expected a whole number of pixels"),
        ("[8,12,3]", r"got data.size=\[8,12,3\], expected a whole number of pixels"),
        ("[8.5,12]", "got 8.5 .* expected int"),
    ):
        with pytest.raises(ValueError, match=said):
            studio.train(path, [f"data.size={size}"], out=tmp_path / "no", quiet=True)
    assert not (tmp_path / "no").exists()


def test_what_is_translated_is_converted_to_both_sides(photos: Path) -> None:
    path = photos / "a" / "0.png"
    assert torch.equal(read(path, (3, 16, 24), True), torch.from_numpy(decode(path, (16, 24))))
    with pytest.raises(ValueError, match="expected 24×16 with 3; pass --resize"):
        read(path, (3, 16, 24), False)
