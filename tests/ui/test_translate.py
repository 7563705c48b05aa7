"""The Translate tab: which models it offers, and what its button does."""

from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

import studio
from studio.data.arrays import Arrays, Data
from ui.app import build_app
from ui.engine import Engine
from ui.translate import run


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[str]:
    home = tmp_path_factory.mktemp("bridges")
    values = np.random.default_rng(0).integers(0, 255, (16, 1, 8, 8), dtype=np.uint8)
    data = Data("negatives", "image", (1, 8, 8), Arrays(values), source=Arrays(255 - values), source_name="negative", paired=True)
    tree = {
        "name": "negatives", "backbone": {"name": "dit", "hidden_size": 16, "depth": 1, "num_heads": 2, "patch_size": 4},
        "objective": {"path": "i2sb", "parameterization": "displacement", "coupling": "paired"},
        "train": {"steps": 2, "batch_size": 8, "warmup": 1, "preview": False, "eval_every": 0, "ema": ["0.9"], "dtype": "fp32"},
        "sample": {"sampler": "bridge", "num_steps": 3, "guidance": ""},
    }  # fmt: skip
    studio.train(tree, out=home / "negatives", data=data, quiet=True)
    return (str(home),)


def test_bridges_are_offered_where_they_belong(roots: tuple[str], tmp_path: Path) -> None:
    engine = Engine(roots, tmp_path / "out", device="cpu", dtype="fp32")
    assert any(name.endswith("negatives") for name in engine.bridges()) and not any(name.endswith("negatives") for name in engine.cards())
    assert "fashion-dit" in engine.cards() and "fashion-dit" not in engine.bridges()
    build_app(engine)


def test_the_button_translates_and_tells(roots: tuple[str], tmp_path: Path) -> None:
    engine = Engine(roots, tmp_path / "out", device="cpu", dtype="fp32")
    name = next(n for n in engine.bridges() if n.endswith("negatives"))
    for file, size in (("a.png", 8), ("b.png", 20)):
        Image.new("L", (size, size), 90).save(tmp_path / file)
    (tmp_path / "c.png").write_bytes(b"no picture")
    inputs = [str(tmp_path / f) for f in ("a.png", "b.png", "c.png")]
    text, sheet, files = run(engine, name, inputs, 2, 0, True)
    assert "2 translated into" in text and "c.png: does not decode" in text
    assert Image.open(sheet).width > 8 and all(Image.open(f).size == (8, 8) for f in files) and len(files) == 2
    with pytest.raises(gr.Error, match="pick a bridge"):
        run(engine, None, inputs, 2, 0, True)
    with pytest.raises(gr.Error, match="none of 1 pictures can be translated"):
        run(engine, name, inputs[2:], 2, 0, True)
