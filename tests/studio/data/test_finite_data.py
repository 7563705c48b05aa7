"""A value that is no number is found in the data, and named, before a network learns from it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import points_config
from torch.utils.data import Dataset, Subset, TensorDataset

import studio
from studio.data import Data
from studio.data.arrays import Arrays

pytestmark = pytest.mark.usefixtures("one_thread")


def points(*wrong: tuple[int, int, float]) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    for row, column, value in wrong:
        values[row, column] = value
    return values


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_file_with_one_is_refused_by_its_row(value: float, tmp_path: Path) -> None:
    """By the row that it has in the file, not in the part that is trained on."""
    path = tmp_path / "a.npz"
    np.savez(path, arr_0=points((31, 1, value), (7, 0, value)))
    tree = points_config(steps=2) | {"data": {"name": "npz", "path": str(path), "held_out": 0.3}}
    with pytest.raises(
        ValueError, match=rf"got {value} in item 7 at \[0\] of .*a.npz \(arr_0\); 2 of 40 items .*mend"
    ) as error:
        studio.train(tree, out=tmp_path / "run", quiet=True)
    assert "lr" not in str(error.value) and not (tmp_path / "run").exists()


class Endless(Dataset[Any]):
    """Gives one wrong value, far in."""

    def __init__(self, count: int, wrong: int):
        self.count, self.wrong = count, wrong

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> torch.Tensor:
        return torch.tensor([0.5, float("nan") if i == self.wrong else 1.0 + i / 100])


def test_tensors_are_looked_at_at_once(tmp_path: Path) -> None:
    wrong = torch.from_numpy(points((33, 1, np.nan)))
    sound = TensorDataset(torch.from_numpy(points()))
    half = torch.from_numpy(points((33, 1, np.inf))).bfloat16()
    data = Data(
        "mine",
        "points",
        (2,),
        Arrays(points(), None),
        Arrays(points((33, 1, np.nan)), None),
        codec={"name": "scale", "std": 1.0},
    )
    cases: list[dict[str, Any]] = [
        {"data": TensorDataset(wrong)},
        {"data": Subset(TensorDataset(wrong), list(range(40)))},
        {"data": data},
        {"data": TensorDataset(half)},
        {"data": sound, "held_out": TensorDataset(wrong)},
    ]
    for case in cases:
        with pytest.raises(ValueError, match=r"in item 33 at \[1\] of "):
            studio.train(points_config(steps=2), out=tmp_path / "run", quiet=True, **case)
    assert not (tmp_path / "run").exists()
    assert studio.train(points_config(steps=2), out=tmp_path / "run", quiet=True, data=sound).step == 2


def test_items_of_other_data_sets_are_looked_at_as_they_come(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got nan in item 301 at \[1\] of Endless, expected finite"):
        studio.train(
            points_config(steps=40, batch_size=32), data=Endless(600, 301), out=tmp_path / "run", quiet=True
        )
    assert (
        studio.train(
            points_config(steps=4, batch_size=32), data=Endless(600, -1), out=tmp_path / "sound", quiet=True
        ).step
        == 4
    )
