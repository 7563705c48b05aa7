"""Plans on the page: offered, chosen with what they are for, followed, refused elsewhere, and restored."""

import inspect
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import driving
import numpy as np
import pytest
from later import Later
from PIL import Image

import studio
from backbones.caching.plan import Plan
from studio.checkpoints import plans
from studio.jobs.presets import of_model
from studio.jobs.recipe import START, Recipe
from studio.jobs.result import Result
from studio.runtime.recipes import read_recipe
from studio.sampling.samples import save_png
from ui import restore
from ui.engine import Engine
from ui.jobs import Jobs

handling, gr, ui_app, ui_api = Later("ui.handlers"), Later("gradio"), Later("ui.app"), Later("ui.api")


@pytest.fixture(scope="module")
def planned(shelf: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: squares with two plans, and points with none."""
    root = tmp_path_factory.mktemp("planned") / "runs"
    for folder in (shelf.pictures, shelf.points):
        shutil.copytree(folder, root / Path(folder).name)
    write(root / "squares", "fast", 4, {"flops": 0.5, "error": 0.02})
    write(root / "squares", "longer", 6, {})
    return root


def write(folder: Path, name: str, steps: int, measured: dict[str, float], *, digest: str = "") -> None:
    """A plan for the averaged weights, of ``steps`` of Euler's method with guidance: every second evaluation
    takes the blocks from before."""
    model = studio.load(folder, device="cpu", dtype="fp32")
    key = plans.Key(digest or model.hash, steps, "euler", "cfg=2", model.info.shape)
    plan = Plan((1,) * steps, trunk="FR" * (steps // 2))
    plans.write(folder / "plans", plans.Saved(name, key, plan, measured))


@pytest.fixture
def engine(planned: Path, tmp_path: Path) -> Engine:
    return Engine([planned], tmp_path / "out", device="cpu", dtype="fp32")


@pytest.fixture
def fast(planned: Path) -> Recipe:
    """A run that the plan is for."""
    return Recipe(
        str(planned / "squares"),
        seeds="0-1",
        num_steps=4,
        sampler="euler",
        guidance="cfg=2",
        dtype="fp32",
        plan="fast",
    )


def result_of(engine: Engine, settings: Recipe) -> Result:
    *_, last = engine.run(settings, preview=False)
    assert isinstance(last, Result)
    return last


def status_of(row: Any) -> str:
    return str(row[handling.GOING.index("status")])


def choose(engine: Engine, name: str, plan: str) -> dict[str, Any]:
    return handling.Handlers(Jobs(engine)).choose_plan({"ticket": 9, "model": name, "plan": plan})


def test_a_model_offers_its_plans_and_one_without_has_no_control(engine: Engine, planned: Path) -> None:
    handlers = handling.Handlers(Jobs(engine))
    answer = handlers.choose({"ticket": 1, "model": str(planned / "squares"), "rest": ""})
    control = answer["controls"]["plan"]
    assert [value for _, value in control["choices"]] == ["none", "auto", "fast", "longer"]
    assert (control["value"], control["visible"]) == ("none", True)
    answer = handlers.choose({"ticket": 2, "model": str(planned / "points"), "rest": ""})
    assert answer["controls"]["plan"]["visible"] is False


def test_plans_of_other_weights_and_of_another_path_are_not_offered(planned: Path, tmp_path: Path) -> None:
    folder, engine = tmp_path / "squares", Engine([tmp_path], tmp_path / "out", device="cpu", dtype="fp32")
    shutil.copytree(planned / "squares", folder)
    write(folder, "other", 4, {}, digest="0" * 16)
    saved = plans.read(folder / "plans" / "fast.json")
    elsewhere = replace(saved, name="bent", key=replace(saved.key, sampler="euler on trig"))
    plans.write(folder / "plans", elsewhere)
    (folder / "plans" / "cut.json").write_text("{")
    _, control = handling.Handlers(Jobs(engine)).refresh(str(folder))
    assert control["choices"] == ["none", "auto", "fast", "longer"] and control["visible"] is True


def test_choosing_a_plan_sets_what_it_is_for(engine: Engine, planned: Path) -> None:
    answer = choose(engine, str(planned / "squares"), "fast")
    assert (answer["form"], answer["ticket"], answer["source"]) == ("sample", 9, str(planned / "squares"))
    found = {name: update["value"] for name, update in answer["controls"].items()}
    note = found.pop("plan_note")
    assert {k: v for k, v in found.items() if not k.endswith("_stack")} == {
        "num_steps": 4,
        "sampler": "euler",
        "guidance": "cfg=2",
        "weights": "ema-0.9",
    }
    assert "4 steps of euler, guidance cfg=2, 50% of the operations, error 0.02" in note


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ("none", ""),
        ("auto", "where there is one"),
        ("fats", "got plan 'fats', expected none, auto, fast, longer"),
    ],
)
def test_without_a_plan_of_its_own_nothing_else_is_set(
    engine: Engine, planned: Path, plan: str, words: str
) -> None:
    answer = choose(engine, str(planned / "squares"), plan)
    assert set(answer["controls"]) == {"plan_note"} and words in answer["controls"]["plan_note"]["value"]


def test_a_run_follows_it_and_says_so(engine: Engine, fast: Recipe) -> None:
    result = result_of(engine, fast)
    model = studio.load(fast.model, device="cpu", dtype="fp32").planned("fast")
    expected = model.sample(seeds="0-1", num_steps=4, sampler="euler", guidance="cfg=2")
    plain = result_of(engine, replace(fast, plan="none"))
    for path, other, value, recipe in zip(result.pictures, plain.pictures, expected.values, expected.recipes):
        assert np.array_equal(np.asarray(Image.open(path)), value[0].numpy())
        assert read_recipe(path) == recipe and recipe["plan"] == "fast" and "plan" not in read_recipe(other)
    handlers = handling.Handlers(Jobs(engine))
    below = handlers.chosen.below(str(result.pictures[0]))
    dropped = Later("ui.dropped").look(handlers.engine, str(result.pictures[1]))
    assert below["recipe"]["value"]["plan_hash"] == expected.recipes[0]["plan_hash"]
    assert "--plan fast" in below["command"] and "--plan fast" in dropped[3]["value"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_steps": 6}, "steps 4, not 6; choose these, .* the nearest is longer: it belongs to this run"),
        ({"sampler": "heun"}, "sampler euler, not heun"),
        ({"guidance": ""}, "guidance cfg=2, not none"),
        ({"weights": "raw"}, "weights [0-9a-f]+, not [0-9a-f]+"),
        ({"plan": "fats"}, "got plan 'fats', expected .*: fast, longer; did you mean 'fast'"),
        ({"plan": "/etc/secret.json"}, "got plan '/etc/secret.json', expected .* the page opens no files"),
    ],
)
def test_what_does_not_belong_is_refused_and_stays_readable(
    engine: Engine, fast: Recipe, change: dict[str, Any], words: str
) -> None:
    run = handling.Handlers(Jobs(engine)).generate(None, *vars(replace(fast, **change)).values(), False)
    rows = []
    with pytest.raises(gr.Error, match=words):
        rows.extend(iter(run))
    assert not list(engine.out.glob("[!.]*"))


def test_auto_finds_the_plan_or_says_that_there_is_none(engine: Engine, fast: Recipe) -> None:
    assert result_of(engine, replace(fast, plan="auto")).recipes[0]["plan"] == "fast"
    with pytest.warns(UserWarning, match="it runs without"):
        *_, last = handling.Handlers(Jobs(engine)).generate(
            None, *vars(replace(fast, plan="auto", num_steps=5)).values(), False
        )
    assert "no plan of" in status_of(last) and "the nearest is fast: steps 4, not 5" in status_of(last)
    assert "plan auto" in status_of(last)


def test_it_comes_back_from_a_picture_where_it_is_the_same(
    engine: Engine, fast: Recipe, tmp_path: Path
) -> None:
    picture = result_of(engine, fast).pictures[0]
    found = restore.restore(picture, engine.shelf())
    assert found.settings.plan == "fast" and found.notes == ()
    assert read_recipe(result_of(engine, found.settings).pictures[0]) == read_recipe(picture)
    for change in ({"plan": "gone"}, {"plan_hash": "0" * 16}, {"plan": "auto"}, {"plan": "/etc/x.json"}):
        path = tmp_path / "altered.png"
        save_png(path, Image.open(picture), {**read_recipe(picture), **change})
        found = restore.restore(path, engine.shelf())
        assert found.settings.plan == "none" and len(found.notes) == 1
        assert "is not here as it was: none was chosen" in found.notes[0]


def test_scripts_give_it_last(engine: Engine, fast: Recipe) -> None:
    api = ui_api.Api(Jobs(engine))
    names = list(inspect.signature(api.generate).parameters)
    assert names[names.index("plan") :] == ["plan", *START]  # what was added since stands last
    options = {k: v for k, v in vars(fast).items() if k != "model" and k not in START}
    *_, answer = api.generate(None, fast.model, **options)  # type: ignore[arg-type]
    assert answer["recipes"][0]["plan"] == "fast" and answer["note"] == ""
    listed = {m["model"]: m["plans"] for m in api.models()}
    assert listed[fast.model]["fast"] == {"num_steps": 4, "sampler": "euler", "guidance": "cfg=2"}
    assert listed[str(Path(fast.model).parent / "points")] == {}


@pytest.fixture
def tab(browser: Any, engine: Engine) -> Iterator[Any]:
    with driving.serve(engine) as url, driving.watched(browser, url) as page:
        yield driving.create(page, url)


@pytest.mark.slow
def test_a_plan_that_is_picked_sets_the_page_and_what_is_typed_after_it_stays(tab: Any) -> None:
    driving.pick(tab, "squares")
    tab.wait_for_selector("#plan input")
    driving.pick(tab, "fast", "plan")
    tab.fill("#seeds textarea, #seeds input", "5-6")
    tab.click("#generate")  # waits for what the plan sets
    driving.told(tab, "2 samples")
    asked = tab.inner_text("#status")
    assert all(words in asked for words in ("plan fast", "steps 4", "sampler euler", "seeds 5-6"))
    assert "--plan fast" in tab.inner_text("#command")
    assert tab.input_value("#num_steps input[type=number]") == "4"
    assert tab.input_value("#guidance textarea, #guidance input") == "cfg=2"


def test_plans_are_presets_and_their_share_is_told(engine: Engine, planned: Path) -> None:
    name = str(planned / "squares")
    known = {p.name: p for p in of_model(name, engine.card(name))}
    asked = known["plan fast"].put(Recipe(name, seeds="0-1"))
    assert (asked.plan, asked.num_steps, asked.sampler, asked.guidance) == ("fast", 4, "euler", "cfg=2")
    assert "50% of the operations" in known["plan fast"].about and "plan longer" in known
    whole = replace(asked, plan="none")
    passes = [engine.estimate(r).work.passes for r in (asked, whole)]
    assert passes == [4.0, 8.0]  # both branches of four steps, half of the operations
