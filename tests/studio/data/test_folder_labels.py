"""What a folder of pictures says of its classes, in training and in evaluation alike: names of folders,
labels.csv, EDM's dataset.json, our own recipes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import studio
from studio.data import Data, load_data
from studio.data.notes import of_data
from studio.evaluation.sets import open_set


def put(root: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (6, 6), dtype=np.uint8)).save(root / name)
    return root


def load(root: Path) -> Data:
    """As training reads it; evaluation reads the same classes."""
    data, judged = (
        load_data({"name": "images", "path": str(root), "held_out": 0.0, "cache": False}),
        open_set(root),
    )
    assert (
        (judged.labels is None) == (data.train.labels is None)
        and judged.classes == data.classes
        and len(judged) == len(data.train)
    )
    if judged.labels is not None:
        assert judged.labels.tolist() == data.train.labels.tolist()
    return data


def test_numbered_class_folders_are_classes(tmp_path: Path) -> None:
    data = load(put(tmp_path, *(f"{k:03d}/{i}.png" for k in range(3) for i in range(2))))
    assert data.classes == ("000", "001", "002") and "3 classes from its folders" in of_data(data)
    # every class counts from 0
    data = load(put(tmp_path / "b", *(f"{k:05d}/{i:06d}.png" for k in range(2) for i in range(2))))
    assert data.classes == ("00000", "00001")


@pytest.mark.parametrize(
    "names",
    [
        ["00000/img00000000.png", "00000/img00000999.png", "00001/img00001000.png"],
        ["000/000000.png", "001/001000.png", "001/001999.png"],
        ["000000/000007.png", "001000/001003.png"],
    ],
)
def test_parts_of_one_row_of_files_are_no_classes(names: list[str], tmp_path: Path) -> None:
    data = load(put(tmp_path, *names))
    assert data.classes == () and data.train.labels is None and "share out one row" in of_data(data)


def test_labels_of_edm(tmp_path: Path) -> None:
    names = ["00000/img00000000.png", "00000/img00000001.png", "00001/img00001000.png"]
    put(tmp_path, *names)
    table = tmp_path / "dataset.json"
    table.write_text(json.dumps({"labels": [[n, k] for n, k in zip(names, (2, 0, 2))]}))
    data = load(tmp_path)
    assert data.classes == ("0", "2") and data.train.labels.tolist() == [1, 0, 1]
    assert "2 classes from dataset.json: 0, 2" in of_data(data)
    table.write_text(json.dumps({"labels": None}))
    assert load(tmp_path).classes == ()
    for labels, text in (
        ([[names[0], 0]], "no label for 00000/img00000001.png"),
        ([[n, 0] for n in (*names, "x.png")], "a label for x.png"),
        ([[n, 0.5] for n in names], "label 0.5"),
        ([[n, 0] for n in (*names, names[0])], "two labels"),
        ([names], "not readable"),
        (7, "not readable"),
    ):
        table.write_text(json.dumps({"labels": labels}))
        with pytest.raises(ValueError, match=text):
            load(tmp_path)


def test_our_own_samples_are_training_data(picture_run: Any, tmp_path: Path) -> None:
    studio.generate(
        str(picture_run.folder), num=6, out=tmp_path / "set", num_steps=1, labels="ring,bar,bar", quiet=True
    )
    data = load_data({"name": "images", "path": str(tmp_path / "set"), "held_out": 0.0, "cache": False})
    assert (
        data.classes == ("bar", "ring")
        and data.train.labels.tolist() == [1, 0, 0, 1, 0, 0]
        and "from the recipes of its samples" in of_data(data)
    )
    assert len(data.train) == 6
    next((tmp_path / "set").glob("000/*.png")).unlink()
    with pytest.raises(ValueError, match="holds 5 of 6 samples; run the same studio generate again"):
        load_data({"name": "images", "path": str(tmp_path / "set")})


def test_a_table_of_labels_is_read_to_the_letter(tmp_path: Path) -> None:
    put(tmp_path, "0.png", "1.png")
    table = tmp_path / "labels.csv"
    table.write_text("\ufefffile,label\n0.png, x \n./1.png,cat\n7.png,dog\n")
    data = load(tmp_path)
    assert sorted(data.classes) == [
        " x ",
        "cat",
    ] and "(1 of its rows name no picture that is there, first 7.png)" in of_data(data)
    for text, wrong in (
        ("0.png,dog, small\n1.png,cat\n", "line 1: .*quote"),
        ("0.png,\n1.png,cat", "line 1"),
        ("0.png,a\n0.png,b\n1.png,a", "which is 'a' further up"),
        ("0.png\n1.png,a", "line 1"),
    ):
        table.write_text(text)
        with pytest.raises(ValueError, match=wrong):
            load(tmp_path)


def test_second_arrays_are_labels_when_samples_are_judged(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (6, 8, 9, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", pictures, np.arange(6) % 2)
    assert open_set(tmp_path / "a.npz").labels.tolist() == [0, 1] * 3
    for wrong, text in ((np.arange(5), r"shape \(5,\)"), (np.arange(6) + 0.5, "label 0.5")):
        np.savez(tmp_path / "a.npz", pictures, wrong)
        with pytest.raises(ValueError, match=text):
            open_set(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", pictures.transpose(0, 3, 1, 2)[:, :, :, :2])
    with pytest.raises(ValueError, match="could be"):
        open_set(tmp_path / "a.npz")
