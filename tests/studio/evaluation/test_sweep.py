"""A grid of settings: every job once, resumable, the same seeds everywhere."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import files_below, run_studio
from torch import Tensor

from studio.codecs.codec import build_codec
from studio.evaluation import evaluate, load_result
from studio.evaluation.sets import of_data
from studio.evaluation.sweep import applied, jobs_of, parse_axis, sweep
from studio.metrics.features import from_callable
from studio.model.model import Model
from studio.tasks import build_task
from studio.training.run import Run

BASE = {
    "guidance": "cfg=2,interval=0.1:0.9,rescale=0.7",
    "sampler": "ddim(eta=0.5)",
    "num_steps": 10,
    "conditions": {},
}


def test_axes_are_read() -> None:
    assert parse_axis("cfg.scale=1,1.5, 2").values == ("1", "1.5", "2")
    assert parse_axis("sampler=ddim(eta=0.5,spacing=leading),ab2").values == (
        "ddim(eta=0.5,spacing=leading)",
        "ab2",
    )
    assert parse_axis("guidance=cfg=2,interval=0.1:0.9;none").values == ("cfg=2,interval=0.1:0.9", "none")
    assert parse_axis("num-steps=1").key == "num_steps"
    for bad in ("cfg.scale", "cfg.scale=", "=1,2", "num_steps=1,,2", "num_steps=5,5"):
        with pytest.raises(ValueError, match="axis"):
            parse_axis(bad)


@pytest.mark.parametrize(
    "key, text, where, expected",
    [
        ("cfg.scale", "3.5", "guidance", "cfg=3.5,interval=0.1:0.9,rescale=0.7"),
        ("cfg.interval", "0.2:0.5", "guidance", "cfg=2,interval=0.2:0.5,rescale=0.7"),
        ("rescale.phi", "0", "guidance", "cfg=2,interval=0.1:0.9,rescale=0"),
        ("guidance", "none", "guidance", ""),
        ("num_steps", "25", "num_steps", 25),
        ("sampler", "heun", "sampler", "heun"),
        ("sampler.eta", "0", "sampler", "ddim(eta=0)"),
        ("sampler.clip", "1", "sampler", "ddim(eta=0.5,clip=1)"),
        ("set.logP", "2.5", "conditions", {"logP": "2.5"}),
    ],
)
def test_one_setting_changes_and_nothing_else(key: str, text: str, where: str, expected: Any) -> None:
    changed = applied(BASE, key, text)
    assert changed[where] == expected and {k: v for k, v in changed.items() if k != where} == {
        k: v for k, v in BASE.items() if k != where
    }


@pytest.mark.parametrize(
    "axes, text",
    [
        (["cfg.scael=1,2"], "scael"),
        (["speed=1,2"], "'speed' to sweep, expected"),
        (["num_steps=2,many"], "num_steps=many"),
        (["num_steps=0,1"], "num_steps=0"),
        (["sampler=ab2,abc"], "abc"),
        (["cfg.scale=1", "cfg.scale=2"], "on two axes"),
        ([], "no axis"),
    ],
)
def test_refusals_come_before_anything_is_written(
    axes: list[str], text: str, picture_model: Model, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=text):
        list(sweep(picture_model, tmp_path / "out", [parse_axis(a) for a in axes], images=2))
    assert not (tmp_path / "out").exists()


def test_a_sweep_of_pictures_and_numbers(picture_model: Model, pictures: Path, tmp_path: Path) -> None:
    def features(values: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(values.float() / 255, 2).flatten(1)

    rough = from_callable(features, "coarse", "fedcba9876543210")
    axes = [parse_axis("cfg.scale=1,3"), parse_axis("num_steps=1,2,4")]
    options: dict[str, Any] = {
        "ref": f"npz:{pictures}",
        "metrics": "fd,pr",
        "features": rough,
        "num": 24,
        "images": 3,
    }
    out = tmp_path / "out"
    steps = sweep(picture_model, out, axes, **options)
    for _ in range(2):
        next(steps)
    steps.close()  # stopped after two of six
    assert len(list((out / "jobs").glob("*.json"))) == 2 and not (out / "sweep.csv").exists()
    kept = files_below(out / "jobs")
    found = list(sweep(picture_model, out, axes, **options))
    assert [(j.settings["cfg.scale"], j.settings["num_steps"]) for j, *_ in found] == [
        (s, n) for s in "13" for n in "124"
    ]
    assert [(done, total) for *_, done, total in found] == [(i, 6) for i in range(1, 7)]
    assert all(files_below(out / "jobs")[name] == data for name, data in kept.items())
    job, result, *_ = found[4]
    alone = evaluate(
        picture_model,
        f"npz:{pictures}",
        features=rough,
        metrics="fd,pr",
        num=24,
        guidance="cfg=3,interval=0.1:0.9",
        num_steps=2,
    )
    assert result is not None and result.values == alone.values and result.name == "cfg.scale=3, num_steps=2"
    with open(out / "sweep.csv", newline="") as handle:
        rows = list(csv.reader(handle))
    assert rows[0] == ["cfg.scale", "num_steps", "fd", "precision", "recall"] and len(rows) == 7
    assert float(rows[5][2]) == alone.values["fd"]
    sheet, cell = Image.open(out / "sheet.png"), Image.open(next((out / "jobs").glob("*.png")))
    assert sheet.width > 2 * cell.width and sheet.height > 3 * cell.height
    assert {p.name for p in out.glob("heat-*.png")} == {
        "heat-fd.png",
        "heat-precision.png",
        "heat-recall.png",
    }
    assert "real against real" in (out / "table.md").read_text()
    # a further value keeps what is there
    more = list(sweep(picture_model, out, [axes[0], parse_axis("num_steps=1,2,4,5")], **options))
    assert len(more) == 8 and len(list((out / "jobs").glob("*.json"))) == 8
    assert all(load_result(p) for p in (out / "jobs").glob("*.json"))
    with pytest.raises(FileExistsError, match="holds something else"):
        list(sweep(picture_model, tmp_path, axes, **options))


def test_a_third_axis_and_points(points_model: Model, tmp_path: Path) -> None:
    axes = [parse_axis(t) for t in ("num_steps=1,4", "sampler=euler,heun", "sampler.spacing=trailing")]
    with pytest.raises(ValueError):
        jobs_of(points_model, axes)
    axes = [parse_axis(t) for t in ("num_steps=1,4", "sampler=euler,heun")]
    found = list(sweep(points_model, tmp_path / "out", axes, ref="points:eight_gaussians", num=200, images=1))
    w2 = np.array([r.values["w2"] for _, r, *_ in found if r is not None]).reshape(2, 2)
    assert w2.shape == (2, 2) and np.isfinite(w2).all()


def test_the_command(picture_run: Run, tmp_path: Path) -> None:
    done = run_studio(
        "sweep",
        picture_run.folder,
        "--out",
        tmp_path / "out",
        "--x",
        "num_steps=1,2",
        "--images",
        "--pictures",
        2,
        "--device",
        "cpu",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (
        "2 of 2" in done.stderr and (tmp_path / "out" / "sheet.png").is_file() and "sweep.csv" in done.stdout
    )
    wrong = run_studio(
        "sweep",
        picture_run.folder,
        "--out",
        tmp_path / "other",
        "--x",
        "num_stps=1,2",
        "--images",
        cwd=tmp_path,
    )
    assert wrong.returncode == 2 and "num_steps" in wrong.stderr and "Traceback" not in wrong.stderr


def test_without_a_reference_it_is_the_training_data(points_model: Model, tmp_path: Path) -> None:
    found = list(sweep(points_model, tmp_path / "out", [parse_axis("num_steps=1,4")], num=200))
    data = points_model.config.data
    alone = evaluate(points_model, of_data(data, str(data["name"])), num=200, num_steps=4)
    assert found[1][1] is not None and found[1][1].values == alone.values
    lost = replace(
        points_model,
        config=replace(points_model.config, data={"name": "npz", "path": str(tmp_path / "gone.npz")}),
    )
    with pytest.raises(ValueError, match="gone.npz.*give another with --ref"):
        list(sweep(lost, tmp_path / "other", [parse_axis("num_steps=1,4")], num=200))


def test_arrays_of_one_s_own_are_refused_and_never_called_pictures(
    picture_model: Model, tmp_path: Path
) -> None:
    """What is not flat was taken for pictures, whatever the model makes."""
    codec = replace(picture_model.info, codec={"name": "scale", "std": 1.0})
    spec = codec.codec
    arrays = replace(picture_model, info=codec, codec=build_codec(spec), task=build_task(codec.task, spec))
    for act in (
        lambda: list(sweep(arrays, tmp_path / "out", [parse_axis("num_steps=1,2")], num=4)),
        lambda: evaluate(arrays, "fashion-mnist", num=4),
    ):
        with pytest.raises(ValueError, match="arrays of .*for which there are no measures"):
            act()
    assert not (tmp_path / "out").exists()
    # to look at them needs no measure
    shown = list(sweep(arrays, tmp_path / "shown", [parse_axis("num_steps=1,2")], images=2))
    assert len(shown) == 2 and (tmp_path / "shown" / "sheet.png").is_file()


def test_a_reference_of_another_kind_is_refused_before_anything_is_made(
    points_model: Model, picture_model: Model, tmp_path: Path
) -> None:
    axes = [parse_axis("num_steps=1,2")]
    with pytest.raises(ValueError, match="got a reference of image for a model of points"):
        list(sweep(points_model, tmp_path / "a", axes, ref="fashion-mnist@held_out"))
    with pytest.raises(ValueError, match="got features=lenet for points"):
        list(sweep(points_model, tmp_path / "a", axes, features="lenet"))
    with pytest.raises(ValueError, match="'fd' for points"):
        list(sweep(points_model, tmp_path / "a", axes, metrics="fd"))
    with pytest.raises(ValueError, match="got a reference of points for a model of image"):
        list(sweep(picture_model, tmp_path / "a", axes, ref="points:moons", num=4))
    with pytest.raises(ValueError, match="resize it first"):
        list(sweep(picture_model, tmp_path / "a", axes, ref="fashion-mnist", num=4))
    assert not (tmp_path / "a").exists()
