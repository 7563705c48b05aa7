"""Arrays as people save them: flat pictures, words for labels, objects, and arrays that do not go
together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.data import load_data
from studio.evaluation.sets import open_set

GREY = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (12, 3, 16, 16), dtype=np.uint8)
WORDS = np.array(["cat", "dog", "10", "2", "cat", "dog", "²", "2", "cat", "dog", "10", "cat"])


def load(folder: Path, options: dict[str, Any] | None = None, **arrays: Any) -> Any:
    np.savez(folder / "a.npz", **arrays)
    return load_data({"name": "npz", "path": str(folder / "a.npz"), "held_out": 0.0, **(options or {})})


def test_flat_pictures_are_pictures(tmp_path: Path) -> None:
    data = load(tmp_path, images=GREY.reshape(12, -1))
    assert (
        data.task == "image"
        and np.array_equal(data.train.values[:, 0], GREY)
        and np.array_equal(open_set(tmp_path / "a.npz").values[:], GREY[:, None])
    )
    flat = COLOUR.reshape(12, -1)
    assert np.array_equal(load(tmp_path, {"layout": "chw"}, images=flat).train.values, COLOUR)
    last = COLOUR.transpose(0, 2, 3, 1).reshape(12, -1)
    assert np.array_equal(load(tmp_path, {"layout": "hwc"}, images=last).train.values, COLOUR)
    with pytest.raises(
        ValueError, match=r"flat pictures of 768 numbers, which are 3×16×16 .* set data.layout=chw"
    ):
        load(tmp_path, images=flat)
    with pytest.raises(ValueError, match=r"uint8 rows of 70 numbers, expected pictures"):
        load(tmp_path, images=GREY.reshape(12, -1)[:, :70])
    # numbers with a meaning of their own
    assert load(tmp_path, images=GREY.reshape(12, -1).astype(np.float32)).task == "points"
    assert load(tmp_path, images=GREY.reshape(12, -1)[:, :4]).task == "points"


@pytest.mark.parametrize("words", [WORDS, WORDS[:, None], np.char.encode(WORDS, "utf-8")])
def test_words_are_the_names_of_classes(tmp_path: Path, words: np.ndarray) -> None:
    data = load(tmp_path, images=GREY, labels=words)
    assert (
        data.classes == ("2", "10", "cat", "dog", "²")
        and [data.classes[k] for k in data.train.labels] == WORDS.tolist()
    )
    judged = open_set(tmp_path / "a.npz")
    assert judged.classes == data.classes and judged.labels.tolist() == data.train.labels.tolist()
    named = load(
        tmp_path, images=GREY, labels=words, classes=np.array(["dog", "²", "cat", "bird", "10", "2"])
    )
    assert named.classes[3] == "bird" and [named.classes[k] for k in named.train.labels] == WORDS.tolist()
    with pytest.raises(ValueError, match=r"got the label '10' \(index 2\), expected one of the classes"):
        load(tmp_path, images=GREY, labels=words, classes=np.array(["dog", "²", "cat", "2"]))


@pytest.mark.parametrize("name", ["images", "labels", "classes", "numeric"])
def test_objects_are_never_loaded_and_named(tmp_path: Path, name: str) -> None:
    arrays = {
        "images": GREY,
        "labels": np.arange(12) % 2,
        "classes": np.array(["a", "b"]),
        "numeric": np.zeros((12, 1)),
    }
    with pytest.raises(
        ValueError, match=rf"a.npz: {name} holds pickled objects, which are never loaded, expected"
    ):
        load(tmp_path, **{**arrays, name: arrays[name].astype(object)})
    # what is not asked for may be anything
    assert load(tmp_path, **arrays, about=np.array([{}])).classes == ("a", "b")
    if name in ("images", "labels"):
        np.savez(tmp_path / "a.npz", **{**arrays, name: arrays[name].astype(object)})
        with pytest.raises(ValueError, match=f"{name} is not readable: it holds pickled objects"):
            open_set(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"labels": WORDS[:5]}, r"labels have shape \(5,\), expected \(12,\)"),
        ({"labels": np.arange(13)}, r"shape \(13,\)"),
        ({"labels": np.array(3)}, r"shape \(\)"),
        ({"labels": WORDS.reshape(6, 2)}, r"shape \(6, 2\)"),
        ({"numeric": np.zeros(12)}, r"numeric has shape \(12,\)"),
        ({"images": np.array(3)}, "holds no samples"),
    ],
)
def test_arrays_that_do_not_go_together(tmp_path: Path, arrays: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        load(tmp_path, **{"images": GREY, **arrays})


def test_one_array_alone_is_no_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", GREY)
    with pytest.raises(
        ValueError, match=r"it is one array alone; save it with np.savez\('a.npz', images=...\)"
    ):
        load_data({"name": "npz", "path": str(tmp_path / "a.npy")})
