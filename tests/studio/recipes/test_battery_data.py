"""Measurements of one's own: what stands after the last measured cycle, matrices that are none, and cells
that were treated alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.data import load_data
from studio.recipes.battery.cells import CYCLES, simulate
from studio.recipes.battery.measured import read
from studio.recipes.battery.source import apart


def written(path: Path, after: Any = np.nan, **more: Any) -> dict[str, np.ndarray]:
    """Twelve cells in shares of the first, of which 20 to 42 points were measured."""
    made = simulate(12, seed=3)
    ends = np.arange(20, 44, 2)
    soh = (made["curve"] / 100).astype(np.float16)
    soh[np.arange(256) >= ends[:, None]] = after
    arrays = {"soh": soh, "valid_len": ends, "matrix": made["matrix"], **more}
    np.savez(path, **arrays)
    return arrays


def test_what_stands_after_the_end_moves_nothing(tmp_path: Path) -> None:
    """How many points were measured is the life that is foretold: nothing else tells of it."""
    first, second = tmp_path / "a" / "cells.npz", tmp_path / "b" / "cells.npz"
    for path, after in ((first, np.nan), (second, 0.77)):
        path.parent.mkdir()
        arrays = written(path, after)
    data, other = (load_data({"name": "battery", "path": str(p), "held_out": 0.25}) for p in (first, second))
    assert data.hash == other.hash and data.codec == other.codec and data.fields == other.fields
    np.testing.assert_array_equal(data.train.values, other.train.values)
    assert "valid" not in data.train.named and data.numeric == ()
    cell = read(first)
    np.testing.assert_allclose(cell.curves[0, :20], 100 * arrays["soh"][0, :20].astype(float), rtol=1e-6)
    assert (cell.curves[0, 20:] == 0).all() and "times 100" in data.notes[0]
    del arrays["valid_len"]
    np.savez(
        first,
        **(arrays | {"soh": np.where(np.arange(256) < np.arange(20, 44, 2)[:, None], arrays["soh"], np.nan)}),
    )
    np.testing.assert_array_equal(read(first).curves, cell.curves)


def test_matrices_of_zeros_are_missing(tmp_path: Path) -> None:
    matrix = simulate(12, seed=3)["matrix"]
    matrix[4] = 0
    written(tmp_path / "x.npz", q=matrix)
    data = load_data({"name": "battery", "path": str(tmp_path / "x.npz"), "matrix": "q", "held_out": 0})
    assert np.isnan(data.train.named["matrix"][4]).all() and np.isfinite(data.train.named["matrix"][5]).all()
    assert any("1 matrices are all zeros (first: cell 4)" in note for note in data.notes)
    written(tmp_path / "x.npz", q=0 * matrix)
    assert read(tmp_path / "x.npz", matrix="q").matrices is None


def test_cells_of_one_protocol_stay_together(tmp_path: Path) -> None:
    protocol = np.repeat([[3.6, 4.8], [5.4, 4.8], [3.6, 5.0], [8.0, 1.0]], 3, axis=0)
    written(tmp_path / "x.npz", cond=protocol)
    options = {"name": "battery", "path": str(tmp_path / "x.npz"), "held_out": 0.25}
    data = load_data({**options, "protocol": "cond"})
    assert data.rows is not None
    train, rest = data.rows
    assert len(rest) == 3 and len(np.unique(protocol[rest], axis=0)) == 1
    assert not {*map(tuple, protocol[train])} & {*map(tuple, protocol[rest])}
    alone = load_data(options).rows
    assert alone is not None and len(alone[1]) == 3
    every = apart(np.repeat([0, 1], 5), 0.99)
    assert len(every[0]) == 5 and len(every[1]) == 5  # one of two always stays


def test_a_table(tmp_path: Path) -> None:
    lines = ["cell,cycle,capacity,protocol"]
    for name, slope, end in (("a", 0.02, 400), ("b", 0.05, 95)):
        lines += [f"{name},{n},{1.1 * (1 - slope * n / 100):.9f},fast" for n in range(1, end + 1, 2)]
    (tmp_path / "cells.csv").write_text("\n".join(lines))
    found = read(tmp_path / "cells.csv")
    at = CYCLES[1:40]
    np.testing.assert_allclose(found.curves[0, 1:40], 100 * (1 - 0.0002 * at) / (1 - 0.0002), rtol=1e-5)
    assert (found.curves[1, 10:] == 0).all() and found.curves[1, 9] > 90 and found.matrices is None
    assert found.groups.tolist() == [0, 0]
    data = load_data({"name": "battery", "path": str(tmp_path / "cells.csv"), "held_out": 0})
    assert data.fields == () and data.shape == (256,)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"soh": np.ones((12, 100))}, r"soh of shape \(12, 100\), expected \(N, 256\)"),
        ({"valid_len": np.ones(3)}, "got 3 of valid_len for 12 cells"),
        ({"valid_len": np.zeros(12)}, "got no measured points, or more than 256 in cell 0"),
        ({"valid_len": np.full(12, 200)}, "got a gap before the last measured point in cell 0"),
        ({"matrix": np.ones((12, 5, 5))}, r"matrix of \(12, 5, 5\), expected \(N, 20, 50\)"),
        ({"protocol": np.ones(4)}, "got 4 of protocol for 12 cells"),
    ],
)
def test_what_are_no_cells(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    written(tmp_path / "x.npz", **change)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "text, message",
    [
        ("cell,cycle\na,1", "expected cell, cycle and capacity"),
        ("cell,cycle,capacity\na,one,2", "line 2: got no numbers"),
        ("cell,cycle,capacity\na,1,inf", "line 2: got"),
        ("cell,cycle,capacity\na,90,1", "begins at cycle 90"),
        ("cell,cycle,capacity\n", "has no lines"),
    ],
)
def test_what_is_no_table(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "x.csv")


def test_arrays_that_are_named_and_not_there(tmp_path: Path) -> None:
    written(tmp_path / "x.npz")
    for option in ("matrix", "protocol"):
        with pytest.raises(ValueError, match=f"has no array 'q', expected one as data.{option} says"):
            read(tmp_path / "x.npz", **{option: "q"})
    with pytest.raises(ValueError, match="does not exist"):
        read(tmp_path / "no.csv")
