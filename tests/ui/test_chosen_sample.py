"""What can be done with a chosen sample: Python that makes it again, all files of its job, and which controls
its recipe sets."""

import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from later import Later

from studio.jobs.recipe import Recipe
from studio.jobs.result import Result
from ui.answers import CONTROLS, USES
from ui.engine import Engine
from ui.jobs import Jobs

chosen, gr = Later("ui.chosen"), Later("gradio")
TICKETS = {"sample": 3, "translate": 4}


@pytest.fixture(scope="module")
def made(shelf: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Result, Recipe]:
    """A run of two pictures by settings that are not the model's own."""
    jobs = Jobs(Engine(shelf.roots, tmp_path_factory.mktemp("chosen") / "out", device="cpu", dtype="fp32"))
    asked = Recipe(shelf.pictures, "raw", "2", "11-12", 3, "ddim(eta=0.5)", "cfg=3", "", "fp32")
    *_, result = jobs.queue.watch(jobs.sample(asked, "me"))
    return chosen.Chosen(jobs), result, asked


def test_the_python_of_a_sample_makes_it_again(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    c, result, _ = made
    picture = result.pictures[1]
    script = c.below(str(picture))["python"]
    monkeypatch.chdir(tmp_path)
    exec(script, {})  # noqa: S102 (it is what the page gives to be run)
    assert (tmp_path / "again" / picture.name).read_bytes() == picture.read_bytes()


def test_the_archive_has_all_files_of_the_job(made: Any) -> None:
    c, result, _ = made
    with zipfile.ZipFile(c.zip(str(result.pictures[0]))) as archive:
        found = {Path(name).name: archive.read(name) for name in archive.namelist()}
    assert found == {p.name: p.read_bytes() for p in result.folder.iterdir()}
    for wrong in ("", "/etc/passwd", str(result.sheet)):  # of the sheet no item is kept
        with pytest.raises(gr.Error):
            c.zip(wrong)


def test_a_recipe_sets_the_controls_that_were_asked_for(made: Any) -> None:
    c, result, asked = made
    for use, names in USES.items():
        answer = c.again(str(result.pictures[0]), TICKETS, use)
        values = {k: v["value"] for k, v in answer["controls"].items() if "value" in v}
        same = asdict(asked) | {"seeds": "11"}
        assert {k: v for k, v in values.items() if k in CONTROLS} == {k: same[k] for k in names}
        # what stands beside belongs to controls that are set; a form that keeps its model is told none
        assert ("guidance_stack" in values) and ("card" in values) == ("model" in names) == (
            "source" in answer
        )
    assert set(values) == {"guidance", "guidance_stack"}


def test_a_choice_that_comes_late_gives_way_to_the_run_that_is_shown(made: Any) -> None:
    c, result, _ = made
    first, second = map(str, result.pictures)
    shown = dict(zip(chosen.BOTTOM, c.sure([first], second)))  # of another run
    assert shown["selected"] == first and f"--seeds {result.recipes[0]['seed']} " in shown["command"]
    for fine in (c.sure([first, second], second), c.sure([], second)):
        assert all(update == gr.skip() for update in fine)


def test_no_bridge_is_offered_where_none_takes_such_pictures(made: Any) -> None:
    c, result, _ = made
    assert c.below(str(result.pictures[0]))["to_bridge"] == ""
