"""Controls by kind: what they write is what a run reads, what a recipe says comes back to them, and no text
opens a file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from later import Later
from PIL import Image

import studio
from studio.checkpoints.find import card
from studio.data import from_arrays
from studio.data.conditions import Field
from studio.jobs.recipe import Recipe, from_recipe
from studio.jobs.result import Result
from studio.model import asking
from ui import answers
from ui.engine import Engine

conditions, gr = Later("ui.conditions"), Later("gradio")
G = np.random.default_rng(0)
SEASONS = ("late, autumn", "spring")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    count = 16
    data = from_arrays(
        "asked",
        G.standard_normal((count, 2)).astype(np.float32),
        numbers={"t": G.standard_normal(count)},
        conditions={
            "caption": ("tokens", ["a red circle", "a blue, blue square"] * 8),
            "seen": (Field("", "set", names=("x", "y")), G.standard_normal((count, 3, 2))),
            "season": ("class", [SEASONS[i % 2] for i in range(count)]),
            "map": ("field", G.uniform(0, 255, (count, 4, 4))),
            "past": ("field", G.standard_normal((count, 2, 1, 4, 4))),
            "wind": ("array", G.standard_normal((count, 3))),
        },
    )
    config = {
        "backbone": {"name": "mlp", "width": 16, "depth": 1},
        "train": {"steps": 1, "batch_size": 8, "warmup": 1, "preview": False},
    }
    run = studio.train(config, data=data, out=tmp_path_factory.mktemp("models") / "asked", quiet=True)
    return str(run.folder)


def visible(model: str, name: str | None, line: str) -> dict[str, Any]:
    """The controls that are shown for a condition, by their form, with their values."""
    found = zip(conditions.FORMS, conditions.show(model, name, line))
    return {form: update.get("value") for form, update in found if update["visible"]}


def test_the_kind_says_the_control(model: str) -> None:
    known = asking.controls(card(model))
    assert {name: c.form for name, c in known.items()} == {
        "caption": "text",
        "seen": "table",
        "season": "choice",
        "map": "table",
        "past": "file",
        "wind": "table",
    }
    assert known["seen"].columns == ("x", "y") and known["season"].choices == SEASONS
    assert visible(model, None, "") == visible(model, "t", "") == visible("", "caption", "") == {}
    assert visible(model, "caption", "t=2, caption=red") == {"text": "red"}
    assert visible(model, "season", "") == {"choice": None}
    assert visible(model, "seen", "") == {"table": [[None, None]], "file": None}
    assert visible(model, "past", "") == {"file": None}


def test_what_is_put_in_comes_back_and_is_what_a_run_reads(model: str, tmp_path: Path) -> None:
    np.save(tmp_path / "past.npy", G.standard_normal((2, 1, 4, 4)).astype(np.float32))
    Image.fromarray(G.integers(0, 256, (4, 4), dtype=np.uint8)).save(tmp_path / "map.png")
    line = "t=1.5"
    line = conditions.put(model, "caption", line, "A red, blue = zebra")
    line = conditions.put(model, "season", line, SEASONS[0])
    line = conditions.put(model, "seen", line, [["0.1", "2"], ["", None], [3, -4.5]])
    line = conditions.put(model, "wind", line, [["1", "", "3"]])
    line = conditions.send(model, "map", line, str(tmp_path / "map.png"))
    line = conditions.send(model, "past", line, str(tmp_path / "past.npy"))
    assert visible(model, "caption", line) == {"text": "A red, blue = zebra"}
    assert visible(model, "season", line) == {"choice": SEASONS[0]}
    assert visible(model, "seen", line)["table"] == [[0.1, 2], [3, -4.5]]
    assert visible(model, "wind", line)["table"] == [[1, None, 3]]
    assert np.array_equal(visible(model, "map", line)["table"], Image.open(tmp_path / "map.png"))
    engine = Engine([Path(model).parent], tmp_path / "out", device="cpu", dtype="fp32")
    settings = Recipe(model, seeds="3", num_steps=1, sampler="euler", guidance="", conditions=line)
    *_, result = engine.run(settings, preview=False)
    assert isinstance(result, Result)
    recipe = result.recipes[0]
    assert recipe["fields"]["caption"] == "a red , blue <?> <?>" and recipe["conditions"] == {"t": 1.5}
    assert np.array_equal(np.float32(json.loads(recipe["fields"]["past"])), np.load(tmp_path / "past.npy"))
    again = from_recipe(recipe, model, ())
    for name in ("seen", "map", "wind", "season"):
        assert visible(model, name, again.conditions) == visible(model, name, line), name
    *_, second = engine.run(again, preview=False)
    assert isinstance(second, Result)
    assert np.array_equal(*(np.load(r.folder / "samples.npz")["arr_0"] for r in (result, second)))
    for name, empty in (("caption", " "), ("seen", [["", ""]]), ("season", None)):
        line = conditions.put(model, name, line, empty)
        assert name not in conditions._said(model, line)


def test_an_answer_offers_them(model: str, tmp_path: Path) -> None:
    engine = Engine([Path(model).parent], tmp_path, device="cpu")
    offered = answers.model(engine, model, "0-9", 1)["controls"]["condition"]
    assert offered["visible"] and [name for name, _ in offered["choices"]] == list(
        asking.controls(card(model))
    )


@pytest.mark.parametrize(
    "name, given, message",
    [
        ("caption", "@/etc/hostname", "files are not read here"),
        ("seen", [["1", "warm"]], "a cell that is no number"),
        ("seen", [["1", ""]], "got row 0 of seen with some numbers missing"),
        ("wind", [[1, 2]], r"got wind of shape \(2,\), expected \(3,\)"),
        ("season", "winter", "got class 'winter'"),
    ],
)
def test_what_is_no_value_is_a_toast(model: str, name: str, given: Any, message: str) -> None:
    with pytest.raises(gr.Error, match=message):
        conditions.put(model, name, "", given)


def test_a_run_reads_what_was_typed_last(model: str) -> None:
    assert conditions.latest(model, "caption", "t=1", "red") == "t=1.0, caption=red"
    assert conditions.latest(model, "caption", "caption=red", "") == ""
    assert (
        conditions.latest(model, "caption", "t=1", "@a.txt") == "t=1.0, caption=@a.txt"
    )  # which a run refuses
    for name in (None, "seen", "season"):  # of another form: it wrote its value when it changed
        assert conditions.latest(model, name, "season=spring", "") == "season=spring"
    assert conditions.latest(model, "caption", "no line", "red") == "no line"


def test_no_text_of_the_line_opens_a_file(model: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 2), np.float32))
    for name in ("seen", "map"):
        with pytest.raises(gr.Error, match="files are not read here"):
            conditions.show(model, name, f"{name}=@{tmp_path / 'a.npy'}")
    (tmp_path / "bad.csv").write_text("1,2,3\n")
    with pytest.raises(gr.Error, match="got seen of shape"):
        conditions.send(model, "seen", "", str(tmp_path / "bad.csv"))
    assert conditions.send(model, "seen", "t=1", None) == "t=1"
