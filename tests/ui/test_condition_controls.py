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
from ui import answers, said
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


def visible(model: str, name: str, line: str) -> Any:
    """What the control of a condition shows for a line."""
    values = said.given(model, line)["values"]
    return conditions.shown(model, name, values[name])


def put(model: str, line: str, name: str, given: Any) -> str:
    """The line after a control has written into it, as `page.js` does it."""
    values = said.given(model, line)["values"]
    if not isinstance(given, str | float) or Path(given).is_absolute():
        given = conditions.put(model, name, given)["text"]
    values = {k: v for k, v in values.items() if k != name} | ({name: given} if given else {})
    return json.dumps(values) if values else ""


def test_the_kind_says_the_control(model: str) -> None:
    known = asking.controls(card(model))
    assert {name: c.form for name, c in known.items()} == {
        "t": "number",
        "caption": "text",
        "seen": "table",
        "season": "choice",
        "map": "table",
        "past": "file",
        "wind": "table",
    }
    assert known["seen"].columns == ("x", "y") and known["season"].choices == SEASONS
    low, high = known["t"].low, known["t"].high
    assert low is not None and high is not None and -3 < low < 0 < high < 3
    assert visible(model, "caption", "t=2, caption=red") == "red" and visible(model, "t", "t=2") == 2
    atoms = asking.controls(card("moses-graph-dit"))
    assert list(atoms) == ["logP", "QED", "TPSA", "atoms"]
    assert (atoms["atoms"].low, atoms["atoms"].high, atoms["atoms"].step) == (1, 26, 1)
    assert said.given("", "") == {"model": "", "values": {}}


def test_what_is_put_in_comes_back_and_is_what_a_run_reads(model: str, tmp_path: Path) -> None:
    np.save(tmp_path / "past.npy", G.standard_normal((2, 1, 4, 4)).astype(np.float32))
    Image.fromarray(G.integers(0, 256, (4, 4), dtype=np.uint8)).save(tmp_path / "map.png")
    line = "t=1.5"
    for name, given in {
        "caption": "A red, blue = zebra",
        "season": SEASONS[0],
        "seen": [["0.1", "2"], ["", None], [3, -4.5]],
        "wind": [["1", "", "3"]],
        "map": str(tmp_path / "map.png"),
        "past": str(tmp_path / "past.npy"),
    }.items():
        line = put(model, line, name, given)
    assert visible(model, "caption", line) == "A red, blue = zebra"
    assert visible(model, "season", line) == SEASONS[0] and visible(model, "t", line) == 1.5
    assert visible(model, "seen", line) == [[0.1, 2], [3, -4.5]]
    assert visible(model, "wind", line) == [[1, None, 3]] and visible(model, "past", line) is None
    assert np.array_equal(visible(model, "map", line), Image.open(tmp_path / "map.png"))
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
    assert "seen" not in said.given(model, put(model, line, "seen", [["", ""]]))["values"]


def test_an_answer_offers_them(model: str, tmp_path: Path) -> None:
    engine = Engine([Path(model).parent], tmp_path, device="cpu")
    offered = answers.model(engine, model, "0-9", 1)["controls"]
    assert offered["fields"]["value"] == {"model": model, "values": {}} and offered["conditions"]["visible"]


@pytest.mark.parametrize(
    "name, given, message",
    [
        ("seen", [["1", "warm"]], "a cell that is no number"),
        ("seen", [["1", ""]], "got row 0 of seen with some numbers missing"),
        ("wind", [[1, 2]], r"got wind of shape \(2,\), expected \(3,\)"),
    ],
)
def test_what_is_no_value_is_a_toast(model: str, name: str, given: Any, message: str) -> None:
    with pytest.raises(gr.Error, match=message):
        conditions.put(model, name, given)


def test_no_text_of_the_line_opens_a_file(model: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 2), np.float32))
    for name in ("seen", "map", "caption"):
        with pytest.raises(gr.Error, match="files are not read here"):
            conditions.read(card, model, f"{name}=@{tmp_path / 'a.npy'}")
    (tmp_path / "bad.csv").write_text("1,2,3\n")
    with pytest.raises(gr.Error, match="got seen of shape"):
        conditions.put(model, "seen", str(tmp_path / "bad.csv"))


def test_a_line_that_is_typed_is_read_or_told(model: str) -> None:
    assert conditions.read(card, model, "t=2, season=spring")["values"] == {"t": 2.0, "season": "spring"}
    for line, words in (
        ("season=winter", "got class 'winter'"),
        ("colour=3", "got condition 'colour', expected one of t, "),
        ("t=warm", "expected name=number"),
    ):
        with pytest.raises(gr.Error, match=words):
            conditions.read(card, model, line)


def test_a_file_that_is_none_is_told_at_its_field(model: str, tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("no numbers")
    sent, note = conditions.told(model, "past", str(tmp_path / "text.npy"))
    assert sent == gr.skip() and "text.npy for past holds no array" in note and str(tmp_path) not in note
    np.save(tmp_path / "fine.npy", np.ones((2, 3), np.float32))
    assert "got" in conditions.told(model, "wind", str(tmp_path / "fine.npy"))[1]
