"""Every picture carries what made it, and the command in it makes it again."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import run_studio

from studio.cli.info import describe
from studio.model.model import Model
from studio.runtime.recipes import read_recipe
from studio.sampling.commands import command_of
from studio.training.run import Run

KEYS = {
    "model",
    "model_hash",
    "weights",
    "num_steps",
    "sampler",
    "guidance",
    "dtype",
    "studio",
    "torch",
    "seed",
    "label",
    "class",
}


def pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def run_again(recipe: dict[str, Any], out: Path) -> Path:
    """The recipe's command as a shell would run it, into ``out``."""
    words = shlex.split(command_of(recipe))
    assert words[:2] == ["studio", "sample"] and words[words.index("--out") + 1] == "again"
    words[words.index("--out") + 1] = str(out)
    done = run_studio(*words[1:], "--threads", "1", cwd=out.parent)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def pictures_saved(picture_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of a stochastic, guided, deterministic run."""
    out = tmp_path_factory.mktemp("samples")
    samples = picture_model.sample(
        seeds=[4, 9, 2, 7, 0, 4],
        labels=[1, 0, -1, 3, 2, 2],
        num_steps=5,
        sampler="ddim(eta=0.5)",
        guidance="cfg=2.5,interval=0:0.8",
        deterministic=True,
    )
    written = samples.save(out)
    assert [p.name for p in written] == [
        "seed-000004-class-1.png",
        "seed-000009.png",
        "seed-000002.png",
        "seed-000007.png",
        "seed-000000.png",
        "seed-000004-class-2.png",
    ]
    for path, value in zip(written, samples.values):
        assert np.array_equal(pixels(path), value[0].numpy().astype(int))
    return out


def test_recipes_are_complete(pictures_saved: Path, picture_model: Model) -> None:
    recipe = read_recipe(pictures_saved / "seed-000007.png")
    assert set(recipe) == KEYS | {"deterministic"}
    assert (recipe["seed"], recipe["label"], recipe["class"], recipe["num_steps"]) == (7, 3, "wedge", 5)
    assert (recipe["sampler"], recipe["guidance"], recipe["dtype"]) == (
        "ddim(eta=0.5)",
        "cfg=2.5,interval=0:0.8",
        "fp32",
    )
    assert (recipe["model"], recipe["model_hash"], recipe["weights"]) == (
        picture_model.name,
        picture_model.hash,
        "ema-0.99",
    )
    assert read_recipe(pictures_saved / "seed-000002.png")["class"] == "none"
    listed = json.loads((pictures_saved / "recipe.json").read_text())
    assert listed[3] == recipe and [r["seed"] for r in listed] == [4, 9, 2, 7, 0, 4]
    sheet = read_recipe(pictures_saved / "grid.png")
    assert (sheet["seed"], sheet["label"]) == ([4, 9, 2, 7, 0, 4], [1, 0, -1, 3, 2, 2])


def test_the_command_in_a_picture_makes_it_again(pictures_saved: Path, tmp_path: Path) -> None:
    for name in ("seed-000007.png", "seed-000002.png"):
        out = run_again(read_recipe(pictures_saved / name), tmp_path / name.removesuffix(".png"))
        assert np.array_equal(pixels(out / name), pixels(pictures_saved / name))
        again = read_recipe(out / name)
        assert again == read_recipe(pictures_saved / name)


def test_the_command_in_a_sheet_makes_all_of_it(pictures_saved: Path, tmp_path: Path) -> None:
    out = run_again(read_recipe(pictures_saved / "grid.png"), tmp_path / "all")
    for path in pictures_saved.glob("*.png"):
        assert np.array_equal(pixels(out / path.name), pixels(path)), path.name


def test_what_info_says_of_pictures_and_folders(pictures_saved: Path, tmp_path: Path) -> None:
    one, folder = describe(str(pictures_saved / "seed-000007.png")), describe(str(pictures_saved))
    assert one["command"] == command_of(read_recipe(pictures_saved / "seed-000007.png")) and one["seed"] == 7
    assert (
        folder["samples"] == 6
        and "--seeds 4,9,2,7,0,4 --labels dot,bar,none,wedge,ring,ring" in folder["command"]
    )
    Image.new("L", (4, 4)).save(tmp_path / "plain.png")
    with pytest.raises(ValueError, match="carries no recipe of this studio"):
        read_recipe(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match="not a readable picture"):
        read_recipe(tmp_path / "text.png")


def test_a_picture_made_from_a_picture_names_it(
    picture_model: Model, pictures_saved: Path, tmp_path: Path
) -> None:
    """Through Python as through the command line, with names that a shell would break."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    init, mask = folder / "init.png", folder / "it's a mask.png"
    init.write_bytes((pictures_saved / "seed-000009.png").read_bytes())
    Image.fromarray((np.arange(64).reshape(8, 8) % 3 == 0).astype(np.uint8) * 255).save(mask)
    options = {
        "seeds": [3],
        "labels": "ring",
        "num_steps": 4,
        "init": init,
        "mask": mask,
        "strength": 0.75,
        "deterministic": True,
    }
    (path,) = picture_model.sample(**options).save(tmp_path / "first")
    recipe = read_recipe(path)
    assert (recipe["init"], recipe["mask"], recipe["strength"]) == (str(init), str(mask), 0.75)
    out = run_again(recipe, tmp_path / "second")
    assert np.array_equal(pixels(out / path.name), pixels(path))
    kept = np.asarray(Image.open(mask)) < 128
    assert np.array_equal(pixels(path)[kept], pixels(init)[kept]) and not np.array_equal(
        pixels(path), pixels(init)
    )


def test_commands_quote_and_name() -> None:
    recipe: dict[str, Any] = {
        "model": "runs/my model@3",
        "seed": 5,
        "label": 1,
        "class": "2",
        "conditions": {"ph": 7.25},
        "num_steps": 9,
        "sampler": "heun",
        "guidance": "",
        "weights": "raw",
        "dtype": "bf16",
    }
    words = shlex.split(command_of(recipe))
    # the class's name, which goes before its number
    assert words[2] == "runs/my model@3" and words[words.index("--labels") + 1] == "2"
    assert words[words.index("--set") + 1] == "ph=7.25" and words[words.index("--guidance") + 1] == ""
    commas = {**recipe, "class": "cats, dogs"}
    # the whole text is a name
    assert shlex.split(command_of(commas))[words.index("--labels") + 1] == "cats, dogs"
    assert "--labels" not in command_of({k: v for k, v in recipe.items() if k not in ("label", "class")})


def test_points_are_saved_as_numbers(points_run: Run, tmp_path: Path) -> None:
    done = run_studio(
        "sample",
        points_run.folder,
        "--out",
        tmp_path / "dots",
        "--seeds",
        "3,1",
        "--dtype",
        "fp32",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "dots" / "samples.npz") as file:
        assert file["seeds"].tolist() == [3, 1] and file["arr_0"].shape == (2, 2)
    assert read_recipe(tmp_path / "dots" / "grid.png")["seed"] == [3, 1]
