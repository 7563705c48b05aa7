"""Conditions of other kinds than labels and numbers, from data to samples: they train, resume, are asked for
in Python, on the command line, by a recipe and on the page, and steer what is made."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import points_config, run_studio

import studio
from studio.data import Data, from_arrays
from studio.data.notes import of_data
from studio.jobs.recipe import Recipe, from_recipe
from studio.model.model import Model
from studio.runtime.recipes import NoCommand
from studio.sampling.commands import command_of

SEASONS = ("spring", "autumn, late")
COUNT = 512


def breezes(seed: int = 0) -> Data:
    """Points that lie where the wind blows to, turned about by the season."""
    rng = np.random.default_rng(seed)
    wind = rng.uniform(-1, 1, (COUNT, 2)).astype(np.float32)
    season = rng.integers(0, 2, COUNT)
    values = wind * (1 - 2 * season[:, None]) + 0.05 * rng.standard_normal((COUNT, 2)).astype(np.float32)
    return from_arrays(
        "breezes",
        values.astype(np.float32),
        conditions={"season": ("class", [SEASONS[i] for i in season]), "wind": ("array", wind)},
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> studio.Run:
    config = points_config(steps=200, batch_size=64, preview=True, lr=1e-2)
    config |= {"data": {}, "backbone": {"name": "mlp", "width": 64, "depth": 2}}
    config["objective"]["cond_drop"] = 0.1
    return studio.train(config, data=breezes(), out=tmp_path_factory.mktemp("winds") / "breezes", quiet=True)


@pytest.fixture(scope="module")
def model(run: studio.Run) -> Model:
    return run.load(device="cpu", dtype="fp32")


def test_they_steer(model: Model) -> None:
    winds = [[0.8, 0.1], [-0.5, 0.9], [0.2, -0.8]]
    for season, sign in zip(SEASONS, (1, -1)):
        made = model.sample(seeds=[1, 2, 3], guidance=None, conditions={"season": season, "wind": winds})
        assert torch.allclose(made.values, sign * torch.tensor(winds), atol=0.3), season
    free = model.sample(seeds=range(60), guidance=None, conditions={"wind": [0.9, 0.9]}).values
    assert (free.sum(1) > 1).any() and (free.sum(1) < -1).any()  # a season that is left open is either


def test_the_command_of_a_recipe_makes_the_same(model: Model, tmp_path: Path) -> None:
    np.save(tmp_path / "w=1.npy", np.float32([0.3, -0.7]))
    line = ["sample", str(model.folder), "--seeds", "5", "--set", "season=autumn, late"]
    run_studio(*line, "--set", f"wind=@{tmp_path / 'w=1.npy'}", "--out", str(tmp_path / "one"), cwd=tmp_path)
    recipe = json.loads((tmp_path / "one" / "recipe.json").read_text())[0]
    assert recipe["fields"] == {"season": "autumn, late", "wind": "[0.3,-0.7]"}
    words = re.findall(r"(?:'[^']*'|\S)+", command_of(recipe))  # as a shell reads it: no quote is in a value
    words = [w.replace("'", "") for w in words][1:]
    words[words.index("again")] = str(tmp_path / "two")
    (tmp_path / "w=1.npy").unlink()
    run_studio(*words, cwd=tmp_path)
    one, two = (np.load(tmp_path / n / "samples.npz")["arr_0"] for n in ("one", "two"))
    assert np.array_equal(one, two)


def test_the_page_keeps_them(model: Model) -> None:
    texts = [f.name for f in model.info.fields]
    asked = {"season": "autumn, late", "wind": "[0.25,-0.5]"}
    recipe = model.sample(seeds=[3], conditions=asked).recipes[0]
    settings = from_recipe(recipe, model.name, ())
    settings.check()
    options = settings.options((), texts)
    assert options["conditions"] == asked
    again, _ = model.request(**options, files=False)
    assert again.texts == model.request(seeds=[3], conditions=asked)[0].texts
    assert Recipe("m", conditions="season=spring").options((), texts)["conditions"] == {"season": "spring"}
    with pytest.raises(ValueError, match="files are not read here"):
        model.request(seeds=[0], conditions={"wind": "@/etc/hostname"}, files=False)


def test_a_run_goes_on_with_the_same_and_refuses_others(run: studio.Run, tmp_path: Path) -> None:
    config = {**run.config.tree(), "data": {}}
    config["train"] |= {"steps": 12, "log_every": 5, "preview": False}
    whole = studio.train(config, data=breezes(), out=tmp_path / "whole", quiet=True)
    stop: dict[str, Any] = {"on_log": lambda line: False}
    assert studio.train(config, data=breezes(), out=tmp_path / "half", quiet=True, **stop).step == 5
    half = studio.train(config, data=breezes(), out=tmp_path / "half", resume=True, quiet=True)
    a, b = (r.load(device="cpu").denoiser.net.state_dict() for r in (whole, half))
    assert all(torch.equal(v, b[k]) for k, v in a.items())
    with pytest.raises(ValueError, match="the data differs"):
        studio.train(config, data=breezes(1), out=tmp_path / "half", resume=True, quiet=True)
    other = from_arrays(
        "other", np.zeros((8, 2), np.float32), conditions={"wind": ("array", np.zeros((8, 2)))}
    )
    with pytest.raises(
        ValueError, match="the conditions differ .* number 0 is 'wind .array.', in the run 'season"
    ):
        studio.train(config, data=other, out=tmp_path / "half", resume=True, quiet=True)


def test_sets_pin_them(model: Model, tmp_path: Path) -> None:
    asked = {"season": "spring", "wind": [0.5, 0.5]}
    studio.generate(model, tmp_path / "set", num=5, batch=2, conditions={**asked, "wind": "[0.5,0.5]"})
    with np.load(tmp_path / "set" / "samples.npz") as file:
        expected = model.sample(seeds=range(5), conditions=asked).values.numpy()
        np.testing.assert_allclose(file["arr_0"], expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="fields: it has"):
        studio.generate(model, tmp_path / "set", num=5, conditions={**asked, "wind": "[0.5,0.4]"})


def test_what_is_too_long_for_a_recipe_has_no_command(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.data.conditions.LONGEST", 8)
    made = model.sample(seeds=[0], conditions={"wind": [0.125, 0.5]})
    with pytest.raises(NoCommand, match="wind came as values in Python"):
        command_of(made.recipes[0])
    with pytest.raises(ValueError, match="got values of wind that no recipe keeps"):
        studio.generate(model, tmp_path / "set", num=5, conditions={"wind": [0.125, 0.5]})
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    "conditions, message",
    [
        ({"wind": [1.0]}, r"got wind of shape \(1,\), expected \(2,\)"),
        ({"season": "summer"}, "got class 'summer', expected 0 to 1 or one of"),
        ({"wnd": [1, 2]}, "got condition 'wnd', expected one of season, wind; did you mean 'wind'"),
    ],
)
def test_what_does_not_fit_is_refused(model: Model, conditions: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.request(seeds=[0], conditions=conditions)


def test_they_are_told(model: Model, tmp_path: Path) -> None:
    assert "season: autumn, late, spring; wind: 2 numbers" in repr(model)
    told = run_studio("info", str(model.folder), cwd=tmp_path).stdout
    assert re.search(r"conditions: .*'season': 'autumn, late, spring', 'wind': '2 numbers", told)
    assert "conditions: season, wind" in of_data(breezes())
