"""The bundled model of backbones on the page: its length, its files and views."""

from pathlib import Path

import numpy as np

from studio.jobs import views
from studio.jobs.recipe import Recipe
from studio.jobs.result import Result
from studio.model.asking import controls
from studio.recipes.protein.placing import real
from ui.engine import Engine


def test_backbones_on_the_page(tmp_path: Path) -> None:
    engine = Engine((), tmp_path / "out", device="cpu", dtype="fp32")
    card = engine.cards()["protein"]
    asked = controls(card)["length"]
    assert (asked.form, asked.low, asked.high, asked.step) == ("number", 40, 128, 1)
    recipe = Recipe("protein", seeds="0-2", num_steps=2, conditions="length=44")
    result = list(engine.run(recipe, preview=False))[-1]
    assert isinstance(result, Result)
    names = {p.name for p in result.files}
    assert {"samples.npz", "sheet.svg", *(f"seed-{k:06d}.pdb" for k in range(3))} <= names
    with np.load(result.folder / "samples.npz") as saved:
        assert real(saved["values"]).sum(1).tolist() == [44] * 3
    assert [v["name"] for v in result.views] == ["Traces", "Ramachandran", "Table"]
    for place in range(3):
        path = views.file_of(result, place, lambda: engine.asked(recipe, result.folder)[:2])
        assert path.is_file() and path.suffix in (".svg", ".png", ".csv")
