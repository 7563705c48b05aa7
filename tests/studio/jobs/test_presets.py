"""Presets: those of a model are made of its own defaults, those of a person are kept, fit or are left out."""

import json
from pathlib import Path
from typing import Any

import pytest

from studio.checkpoints.find import card
from studio.jobs.presets import Preset, Saved, Taken, fits, of_model
from studio.jobs.recipe import Recipe
from studio.model.model import Model
from studio.model.work import work_of


@pytest.fixture
def name(picture_model: Model) -> str:
    return str(picture_model.folder)


def test_of_a_model(name: str) -> None:
    own, fast, best = of_model(name, card(name))
    assert [p.name for p in (own, fast, best)] == ["its own defaults", "fast", "best"]
    asked = [p.put(Recipe(name, seeds="3,5", label="ring")) for p in (own, fast, best)]
    assert {(r.seeds, r.label, r.model) for r in asked} == {("3,5", "ring", name)}
    cost = [work_of(name, num_steps=r.num_steps, sampler=r.sampler).evaluations or 0 for r in asked]
    assert asked[2].num_steps == 2 * asked[0].num_steps and cost[1] < cost[0] < cost[2]


def test_what_a_path_has_no_room_for_is_no_preset() -> None:
    """A table of 500 steps has no 1000."""
    steps = [p.settings["num_steps"] for p in of_model("moses-graph-dit", card("moses-graph-dit"))]
    assert max(steps) <= 500 and len(steps) >= 2


def test_a_person_s_own(name: str, tmp_path: Path) -> None:
    saved = Saved(tmp_path)
    asked = Recipe(name, num_steps=7, sampler="heun", guidance="cfg=3", seeds="4", label="ring")
    made = saved.save(" quick look ", asked)
    assert (made.name, made.saved) == ("quick look", True) and saved.all() == [made]
    assert not set(made.settings) & {"seeds", "label", "conditions", "model"}
    again = made.put(Recipe(name, seeds="0-9"))
    assert (again.num_steps, again.sampler, again.guidance, again.seeds) == (7, "heun", "cfg=3", "0-9")
    whole = saved.save("whole", asked, what=True)
    assert whole.put(Recipe(name)) == asked
    with pytest.raises(Taken, match="quick look already"):
        saved.save("quick look", Recipe(name, num_steps=9))
    assert saved.get("quick look") == made
    saved.save("quick look", Recipe(name, num_steps=9), replaces=True)
    assert saved.get("quick look").settings["num_steps"] == 9
    saved.delete("quick look")
    assert [p.name for p in saved.all()] == ["whole"]
    with pytest.raises(ValueError, match="not there"):
        saved.delete("quick look")


@pytest.mark.parametrize("bad", ["", "../up", "a/b", ".hidden", "x" * 61, None, "a\nb", "end."])
def test_names_that_are_none(name: str, tmp_path: Path, bad: Any) -> None:
    with pytest.raises(ValueError, match="got the name"):
        Saved(tmp_path).save(bad, Recipe(name))
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_not_listed(name: str) -> None:
    shown = card(name)

    def fit(**said: Any) -> bool:
        return fits(Preset("one", said), name, shown)

    assert fit(num_steps=4, sampler="heun", guidance="cfg=2", plan="none", weights="auto")
    assert not fit(sampler="graph") and not fit(plan="half") and not fit(weights="ema-0.5")
    assert not fit(label="Bag") and not fit(conditions="logP=2") and fit(label="ring")


def test_files_that_are_no_presets_are_left_out(name: str, tmp_path: Path) -> None:
    saved = Saved(tmp_path)
    saved.save("good", Recipe(name))
    tree = json.loads((saved.home / "good.json").read_text())
    broken: dict[str, Any] = {
        "a": "{",
        "b": json.dumps(tree | {"format": 9}),
        "c": json.dumps(tree | {"settings": {"model": "other"}}),
        "d": json.dumps(tree | {"settings": {"num_steps": -3}}),
        "e": json.dumps([1]),
    }
    for stem, text in broken.items():
        (saved.home / f"{stem}.json").write_text(text)
    (saved.home / "f.json").symlink_to(saved.home / "good.json")
    assert [p.name for p in saved.all()] == ["good"]
