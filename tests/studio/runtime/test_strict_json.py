"""What is written as JSON can be read by anything that reads JSON."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tiny import points_config

import studio
from studio.cli.options import emit
from studio.evaluation.results import Result, load_result
from studio.runtime import files
from studio.runtime.strict_json import numbers, to_json

WILD = {"a": math.nan, "b": [1.5, -math.inf, {"c": (math.inf, 2)}], "d": None, "e": "NaN", "f": True, "g": 3}


def strictly(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_what_is_not_finite_is_null() -> None:
    assert strictly(to_json(WILD)) == {
        "a": None,
        "b": [1.5, None, {"c": [None, 2]}],
        "d": None,
        "e": "NaN",
        "f": True,
        "g": 3,
    }
    assert math.isnan(numbers({"a": [None]})["a"][0])


def test_files_results_and_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.write_json(tmp_path / "a.json", WILD)
    assert strictly((tmp_path / "a.json").read_text())["a"] is None
    Result("x", {"fid": math.nan, "kid": 0.5}, {}, {}, {"n": 3}).save(tmp_path / "r.json")
    strictly((tmp_path / "r.json").read_text())
    again = load_result(tmp_path / "r.json")
    assert (
        math.isnan(again.values["fid"]) and again.values["kid"] == 0.5 and "nan" in "\n".join(again.lines())
    )
    emit(WILD, True, [])
    assert strictly(capsys.readouterr().out)["b"][1] is None


def test_a_held_out_loss_that_is_not_finite_is_null_in_the_log_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("studio.training.looking.held_out_loss", lambda *a, **k: [0.5] * 9 + [math.nan])
    run = studio.train(points_config(steps=4, eval_every=2, log_every=1), out=tmp_path / "run")
    lines = [strictly(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["held_out"] for line in lines if "held_out" in line] == [None, None]
    assert (
        "step 2: held_out, held_out_ema_0.9 is not finite (null in metrics.jsonl)" in capsys.readouterr().err
    )
