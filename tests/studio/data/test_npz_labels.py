"""An .npz says which of its arrays are labels, and how its pictures lie; what is asked for and is not there
is an error."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.data import load_data
from studio.data.notes import of_data

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (12, 8, 9, 3), dtype=np.uint8)
Y = np.arange(12) % 4


def load(path: Path, *arrays: Any, named: dict[str, Any] | None = None, **options: Any) -> Any:
    np.savez(path / "a.npz", *arrays, **(named or {}))
    return load_data({"name": "npz", "path": str(path / "a.npz"), "held_out": 0.0, **options})


def test_the_second_array_is_the_labels(tmp_path: Path) -> None:
    data = load(tmp_path, PICTURES, Y)
    assert data.classes == ("0", "1", "2", "3") and data.train.labels.tolist() == Y.tolist()
    assert "12 pictures (C, H, W) of (3, 8, 9), none held out; 4 classes from the array arr_1" in of_data(
        data
    )
    # whole, whatever their type
    assert load(tmp_path, PICTURES, Y.astype(float)).train.labels.dtype == np.int64
    assert load(tmp_path, PICTURES, Y, labels="none").classes == ()
    assert load(tmp_path, named={"arr_0": PICTURES, "arr_1": Y, "labels": Y // 2}).classes == ("0", "1")
    assert load(tmp_path, named={"images": PICTURES, "arr_1": Y}).classes == ()


@pytest.mark.parametrize(
    "arrays, named, options, text",
    [
        ((PICTURES, Y + 0.7), {}, {}, r"got the label 0.7 \(index 0\)"),
        ((PICTURES, Y[:5]), {}, {}, r"arr_1\): labels have shape \(5,\)"),
        ((PICTURES, np.eye(12)), {}, {}, "argmax"),
        ((PICTURES,), {"labels": np.where(Y == 3, np.nan, Y)}, {}, r"label nan \(index 3\)"),
        ((PICTURES,), {"labels": np.array(list("abcabcabc bc"))}, {}, r"empty label \(index 9"),
        ((PICTURES, Y), {}, {"labels": "lables"}, "'lables' among them"),
        ((), {"images": PICTURES, "labels": Y}, {"labels": "lables"}, "did you mean 'labels'"),
        ((PICTURES,), {"pics": PICTURES}, {"images": "pisc"}, "did you mean 'pics'"),
        ((PICTURES, Y), {"classes": np.array(["a", "b", "c"])}, {}, "label 3 has no name, got 3 classes"),
        ((PICTURES, Y), {"classes": np.array(["a", "b", "a", "c"])}, {}, "twice"),
        ((PICTURES, Y + 1), {"classes": np.array(["a", "b", "c", "d"])}, {}, "count from 1: subtract 1"),
        (
            (PICTURES,),
            {"numeric": np.zeros((12, 2)), "numeric_names": np.array(["a"])},
            {},
            "1 numeric_names for 2 columns",
        ),
        ((PICTURES[..., 0],), {}, {"layout": "hwc"}, "got data.layout=hwc"),
    ],
)
def test_what_does_not_fit_is_refused(
    arrays: Any, named: Any, options: Any, text: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=text):
        load(tmp_path, *arrays, named=named, **options)


@pytest.mark.parametrize(
    "shape, want",
    [
        ((8, 9, 2), (2, 8, 9)),
        ((8, 9, 5), (5, 8, 9)),
        ((8, 9, 1), (1, 8, 9)),
        ((9, 8, 4), (4, 9, 8)),
        ((3, 8, 9), (3, 8, 9)),
        ((2, 8, 9), (2, 8, 9)),
        ((5, 8, 9), (5, 8, 9)),
        ((3, 6, 5), (3, 6, 5)),
    ],
)
def test_shapes_that_tell(shape: tuple[int, ...], want: tuple[int, ...], tmp_path: Path) -> None:
    values = RNG.integers(0, 256, (6, *shape), dtype=np.uint8)
    got = load(tmp_path, values).train.values
    assert got.shape[1:] == want and np.array_equal(
        got, values if shape == want else values.transpose(0, 3, 1, 2)
    )


@pytest.mark.parametrize(
    "shape", [(1, 8, 1), (1, 8, 3), (3, 8, 4), (1, 8, 4), (3, 8, 3), (8, 8, 8), (4, 4, 4)]
)
def test_shapes_that_do_not(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = RNG.integers(0, 256, (6, *shape), dtype=np.uint8)
    with pytest.raises(
        ValueError, match=r"could be \(C, H, W\) or \(H, W, C\).*set data.layout=chw or data.layout=hwc"
    ):
        load(tmp_path, values)
    assert np.array_equal(load(tmp_path, values, layout="chw").train.values, values)
    assert np.array_equal(load(tmp_path, values, layout="hwc").train.values, values.transpose(0, 3, 1, 2))
