"""A task given as an object: what a run records of it, how it goes on and is loaded, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from test_own_task import CONFIG, LENGTH, CurveTask, curves
from tiny import checkpoint_differences, points_config

import backbones
import studio
from studio.checkpoints import checkpoint
from studio.tasks.image import ImageTask
from studio.tasks.points import PointsTask

CONFIG = {k: v for k, v in CONFIG.items() if k != "data"}


class Taken(CurveTask):
    name = "image"


class Other(CurveTask):
    name = "other"


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backbones.REGISTRY, "smooth", "test_own_task:Smooth")


def train(out: Path, *overrides: str, data: Any = None, **options: Any) -> studio.Run:
    data = curves() if data is None else data
    return studio.train(CONFIG, list(overrides), data=data, out=out, quiet=True, **options)


def test_a_run_is_shown_goes_on_and_is_loaded_with_it(tmp_path: Path) -> None:
    run = train(tmp_path / "whole", task=CurveTask())
    meta = json.loads((run.folder / "meta.json").read_text())
    assert (meta["task"], meta["shown_by"]) == ("curve", "CurveTask")
    with Image.open(checkpoint.find(run.folder) / "preview.png") as preview:
        assert preview.size == (3, LENGTH)
    run.load(device="cpu").sample(seeds=range(3)).save(tmp_path / "saved")
    assert len((tmp_path / "saved" / "curves.csv").read_text().splitlines()) == 3
    with pytest.raises(ValueError, match=r"a task of its own; .*studio.load\('.*', task=CurveTask\(\)\)"):
        studio.load(run.folder)
    with pytest.raises(ValueError, match="got the task other for .*, which makes curve"):
        studio.load(run.folder, task=Other())
    model = studio.load(run.folder, task=CurveTask(), device="cpu")
    studio.generate(model, tmp_path / "set", num=4, quiet=True)
    assert len((tmp_path / "set" / "curves.csv").read_text().splitlines()) == 4

    half = tmp_path / "half"
    train(half, "train.steps=2", task=CurveTask())
    with pytest.raises(ValueError, match=r"a task of your own \(CurveTask\); pass it again: task=OBJECT"):
        train(half, "train.steps=4", resume=True)
    with pytest.raises(ValueError, match="data differs from that of the run being resumed: got other"):
        train(half, "train.steps=4", resume=True, task=Other())
    again = train(half, "train.steps=4", resume=True, task=CurveTask())
    assert not checkpoint_differences(*(checkpoint.find(r.folder) for r in (run, again)))


def test_items_of_any_shape_may_be_of_it(tmp_path: Path) -> None:
    items = [(torch.linspace(0, 1, LENGTH)[None] + 0.1 * k,) for k in range(12)]
    with pytest.raises(ValueError, match=r"got items of shape \(1, 12\)"):
        train(tmp_path / "no", data=items)
    run = train(tmp_path / "run", data=items, task=CurveTask())
    assert run.load(device="cpu").sample_shape == (1, LENGTH)


def test_one_that_a_registry_has_is_its_name(tmp_path: Path) -> None:
    run = studio.train(points_config(), out=tmp_path / "points", quiet=True, task=PointsTask())
    assert "shown_by" not in json.loads((run.folder / "meta.json").read_text())
    assert studio.load(run.folder).task.name == "points"


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (CurveTask, r"got the class CurveTask as the task, expected an object; try CurveTask\(\)"),
        (Taken(), "got a task of your own called image, as another is called"),
        ("curve", "got str as the task, expected an object"),
        (ImageTask(), "train.reverse=true on image data, expected flip"),
    ],
)
def test_what_is_refused_before_anything_is_written(task: Any, text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=text):
        train(tmp_path / "run", task=task)
    assert not (tmp_path / "run").exists()
