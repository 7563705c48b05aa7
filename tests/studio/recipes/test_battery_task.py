"""What is shown of predictions, and what the bundled model foretells."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import studio
import studio.tasks
from studio.evaluation.sets import SampleSet
from studio.recipes.battery import cells as law
from studio.recipes.battery.measures import passed
from studio.recipes.battery.predicting import judged, kept_to_the_bit
from studio.recipes.battery.simple import features, gaussian_process, ridge, widened
from studio.recipes.battery.synthesis import gain, likeness, taught
from studio.recipes.battery.task import known_points
from studio.tasks.views import Seen


def test_views_of_two_cells(tmp_path: Path) -> None:
    """A picture, and a table with what was known, told from what all samples of a cell share."""
    curves = law.simulate(24, seed=1)["curve"]
    curves[:12, :21] = curves[0, :21]
    recipes = [{"seed": i, "fields": {"matrix": "a" if i < 12 else "b"}} for i in range(24)]
    nobody: Any = None
    seen = Seen(torch.from_numpy(curves), recipes, nobody)
    assert (
        known_points(curves[:12]) == 21 and known_points(curves[12:]) == 1 and known_points(curves[:1]) == 0
    )
    task = studio.tasks.build("battery")
    for view in task.views((256,))[:2]:
        assert view.draw is not None
        view.draw(tmp_path / view.file, seen)
    with Image.open(tmp_path / "sheet.prediction.png") as picture:
        assert picture.width > picture.height > 100
    with open(tmp_path / "sheet.life.csv") as handle:
        rows = list(csv.DictReader(handle))
    assert [(r["cell"], r["samples"], r["known points"]) for r in rows] == [
        ("cell 1", "12", "21"),
        ("cell 2", "12", "1"),
    ]
    assert float(rows[1]["end of life"]) == pytest.approx(np.median(law.end_of_life(curves[12:])), abs=0.5)
    assert float(rows[1]["5 %"]) < float(rows[1]["end of life"]) < float(rows[1]["95 %"])


def test_tasks_are_there_after_studio_is() -> None:
    assert studio.__getattr__("tasks") is studio.tasks and studio.tasks.build("battery").name == "battery"


def test_measures_of_sets_see_a_shift_of_lives() -> None:
    task = studio.tasks.build("battery")
    a, b = (SampleSet(str(s), law.simulate(150, seed=s)["curve"], task="battery") for s in (1, 2))
    later = SampleSet("later", np.pad(a.values, ((0, 0), (20, 0)), mode="edge")[:, :256], task="battery")
    for name in ("curves", "steps", "end_of_life"):
        measure = task.measures[name]
        assert measure(a, later) > measure(a, b) >= 0, name
    shifted, like = (task.measures["likeness"](samples, a) for samples in (later, b))
    assert shifted["frechet"] > like["frechet"] >= 0
    for name in ("precision", "recall"):
        assert 0 <= shifted[name] < like[name] <= 1, name
    assert task.misfit(a.values) == "" and "256" in task.misfit(a.values[:, :9])


def test_balls_and_moments_of_curves_are_those_of_their_numbers() -> None:
    """Of half of the real curves, each there twice, all lie in a ball, and real ones only near a copy; of
    shifted ones the Fréchet distance is the shift."""
    real = law.simulate(80, seed=4)["curve"].astype(np.float64)
    assert likeness(real, real) == pytest.approx({"precision": 1, "recall": 1, "frechet": 0}, abs=1e-6)
    assert likeness(real + 3, real)["frechet"] == pytest.approx(9 * 32, rel=1e-6)
    few = likeness(np.repeat(real[:20], 4, 0), real)
    assert few["precision"] == 1 and few["recall"] == 0.25  # a copy's third neighbour is a copy
    with pytest.raises(ValueError, match="got 20 samples for features of 32 dimensions"):
        likeness(real[:20], real)


def test_what_learns_from_made_cells() -> None:
    """Made ones of the law help where real ones are few; those of another law do harm."""
    rng = np.random.default_rng(0)

    def drawn(count: int, slope: float) -> tuple[np.ndarray, np.ndarray]:
        x = rng.standard_normal((count, 5))
        return x, np.exp(6 + slope * x[:, 0] + 0.1 * rng.standard_normal(count))

    few, many, other, test = drawn(8, 0.5), drawn(300, 0.5), drawn(300, -0.5), drawn(300, 0.5)
    good, bad = gain(few, many, test), gain(few, other, test)
    assert good["gain"] > 0.1 and bad["gain"] < -1 and good["made"] < good["real"] == bad["real"]
    assert good["gain"] == 1 - good["both"] / good["real"]
    sets = [law.simulate(n, seed=n)["curve"] for n in (150, 60)]
    found = taught(*sets)
    assert found["taught"] < 0.8 * law.end_of_life(sets[1]).std() and abs(found["taught_gain"]) < 0.5


def test_simple_predictors_find_what_is_linear() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 5))
    lives = np.exp(6 + 0.3 * x[:, 0] - 0.2 * x[:, 3])
    np.testing.assert_allclose(ridge(x[:60], lives[:60], x[60:]), lives[60:], rtol=0.02)
    noisy = lives * np.exp(0.1 * rng.standard_normal(80))
    mean, deviation = gaussian_process(x[:60], noisy[:60], x[60:])
    assert np.sqrt(np.square(mean - np.log(lives[60:])).mean()) < 0.1 and (0.05 < deviation).all()
    matrices = np.stack([np.full((20, 50), np.nan), np.outer(np.arange(20), np.linspace(-0.1, 0, 50))])
    found = features(matrices)
    assert np.isnan(found[0]).all() and np.isfinite(found[1]).all()
    assert np.isfinite(ridge(np.concatenate([features(matrices), x]), np.append(lives, [9, 9]), x)).all()
    y = rng.standard_normal(999)
    wide = widened(np.zeros(999), np.zeros(999), y)
    assert np.mean(np.abs(y) <= wide) == pytest.approx(0.9, abs=0.002)


@pytest.fixture(scope="module")
def model() -> Any:
    return studio.load("battery", device="cpu")


def test_the_bundled_model_foretells_lives(model: Any) -> None:
    """Few cells and samples: the bars stand in `benchmarks.battery`."""
    assert model.config.sample.guidance == "" and model.denoiser.known_trained
    cells = law.simulate(24, seed=77)
    found, made = judged(model, cells, 8, num_steps=8)
    assert found["rank_correlation"] > 0.75 and found["rmse_share"] < 0.6
    known, made = judged(model, {k: v[:3] for k, v in cells.items()}, 4, points=31, num_steps=4)
    assert kept_to_the_bit(made, cells["curve"][:3], 31) and made.shape == (3, 4, 256)


@pytest.mark.slow
def test_the_bundled_model_meets_its_bars(model: Any) -> None:
    cells = law.simulate(200, seed=12345)
    found, _ = judged(model, cells, 32)
    permuted, _ = judged(model, cells | {"matrix": np.roll(cells["matrix"], 1, axis=0)}, 32)
    assert all(passed(found, permuted).values()), (found, permuted)
