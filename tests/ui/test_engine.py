"""The page's engine: finding and keeping models, running, stopping, saving, and the round trip of every
control through a picture."""

import dataclasses
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio.jobs.recipe import NONE, OWN, Recipe, label_text, parse_conditions, seeds_text, shortened
from studio.jobs.result import Result
from studio.jobs.run import Update
from studio.runtime.recipes import read_recipe
from studio.runtime.signals import Stopped
from studio.sampling.samples import save_png
from ui import restore
from ui.engine import Engine
from ui.jobs import Jobs
from ui.restore import Restored


@pytest.fixture
def engine(shelf: Any, tmp_path: Path) -> Engine:
    return Engine(shelf.roots, tmp_path / "out", device="cpu", dtype="fp32")


def result_of(engine: Engine, settings: Recipe) -> Result:
    *_, last = engine.run(settings, preview=False)
    assert isinstance(last, Result)
    return last


def test_text_of_seeds_and_classes() -> None:
    assert seeds_text([0, 1, 2, 7, 9, 8]) == "0-2,7,9,8" and seeds_text(5) == "5"
    names = ("cat", "dog", "cow")
    assert label_text([0, 1, 2, 0], [0, 1, 2, 3], names) == OWN and label_text([1, 1], [0, 1], names) == "dog"
    assert (
        label_text([2, 0], [0, 1], names) == "2,0"
        and label_text(-1, [4], names) == NONE
        and label_text(None, [4], ()) == OWN
    )
    assert label_text(1, [1], names) == "dog"  # one picture's class is its own, whatever its seed
    assert parse_conditions(" a=1, b = -2.5 ,") == {"a": 1.0, "b": -2.5}
    with pytest.raises(ValueError, match="expected name=number"):
        parse_conditions("a=red")


def test_a_sheet_is_told_in_short() -> None:
    sheet = {"model": "m", "class": "cat", "seed": list(range(1000)), "label": [s % 3 for s in range(1000)]}
    assert shortened(sheet, 3) == {"model": "m", "seed": "0-999"}
    assert shortened({**sheet, "label": [2] * 1000}, 3)["label"] == 2
    assert shortened({"seed": 4, "label": 1, "class": "dog"}, 3) == {"seed": 4, "label": 1, "class": "dog"}


def test_models_are_found_and_the_last_two_are_kept(engine: Engine, shelf: Any) -> None:
    known = engine.cards()
    assert {shelf.pictures, shelf.points} <= set(known)
    assert known[shelf.pictures].classes == ("0", "1", "2") and known[shelf.pictures].step == 4
    first = engine.model(shelf.pictures)
    assert engine.model(shelf.pictures) is first
    engine.model(shelf.pictures, weights="raw")
    assert engine.model(shelf.pictures) is first  # used again, so the newest of two
    engine.model(shelf.points)
    assert engine.model(shelf.pictures) is first
    engine.model(shelf.pictures, weights="raw")
    engine.model(shelf.points)
    assert engine.model(shelf.pictures) is not first


def test_a_run_saves_what_sampling_gives(engine: Engine, shelf: Any) -> None:
    settings = Recipe(
        shelf.pictures, seeds="3,5", label="1", num_steps=4, sampler="euler", guidance="cfg=2.0"
    )
    result = result_of(engine, settings)
    import studio

    expected = studio.load(shelf.pictures, device="cpu", dtype="fp32").sample(
        labels="1", seeds=[3, 5], num_steps=4, sampler="euler", guidance="cfg=2.0"
    )
    assert [p.name for p in result.pictures] == ["seed-000003.png", "seed-000005.png"]
    for path, value, recipe in zip(result.pictures, expected.values, expected.recipes):
        assert np.array_equal(np.asarray(Image.open(path)), value[0].numpy())
        assert read_recipe(path) == recipe
    assert result.folder.parent == engine.out and result.sheet.is_file()
    assert json.loads((result.folder / "recipe.json").read_text()) == list(expected.recipes)
    again = result_of(engine, settings)
    assert again.folder != result.folder and len(list(engine.out.iterdir())) == 2  # nothing is overwritten


def test_updates_count_steps_and_evaluations(engine: Engine, shelf: Any) -> None:
    *updates, last = engine.run(Recipe(shelf.pictures, seeds="0-2", num_steps=5, sampler="heun"), every=0.0)
    assert [u.done for u in updates if isinstance(u, Update)] == [1, 2, 3, 4] and {
        u.total for u in updates if isinstance(u, Update)
    } == {5}
    assert all(isinstance(u, Update) and u.preview is not None for u in updates)
    evaluations = [u.evaluations for u in updates if isinstance(u, Update)]
    assert evaluations == [2, 4, 6, 8] and isinstance(last, Result) and last.evaluations in (9, 10)
    assert not [
        u
        for u in list(engine.run(Recipe(shelf.pictures, seeds="0"), preview=False, every=0.0))[:-1]
        if isinstance(u, Update) and u.preview
    ]


