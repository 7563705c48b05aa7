"""A model of angles on the page: its samplers, its plot and previews, and the way back from a picture."""

from pathlib import Path

import numpy as np
import pytest

import studio
from studio.jobs.recipe import Recipe
from studio.jobs.result import Result
from studio.jobs.run import Update
from studio.model.catalog import sampler_names
from ui import restore
from ui.engine import Engine


def test_angles_on_the_page(tmp_path: Path) -> None:
    np.savez(tmp_path / "file.npz", angles=np.random.default_rng(0).normal(3, 0.5, (80, 2)))
    asked = ["train.steps=2", "train.batch_size=16", "train.dtype=fp32", "backbone.width=16"]
    folder = tmp_path / "runs" / "angles"
    studio.train("angles", [f"data.path={tmp_path / 'file.npz'}", *asked], out=folder, quiet=True)
    engine = Engine((str(tmp_path / "runs"),), tmp_path / "out", device="cpu", dtype="fp32")
    (card,) = (c for c in engine.cards().values() if c.folder == folder)
    assert sampler_names(card) == ["euler", "ab2", "midpoint", "heun", "rk4", "torchdiffeq"]
    steps = list(engine.run(Recipe(str(folder), seeds="0-19", num_steps=3), preview=True, every=0.0))
    assert any(isinstance(s, Update) and s.preview is not None for s in steps[:-1])
    result = steps[-1]
    assert isinstance(result, Result) and [p.name for p in result.files] == ["samples.npz", "grid.png"]
    with np.load(result.files[0]) as saved:
        assert saved["values"].shape == (20, 2)
    restored = restore.restore(result.sheet, engine.shelf())
    assert restored.settings.seeds == "0-19" and restored.notes == ()
    with pytest.raises(ValueError, match="the sampler DDIM is for models of euclid, got one of torus"):
        list(engine.run(Recipe(str(folder), seeds="0", sampler="ddim"), preview=False))
