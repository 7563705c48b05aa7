"""Captions from files: an .npz and the table of a folder give a condition of texts, which a model is asked by
on the command line."""

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import run_studio

from studio.data import load_data
from studio.data.conditions import Field

WORDS = ("a", "blue", "circle", "red", "square")
CAPTIONS = ["a red circle", "a blue square", "a blue circle", ""] * 8


def folder(root: Path, table: str = "metadata.csv") -> Path:
    """Pictures, of which one has no row, and a table that names one that is not there."""
    for i in range(6):
        root.mkdir(exist_ok=True)
        Image.new("L", (8, 8), 40 * i).save(root / f"{i}.png")
    lines = [f'{i}.png,"{CAPTIONS[i % 3]}, number {i}"' for i in range(5)] + ["9.png,gone"]
    (root / table).write_text("\n".join(["file_name,text", *lines]))
    return root


def test_an_npz_has_captions(tmp_path: Path) -> None:
    values = np.zeros((32, 2), np.float32)
    values[:, 0] = np.arange(32)
    np.savez(tmp_path / "a.npz", images=values, captions=np.array(CAPTIONS))
    data = load_data({"name": "npz", "path": str(tmp_path / "a.npz"), "held_out": 0.25})
    assert data.fields == (Field("caption", "tokens", (3,), names=WORDS, range=(3, 3)),)
    given = data.train.named["caption"]
    for row, i in zip(given, data.rows[0]):  # type: ignore[index]
        assert " ".join(WORDS[k] for k in row if k >= 0) == CAPTIONS[i]
    np.savez(tmp_path / "few.npz", images=values, captions=np.array(CAPTIONS[:5]))
    with pytest.raises(ValueError, match="got 5 values of the condition 'caption', expected 32"):
        load_data({"name": "npz", "path": str(tmp_path / "few.npz")})


def test_a_table_has_captions(tmp_path: Path) -> None:
    root = folder(tmp_path / "photos")
    data = load_data(
        {"name": "images", "path": str(root), "held_out": 0.0, "captions": "text", "cache": False}
    )
    (field,) = data.fields
    assert {*WORDS, ",", "number", "4"} == {*field.names} - {"0", "1", "2", "3"} and data.classes == ()
    there = (data.train.named["caption"] >= 0).any(1)
    assert there.tolist() == [True] * 5 + [False]  # no row, no caption
    with pytest.raises(ValueError, match="has the columns file_name, text, expected 'texts' .* did you mean"):
        load_data({"name": "images", "path": str(root), "captions": "texts", "cache": False})
    (root / "metadata.csv").unlink()
    with pytest.raises(ValueError, match="got data.captions=text for .*, which has no table"):
        load_data({"name": "images", "path": str(root), "captions": "text", "cache": False})


def test_from_captions_to_samples(tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = "backbone={name: dit, size: null, hidden_size: 16, depth: 1, num_heads: 2, patch_size: 4}"
    steps = [
        "train.steps=2",
        "train.batch_size=4",
        "train.preview=false",
        "train.warmup=1",
        "data.cache=false",
    ]
    base = [
        "train",
        "images",
        f"data.path={folder(tmp_path / 'photos')}",
        "data.captions=text",
    ]
    run_studio(*base, small, *steps, "--out", str(run), cwd=tmp_path)
    (tmp_path / "asked.txt").write_text("a red zebra\n")
    zebra = f"caption=@{tmp_path / 'asked.txt'}"
    for k, (asked, kept) in enumerate({"caption=red circle": "red circle", zebra: "a red <?>"}.items()):
        line = ["sample", str(run), "--set", asked, "--out", str(tmp_path / f"out{k}"), "--num-steps", "2"]
        with pytest.warns(UserWarning, match="caption=a red <.> is outside") if k else nullcontext():
            run_studio(*line, cwd=tmp_path)
        recipes = json.loads((tmp_path / f"out{k}" / "recipe.json").read_text())
        assert recipes[0]["fields"] == {"caption": kept}
    assert "'caption': 'a text of the" in run_studio("info", str(run), cwd=tmp_path).stdout