def test_many_seeds_run_in_micro_batches_that_count_together(engine: Engine, shelf: Any) -> None:
    *updates, last = engine.run(
        Recipe(shelf.pictures, seeds="0-69", num_steps=2, sampler="euler"), preview=False, every=0.0
    )
    assert [(u.done, u.total, u.evaluations) for u in updates if isinstance(u, Update)] == [
        (1, 4, 1),
        (2, 4, 2),
        (3, 4, 3),
    ]
    assert (
        isinstance(last, Result)
        and last.evaluations == 4
        and [r["seed"] for r in last.recipes] == list(range(70))
    )
    alone = result_of(engine, Recipe(shelf.pictures, seeds="69", num_steps=2, sampler="euler"))
    assert (
        np.abs(
            np.asarray(Image.open(alone.pictures[0])).astype(int) - np.asarray(Image.open(last.pictures[69]))
        ).max()
        <= 1
    )


def test_stop_ends_the_run_after_the_step_it_is_in(engine: Engine, shelf: Any) -> None:
    flag = threading.Event()
    run = engine.run(Recipe(shelf.pictures, seeds="0-3", num_steps=50, sampler="euler"), flag, every=0.0)
    for _ in range(3):
        update = next(run)
    assert isinstance(update, Update) and update.done == 3
    flag.set()
    with pytest.raises(Stopped, match="after step 3 of 50; nothing was saved"):
        next(run)
    assert not list(engine.out.glob("*"))


def test_points_are_one_plot_and_their_numbers(engine: Engine, shelf: Any) -> None:
    result = result_of(engine, Recipe(shelf.points, seeds="0-99", num_steps=3))
    assert [p.name for p in result.files] == ["samples.npz", "grid.png"] and result.pictures == (
        result.sheet,
    )
    with np.load(result.files[0]) as saved:
        assert saved["arr_0"].shape == (100, 2) and list(saved["seeds"]) == list(range(100))
    restored = restore.restore(result.sheet, engine.shelf())
    assert restored.settings.seeds == "0-99" and restored.notes == ()
    recipe, command = restore.explain(result.sheet, engine.shelf())
    assert recipe["seed"] == "0-99" and "--seeds 0-99 " in command and "--labels" not in command


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "raw"},
        {"label": "2", "seeds": "7"},
        {"label": NONE, "seeds": "7"},
        {"label": "2,0", "seeds": "4,9"},
        {"seeds": "0-4,11"},
        {"num_steps": 3},
        {"sampler": "ddim(eta=0.5)"},
        {"guidance": "cfg=3,interval=0.2:0.8"},
        {"guidance": ""},
        {"dtype": "bf16"},
        {"deterministic": True},
    ],
)
def test_every_control_comes_back_from_a_picture(engine: Engine, shelf: Any, change: dict[str, Any]) -> None:
    base = Recipe(
        shelf.pictures,
        weights="ema-0.9",
        label=OWN,
        seeds="0-2",
        num_steps=2,
        sampler="euler",
        guidance="cfg=1.5",
        dtype="fp32",
    )
    settings = dataclasses.replace(base, **change)
    result = result_of(engine, settings)
    assert restore.restore(result.sheet, engine.shelf()).settings == settings
    one = restore.restore(result.pictures[-1], engine.shelf())
    assert (
        one.notes == ()
        and dataclasses.replace(one.settings, seeds=settings.seeds, label=settings.label) == settings
    )
    again = result_of(engine, one.settings)
    if settings.dtype == "fp32":
        before, after = (
            np.asarray(Image.open(result.pictures[-1])).astype(int),
            np.asarray(Image.open(again.pictures[0])).astype(int),
        )
        assert np.abs(before - after).max() <= 1  # the same picture, alone or among others
    assert read_recipe(again.pictures[0]) == read_recipe(result.pictures[-1])


def altered(engine: Engine, shelf: Any, path: Path, **changes: Any) -> Restored:
    source = result_of(engine, Recipe(shelf.pictures, seeds="1", num_steps=1)).pictures[0]
    save_png(path, Image.open(source), {**read_recipe(source), **changes})
    return restore.restore(path, engine.shelf())


def test_nothing_is_said_of_a_start_that_nobody_gave(engine: Engine, shelf: Any, tmp_path: Path) -> None:
    said = {"model": shelf.pictures, "seeds": "0"}
    assert restore.asked(said, engine.shelf()).notes == ()
    assert altered(engine, shelf, tmp_path / "plain.png").notes == ()
    for change in ({"as_values": ["init"]}, {"as_values": ["known"]}, {"known": "mask.npz"}):
        (note,) = altered(engine, shelf, tmp_path / "begun.png", **change).notes
        assert "started from what the page cannot give" in note


