"""Molecules on the page, by the bundled model: conditions and the number of atoms, the drawing of all, and
back from it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from later import Later

pytest.importorskip("rdkit", reason="pip install 'drift-studio[chem]'")

from studio.checkpoints.find import card
from studio.jobs.recipe import Recipe
from studio.jobs.result import Result
from studio.jobs.run import Update
from studio.model import asking
from ui import restore
from ui.answers import model as answer_of
from ui.engine import Engine
from ui.jobs import Jobs

handling = Later("ui.handlers")
MODEL = "moses-graph-dit"


@pytest.fixture
def engine(shelf: Any, tmp_path: Path) -> Engine:
    return Engine(shelf.roots, tmp_path / "out", device="cpu", dtype="fp32")


def test_molecules_of_a_size_that_was_asked_for(engine: Engine) -> None:
    asked = Recipe(MODEL, seeds="0-2", num_steps=3, conditions="logP=2.5, atoms=9", dtype="fp32")
    *updates, result = engine.run(asked, every=0.0)
    assert isinstance(result, Result) and [p.name for p in result.pictures] == [
        f"seed-00000{i}.png" for i in range(3)
    ]
    assert all(isinstance(u, Update) and u.preview is not None for u in updates) and len(updates) == 2
    names = {p.name for p in result.files}
    assert names == {
        "samples.npz",
        "samples.smi",
        "samples.csv",
        "samples.sdf",
        "sheet.svg",
        "grid.png",
        *(p.name for p in result.pictures),
    }
    with np.load(result.folder / "samples.npz") as saved:
        assert ((saved["arr_0"][..., 0] > 0).sum(1) == 9).all()
    for picture, seeds in ((result.sheet, "0-2"), (result.pictures[1], "1")):
        restored = restore.restore(picture, engine.shelf())
        assert (restored.settings.conditions, restored.settings.seeds, restored.notes) == (
            "logP=2.5, atoms=9",
            seeds,
            (),
        )
    shown = handling.Handlers(Jobs(engine)).chosen.below(str(result.pictures[0]))
    assert shown["download"]["value"] == str(result.folder / "samples.csv")
    for number in ("9.5", "0", "99"):
        with pytest.raises(ValueError, match="atoms, expected 1 to "):
            list(engine.run(Recipe(MODEL, conditions=f"atoms={number}", dtype="fp32")))


def test_the_page_tells_what_can_be_set(engine: Engine) -> None:
    values = answer_of(engine, MODEL, "0-9", 1)["controls"]
    assert values["conditions"]["visible"] and values["fields"]["value"] == {"model": MODEL, "values": {}}
    assert list(asking.controls(card(MODEL))) == ["logP", "QED", "TPSA", "atoms"]
    assert (
        values["guidance"]["visible"] and not values["label"]["visible"] and values["seeds"]["value"] == "0-9"
    )
