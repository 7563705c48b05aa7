"""`studio sample --preset`: settings under a name, of the model's and of one's own, and what is typed beside
them counts more."""

import json
from pathlib import Path

import pytest
from tiny import run_studio

from studio.checkpoints.find import card
from studio.jobs.presets import Saved, of_model
from studio.jobs.recipe import Recipe
from studio.model.model import Model
from studio.runtime.recipes import read_recipe


def sampled(model: Model, where: Path, *words: str) -> dict[str, object]:
    """The recipe of what a command makes."""
    line = ("sample", str(model.folder), "--out", where / "made", "--overwrite", "--device", "cpu")
    done = run_studio(*line, *words, cwd=where)
    assert done.returncode == 0, done.stderr
    return read_recipe(next((where / "made").glob("seed-*.png")))


def test_a_model_s_own(picture_model: Model, tmp_path: Path) -> None:
    name = str(picture_model.folder)
    own, fast, _ = of_model(name, card(name))
    made = sampled(picture_model, tmp_path, "--preset", "fast", "--seeds", "3")
    assert (made["num_steps"], made["seed"]) == (own.settings["num_steps"] // 2, 3)
    assert str(made["sampler"]).startswith(str(fast.settings["sampler"]).partition("(")[0])
    made = sampled(picture_model, tmp_path, "--preset", "fast", "--seeds", "3", "--num-steps", "2")
    assert made["num_steps"] == 2


def test_a_person_s_own(picture_model: Model, tmp_path: Path) -> None:
    """With what it says of class and seeds; found beside what is made, listed, and before the model's."""
    name, saved = str(picture_model.folder), Saved(tmp_path / "outputs")
    asked = Recipe(name, num_steps=3, sampler="heun", guidance="", seeds="5", label="ring", dtype="fp32")
    saved.save("quick look", asked, what=True)
    saved.save("fast", Recipe(name, num_steps=1, sampler="euler"))
    made = sampled(picture_model, tmp_path, "--preset", "quick look")
    wanted = {"num_steps": 3, "guidance": "", "seed": 5, "class": "ring", "dtype": "fp32"}
    assert {k: made[k] for k in wanted} == wanted
    assert sampled(picture_model, tmp_path, "--preset", "quick look", "--seeds", "1")["seed"] == 1
    assert sampled(picture_model, tmp_path, "--preset", "fast", "--seeds", "1")["num_steps"] == 1
    told = json.loads(run_studio("info", name, "--json", cwd=tmp_path).stdout)["presets"]
    assert set(told) == {"its own defaults", "fast", "best", "quick look"} and "1 steps" in told["fast"]
    lines = run_studio("info", name, cwd=tmp_path).stdout
    assert "preset quick look:" in lines and "preset best:" in lines


@pytest.mark.parametrize("name", ("slow", "../x", ""))
def test_one_that_is_not_there_is_refused(picture_model: Model, tmp_path: Path, name: str) -> None:
    line = ("sample", str(picture_model.folder), "--out", tmp_path / "made", "--preset", name)
    done = run_studio(*line, cwd=tmp_path)
    assert done.returncode == 2 and "expected its own defaults, fast, best" in done.stderr
    assert not (tmp_path / "made").exists()
