"""How far something is: decoding a folder, where it takes long enough to wonder, and a run by minutes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.data import load_data
from studio.runtime import progress
from studio.runtime.progress import Bar, counted, silent, step_text


def test_decoding_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for k in range(6):
        Image.fromarray(rng.integers(0, 255, (9, 9), np.uint8)).save(tmp_path / f"{k}.png")
    spec = {"name": "images", "path": str(tmp_path), "cache": False}
    load_data(spec)
    assert capsys.readouterr().err == ""  # so few are there at once
    monkeypatch.setattr(progress, "UNSEEN", -1.0)
    load_data(spec)
    told = capsys.readouterr().err
    assert f"decoding the pictures of {tmp_path.name}: 1 of 6" in told and "6 of 6 in " in told
    with silent():
        load_data(spec)
    monkeypatch.setenv("RANK", "1")
    load_data(spec)
    assert capsys.readouterr().err == ""


def test_items_pass_through_in_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "UNSEEN", -1.0)
    monkeypatch.setattr(progress, "LINES", -1.0)
    assert list(counted(iter("abc"), 3, "letters")) == ["a", "b", "c"]
    assert [line.split(" ·")[0].split(" in")[0] for line in capsys.readouterr().err.splitlines()] == [
        f"letters: {k} of 3" for k in (1, 2, 3)
    ]


def test_a_run_by_minutes_is_never_more_than_done(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar("demo", 1.0)
    for done in (0.5, 1.08):
        bar.last_line = -100.0  # as if the last line were long ago
        bar.update(done, step_text(11, 1.5, 2.0, 8))
    half, end = capsys.readouterr().err.splitlines()
    assert "demo: 50%" in half and "demo: 100%" in end and "· 0 s left" in end
