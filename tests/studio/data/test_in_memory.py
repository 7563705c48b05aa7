"""Arrays of one's own as data: forms, defaults, what does not fit, and a run that goes on with them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import checkpoint_differences, points_config

import studio
from studio.checkpoints import checkpoint
from studio.data import from_arrays, from_dataset

DOTS = np.random.default_rng(0).normal(size=(40, 2))
BYTES = np.random.default_rng(1).integers(0, 256, (12, 3, 4, 4)).astype(np.uint8)
KIND = np.arange(40) % 3


def test_points_alone() -> None:
    data = from_arrays("dots", DOTS)
    assert (data.task, data.shape, data.codec) == ("points", (2,), {"name": "scale", "std": 1.0})
    assert len(data.train) == 38 and len(data.held_out) == 2 and not data.classes and not data.numeric
    rows = np.concatenate([data.train.values, data.held_out.values])
    assert np.array_equal(np.sort(rows, 0), np.sort(DOTS.astype(np.float32), 0))
    assert studio.data.from_arrays is from_arrays


@pytest.mark.parametrize("form", [np.asarray, torch.as_tensor, lambda v: np.asarray(v).tolist()])
def test_the_form_of_the_arrays_changes_nothing(form: Any) -> None:
    data = from_arrays("dots", form(DOTS), form(KIND), numbers={"heat": form(DOTS[:, 0])})
    same = from_arrays("dots", DOTS, KIND, numbers={"heat": DOTS[:, 0]})
    assert data.hash == same.hash and data.classes == same.classes == ("0", "1", "2")
    assert data.hash != from_arrays("dots", DOTS, KIND[::-1].copy(), numbers={"heat": DOTS[:, 0]}).hash


def test_a_codec_by_the_values_as_own_data_sets_have_it() -> None:
    for values in (BYTES, BYTES / 255, BYTES / 255 * 2 - 1, BYTES[:, :2] / 255, DOTS):
        mine = from_arrays("x", values)
        own = from_dataset([torch.as_tensor(v) for v in values])
        assert (mine.codec, mine.task, mine.shape, mine.notes) == (own.codec, own.task, own.shape, own.notes)


def test_names_of_classes_and_a_share_of_each_kept() -> None:
    words = np.array(["low", "mid", "high"])[KIND]
    data = from_arrays("dots", DOTS, words, ["low", "mid", "high"], held_out=0.25)
    assert data.classes == ("low", "mid", "high") and data.stratified
    assert np.bincount(data.held_out.labels).tolist() == [4, 3, 3] and len(data.train) == 30
    assert from_arrays("dots", DOTS, words).classes == ("high", "low", "mid")
    assert from_arrays("dots", DOTS, KIND, 5).classes == ("0", "1", "2", "3", "4")


def test_held_out_samples_of_their_own_and_numbers_by_what_is_trained_on() -> None:
    heat, there = np.arange(40.0), (DOTS[:4] + 9, ["b", "a", "b", "b"], {"heat": np.full(4, 1e6)})
    data = from_arrays("dots", DOTS, ["a", "b"] * 20, held_out=there, numbers={"heat": heat})
    assert len(data.train) == 40 and np.array_equal(data.held_out.values, (DOTS[:4] + 9).astype(np.float32))
    assert data.held_out.labels.tolist() == [1, 0, 1, 1]
    assert (data.numeric, data.numeric_range) == (("heat",), ((0.0, 39.0),))
    assert data.numeric_mean == (heat.mean(),) and data.numeric_std == pytest.approx((heat.std(),))
    assert len(from_arrays("dots", DOTS, held_out=DOTS[:3]).held_out) == 3
    assert from_arrays("dots", DOTS, held_out=0).held_out is None


def test_a_task_and_a_codec_by_name_for_samples_of_any_shape() -> None:
    data = from_arrays("grid", np.zeros((6, 4, 5)), task="field", codec={"name": "scale", "std": 2.0})
    assert (data.task, data.shape, data.codec["std"]) == ("field", (4, 5), 2.0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"values": DOTS[:, 0]}, r"float64 of shape \(40,\).*values\[:, None\]"),
        ({"values": np.zeros((0, 2))}, r"of at least one sample"),
        ({"values": np.zeros((3, 4, 4))}, r"expected \(C, H, W\) pictures or \(d,\) points"),
        ({"values": np.zeros((3, 8, 8, 3), np.uint8)}, r"look like \(H, W, C\)"),
        ({"values": np.array([["a", "b"]])}, "expected numbers"),
        ({"values": np.full((3, 2), np.nan)}, "item 0"),
        ({"labels": KIND[:4]}, "labels have shape"),
        ({"labels": KIND + 0.5}, "not whole"),
        ({"labels": KIND, "classes": ["a", "b"]}, "label 2 has no name"),
        ({"labels": ["a"] * 40, "classes": ["b"]}, "got the label 'a'"),
        ({"classes": ["a"]}, "without labels"),
        ({"codec": "jpeg"}, "got codec 'jpeg', expected one of"),
        ({"codec": {"name": "scale", "sdt": 2.0}}, "unknown option 'sdt'"),
        ({"numbers": {"heat": [1.0]}}, r"'heat' of shape \(1,\), expected \(40,\)"),
        ({"held_out": 1.5}, "expected a fraction"),
        ({"held_out": DOTS[:, :1]}, r"held-out samples of shape \(1,\)"),
        ({"labels": KIND, "held_out": DOTS}, "labels for only one of the two parts"),
        ({"numbers": {"heat": DOTS[:, 0]}, "held_out": DOTS}, r"numbers \[\], expected \['heat'\]"),
    ],
)
def test_what_does_not_fit(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        from_arrays(**{"name": "dots", "values": DOTS, **options})


def test_a_run_goes_on_with_it_to_the_same_bytes(tmp_path: Path) -> None:
    config = {**points_config(steps=6, save_every=0, log_every=2), "data": {}}
    data = from_arrays("dots", DOTS, KIND)
    whole = studio.train(config, data=data, out=tmp_path / "whole", quiet=True)
    stopped = studio.train(
        config, data=data, out=tmp_path / "half", quiet=True, on_log=lambda line: line["step"] < 4
    )
    assert stopped.interrupted
    again = from_arrays("dots", torch.as_tensor(DOTS), KIND.tolist())
    run = studio.train(config, data=again, out=tmp_path / "half", resume=True, quiet=True)
    assert run.step == whole.step and not checkpoint_differences(
        *(checkpoint.find(r.folder) for r in (whole, run))
    )
    with pytest.raises(ValueError, match="data differs"):
        other = from_arrays("dots", DOTS + 1, KIND)
        studio.train(config, ["train.steps=8"], data=other, out=tmp_path / "half", resume=True, quiet=True)


def test_an_unknown_task_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    data = from_arrays("dots", DOTS, task="dance")
    with pytest.raises(ValueError, match="got task 'dance', expected one of"):
        studio.train({**points_config(), "data": {}}, data=data, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