def test_restore_warns_in_plain_words(engine: Engine, shelf: Any, tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "bare.png")
    with pytest.raises(ValueError, match="^bare.png carries no recipe"):
        restore.restore(tmp_path / "bare.png", engine.shelf())
    with pytest.raises(ValueError, match="the model 'nowhere/lost' that made this picture is not here"):
        altered(engine, shelf, tmp_path / "lost.png", model="nowhere/lost", model_hash="0" * 16)
    with pytest.raises(ValueError, match="opens none from the hub"):
        # and no download
        altered(engine, shelf, tmp_path / "hub.png", model="hf:nobody/nothing", model_hash="0" * 16)
    assert "weights of" in altered(engine, shelf, tmp_path / "changed.png", model_hash="0" * 16).notes[0]
    assert "no weights 'ema-7'" in altered(engine, shelf, tmp_path / "weights.png", weights="ema-7").notes[0]
    assert (
        "started from another picture"
        in altered(engine, shelf, tmp_path / "init.png", init="cat.png", strength=0.5).notes[0]
    )
    with pytest.raises(ValueError, match="damaged"):
        altered(engine, shelf, tmp_path / "steps.png", num_steps="many")


def test_a_model_that_moved_is_found_by_its_weights(engine: Engine, shelf: Any, tmp_path: Path) -> None:
    restored = altered(engine, shelf, tmp_path / "moved.png", model="elsewhere/squares@4")
    assert restored.settings.model == shelf.pictures and "has the same weights" in restored.notes[0]


def test_an_older_checkpoint_is_restored_as_such(engine: Engine, shelf: Any, tmp_path: Path) -> None:
    result = result_of(engine, Recipe(f"{shelf.pictures}@2", seeds="1", num_steps=1))
    assert read_recipe(result.pictures[0])["model"] == f"{shelf.pictures}@2"
    assert (
        restore.restore(result.pictures[0], engine.shelf()).settings.model == f"{shelf.pictures}@2"
        and restore.restore(result.pictures[0], engine.shelf()).notes == ()
    )


def test_a_checkpoint_written_since_is_loaded_anew(shelf: Any, tmp_path: Path) -> None:
    copy = tmp_path / "runs" / "squares"
    shutil.copytree(shelf.pictures, copy)
    newest = copy / "checkpoints" / "000000004"
    shutil.move(newest, tmp_path / "kept")
    engine = Engine([copy.parent], tmp_path / "out", device="cpu", dtype="fp32")
    assert engine.model(str(copy)).name.endswith("@2")
    shutil.move(tmp_path / "kept", newest)
    assert engine.model(str(copy)).name.endswith("@4")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "nowhere"}, "got model 'nowhere'"),
        ({"seeds": "a-b"}, "got seeds 'a-b'"),
        ({"seeds": ""}, "got seeds"),
        ({"sampler": "eulr"}, "did you mean 'euler'"),
        ({"guidance": "cgf=2"}, "did you mean 'cfg'"),
        ({"label": "whale"}, "got class 'whale'"),
        ({"weights": "ema-1"}, "got weights 'ema-1'"),
        ({"conditions": "x=1"}, "got condition 'x'"),
    ],
)
def test_mistakes_are_told_and_leave_nothing_behind(
    engine: Engine, shelf: Any, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        list(engine.run(dataclasses.replace(Recipe(shelf.pictures, seeds="0"), **change)))
    assert not list(engine.out.glob("*"))


def test_a_model_that_cannot_guide_is_refused_before_one_is_loaded(shelf: Any, engine: Engine) -> None:
    for guidance, why in (("prior=fashion-dit,cfg=2", "same size"), ("prior=elsewhere,cfg=2", "lists")):
        with pytest.raises(ValueError, match=why):
            engine.begin(Recipe(shelf.pictures, guidance=guidance))
    assert not engine._models and not list(engine.out.glob("2*"))


def test_what_a_run_took_tells_the_next_one(shelf: Any, engine: Engine) -> None:
    jobs = Jobs(engine)
    asked = Recipe(shelf.pictures, seeds="0-3")
    assert jobs.engine.estimate(asked).by == "guess"
    job = jobs.sample(asked, "")
    list(jobs.queue.watch(job))
    took, told = jobs.result(job), jobs.engine.estimate(asked)
    jobs.queue.close()
    assert told.by == "own" and told.seconds == pytest.approx(took.seconds)
    assert told.work.evaluations == took.evaluations == 10
