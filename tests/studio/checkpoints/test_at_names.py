"""Folders whose names hold an @, which elsewhere comes before a step or a part of a data set."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import studio
from studio.checkpoints.find import locate
from studio.cli.info import describe
from studio.evaluation.sets import is_data, open_set
from studio.model.export import export
from studio.training.run import Run

NAMES = ["photos@v1", "me@host/runs/a", "run@20", "@", "a@b@c", "20@"]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_in_such_a_folder(
    name: str, points_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(points_run.folder, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for text in (name, str(run), f"./{name}"):
        assert locate(text) == (Path(text), None)
        assert locate(f"{text}@20") == (Path(text), 20)
    assert studio.load(f"{name}@20", device="cpu").name == f"{name}@20"
    model = studio.load(name, device="cpu")
    assert model.name == f"{name}@40" and studio.load(model.name, device="cpu").hash == model.hash
    assert describe(name)["step"] == 40
    assert locate(export(f"{run}@20", tmp_path / "flat" / name)) == (tmp_path / "flat" / name, None)
    with pytest.raises(ValueError, match=r"got model .*@twenty.*, expected .*@step with a whole number"):
        locate(f"{name}@twenty")
    with pytest.raises(ValueError, match="no checkpoint at step 7"):
        studio.load(f"{name}@7")


def test_a_run_named_like_a_step_of_another(points_run: Run, tmp_path: Path) -> None:
    """What is there by its whole name is meant."""
    shutil.copytree(points_run.folder, tmp_path / "run")
    shutil.copytree(points_run.folder, tmp_path / "run@20")
    assert locate(tmp_path / "run@20") == (tmp_path / "run@20", None)
    assert locate(tmp_path / "run@40") == (tmp_path / "run", 40)


def test_fine_tuning_and_going_on_from_such_a_base(points_run: Run, tmp_path: Path) -> None:
    base = shutil.copytree(points_run.folder, tmp_path / "base@home")
    tree = studio.load(base).config.tree() | {"train": {"steps": 2, "preview": False}}
    run = studio.train(tree, out=tmp_path / "tuned@1", start_from=f"{base}@20", quiet=True)
    rest = studio.train(
        tree, ["train.steps=3"], out=run.folder, start_from=f"{base}@20", resume=True, quiet=True
    )
    assert rest.step == 3 and rest.load(device="cpu").info.base["model"] == f"{base.resolve()}@20"
    with pytest.raises(ValueError, match="began from"):
        studio.train(tree, out=run.folder, start_from=f"{base}@40", resume=True, quiet=True)


def test_data_in_such_a_folder(tmp_path: Path) -> None:
    place = tmp_path / "me@host" / "held_out"
    for name in ("cat", "dog"):
        (place / name).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(np.full((4, 4), 10 * i, np.uint8)).save(place / name / f"{i}.png")
    text = f"images:{place}"
    assert is_data(text) and len(open_set(text)) == 40
    assert len(open_set(f"{text}@train")) + len(open_set(f"{text}@held_out")) == 40
    with pytest.raises(ValueError, match="@train or @held_out"):
        open_set(f"{text}@valid")
    os.rename(place, tmp_path / "me@train")
    assert len(open_set(f"images:{tmp_path / 'me@train'}")) == 40
