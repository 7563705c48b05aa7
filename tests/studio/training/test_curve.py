"""What a run leaves to look at: metrics however short it is, and a curve beside them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import metrics, points_config

import studio
from studio.training.loss_curve import draw, marks, points

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_run_shorter_than_an_interval_has_metrics(tmp_path: Path) -> None:
    heard: list[dict] = []
    run = studio.train(
        points_config(steps=5, log_every=50), out=tmp_path / "run", quiet=True, on_log=heard.append
    )
    assert run.metrics["step"] == 5 and np.isfinite(run.metrics["loss"]) and run.metrics["samples_per_s"] > 0
    assert [line["step"] for line in metrics(run.folder)] == [5] == [line["step"] for line in heard]
    assert studio.train(points_config(steps=5, log_every=0), out=tmp_path / "off", quiet=True).metrics == {}


def test_made_longer_its_next_line_is_as_if_it_had_been_so_long(tmp_path: Path) -> None:
    config = points_config(steps=8, log_every=6, schedule="constant", warmup=0)
    whole = studio.train(config, out=tmp_path / "whole", quiet=True)
    studio.train(config, ["train.steps=5"], out=tmp_path / "part", quiet=True)
    part = studio.train(config, ["train.steps=8"], out=tmp_path / "part", resume=True, quiet=True)
    assert (
        [e for e in metrics(part.folder) if e["step"] == 6]
        == [e for e in metrics(whole.folder) if e["step"] == 6]
        != []
    )


def test_the_curve_lies_beside_the_metrics(tmp_path: Path) -> None:
    run = studio.train(points_config(steps=12, log_every=3, eval_every=6), out=tmp_path / "run", quiet=True)
    with Image.open(run.folder / "curve.png") as picture:
        assert picture.size == (600, 340) and len(picture.convert("L").getcolors()) > 2
    found = points(run.folder)
    assert found["loss"][0] == [3, 6, 9, 12] and found["held_out"][0] == [6, 12]
    assert found["loss"][1] == [e["loss"] for e in metrics(run.folder) if "loss" in e]
    before = (run.folder / "curve.png").read_bytes()
    lines = (run.folder / "metrics.jsonl").read_text()
    (run.folder / "metrics.jsonl").write_text(
        lines + json.dumps({"step": 13, "loss": 9.0, "held_out": None}) + '\n{"step": 14, "lo'
    )
    assert (
        draw(run.folder)
        and (run.folder / "curve.png").read_bytes() != before
        and points(run.folder)["loss"][0][-1] == 13
    )
    studio.train(points_config(steps=2, log_every=0), out=run.folder, overwrite=True, quiet=True)
    assert not (run.folder / "curve.png").exists()  # nothing was logged, and the old run's is gone


@pytest.mark.parametrize("low, high", [(0.58, 1.7), (0.101, 0.104), (0.5, 18.0), (0.5, 2000.0), (1e-4, 3.0)])
def test_a_handful_of_numbers_stands_at_the_axis(low: float, high: float) -> None:
    """Also where the losses of a run lie within one decade."""
    shown = [v for v in marks(low, high).tick_values(low, high) if low <= v <= high]
    assert 3 <= len(shown) <= 7, shown
