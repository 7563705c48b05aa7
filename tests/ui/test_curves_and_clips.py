"""Models of curves and of clips on the page: previews while they are made, and what is kept."""

from pathlib import Path

import numpy as np
import pytest

import studio
from studio.jobs.recipe import Recipe
from studio.jobs.result import Result
from studio.jobs.run import Update
from ui.engine import Engine


@pytest.mark.parametrize(
    ("kind", "values", "kept"),
    [
        ("curves", np.random.default_rng(0).normal(300, 5, (40, 2, 12)), ["samples.npz", "grid.png"]),
        (
            "clips",
            np.random.default_rng(0).integers(0, 256, (20, 3, 1, 8, 8), dtype=np.uint8),
            ["samples.npz", "seed-000000.png", "seed-000001.png", "seed-000002.png", "grid.png"],
        ),
    ],
)
def test_previews_and_files(kind: str, values: np.ndarray, kept: list[str], tmp_path: Path) -> None:
    np.savez(tmp_path / "file.npz", **{"frames" if kind == "clips" else kind: values})
    asked = [
        "train.minutes=null",
        "train.steps=2",
        "train.batch_size=8",
        "train.dtype=fp32",
        "backbone.depth=1",
    ]
    folder = tmp_path / "runs" / kind
    studio.train(kind, [f"data.path={tmp_path / 'file.npz'}", *asked], out=folder, quiet=True)
    engine = Engine((str(tmp_path / "runs"),), tmp_path / "out", device="cpu", dtype="fp32")
    steps = list(engine.run(Recipe(str(folder), seeds="0-2", num_steps=2), preview=True, every=0.0))
    assert any(isinstance(s, Update) and s.preview is not None for s in steps[:-1])
    result = steps[-1]
    assert isinstance(result, Result) and {*kept} <= {p.name for p in result.files}
    with np.load(result.files[0]) as saved:
        assert saved["values"].shape == (3, *values.shape[1:]) and saved["values"].dtype == values.dtype
