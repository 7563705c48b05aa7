"""Labels of a user's own data sets: found, checked whole and in range with their index, and told; never lost,
never shifted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import points_config
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset, random_split

import studio
from studio.data import from_dataset
from studio.data.loader import Batches
from studio.data.notes import of_data

X = torch.randint(0, 255, (24, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 3
PLAIN = TensorDataset(X, Y)


class Targets(Dataset):
    """As torchvision's sets are: labels lie open beside the items."""

    def __init__(self, targets: Any, shift: int = 0, name: str = "targets"):
        setattr(self, name, targets)
        self.y, self.shift = targets, shift

    def __len__(self) -> int:
        return 24

    def __getitem__(self, i: int) -> Any:
        return X[i], self.y[i] + self.shift


class Closed(Dataset):
    """Labels are only known from items."""

    def __init__(self, labels: Any, classes: Any = None):
        self.hidden = labels
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.hidden)

    def __getitem__(self, i: int) -> Any:
        return X[i % 24], self.hidden[i]


@pytest.mark.parametrize(
    "dataset",
    [
        PLAIN,
        Subset(PLAIN, range(2, 20)),
        random_split(PLAIN, [20, 4])[0],
        Subset(Subset(PLAIN, range(1, 23)), range(0, 20)),
        ConcatDataset([PLAIN, Subset(PLAIN, [0])]),
        list(zip(X, Y.tolist())),
        list(zip(X, Y)),
        [(x, {"label": int(y)}) for x, y in zip(X, Y)],
        TensorDataset(X, Y.double()),
        TensorDataset(X, Y[:, None]),
        Targets(Y),
        Targets(Y.tolist()),
        Targets(Y.numpy(), name="labels"),
        Subset(Targets(Y), range(20)),
        ConcatDataset([Targets(Y), PLAIN]),
    ],
)
def test_open_labels_are_found(dataset: Any) -> None:
    data = from_dataset(dataset)
    assert data.classes == ("0", "1", "2")
    values, cond = Batches(data.train, 18, seed=1).at(0)
    for value, label in zip(values, cond.label):  # a label stays with its value
        i = next(i for i in range(24) if torch.equal(X[i], value))
        assert int(label) == int(Y[i])
    assert f"{len(dataset)} pictures" in of_data(data) and "3 classes from labels: 0, 1, 2" in of_data(data)


def test_names_come_from_the_set_or_from_the_call() -> None:
    assert from_dataset(PLAIN, classes=["a", "b", "c", "d"]).classes == ("a", "b", "c", "d")
    assert "no sample to train on has the class d" in of_data(
        from_dataset(PLAIN, classes=["a", "b", "c", "d"])
    )
    assert (
        from_dataset(PLAIN, classes=3).classes
        == ("0", "1", "2")
        == from_dataset(Closed(Y.tolist()), classes=np.int64(3)).classes
    )
    named = Closed(Y.tolist(), ["x", "y", "z"])
    assert (
        from_dataset(named).classes
        == from_dataset(Subset(named, [3])).classes
        == from_dataset(ConcatDataset([named, named])).classes
        == ("x", "y", "z")
    )
    with pytest.raises(ValueError, match="different classes"):
        from_dataset(ConcatDataset([named, Closed(Y.tolist(), ["x", "y", "w"])]))
    left_out = from_dataset(PLAIN, classes=0)
    assert (
        left_out.classes == ()
        and Batches(left_out.train, 4, seed=0).at(0)[1].label is None
        and "left out" in of_data(left_out)
    )


@pytest.mark.parametrize(
    "dataset, classes, text",
    [
        (TensorDataset(X, torch.full((24,), 1.7)), None, r"item 0: got the label 1.7.*not whole"),
        (TensorDataset(X, torch.cat([Y[:5], torch.tensor([2.5]), Y[6:]])), None, r"2.5 \(index 5\)"),
        (TensorDataset(X, torch.full((24,), torch.nan)), None, r"item 0: got the label nan"),
        (TensorDataset(X, Y - 2), None, r"item 0: got the label -2.*negative"),
        (
            TensorDataset(X, Y + 1),
            ["a", "b", "c"],
            r"label 3 has no name, got 3 classes, expected 0 to 2 \(index 2\).*count from 1: subtract 1",
        ),
        (TensorDataset(X, Y), 2, r"label 2 has no name, got 2 classes.*index 2"),
        (TensorDataset(X, torch.eye(24)), None, "argmax"),
        (TensorDataset(X, Y * 100_000), None, "number them, or say"),
        (list(zip(X, "abc" * 8)), None, "class numbers"),
        (Closed(Y.tolist()), None, "pass classes=10"),
        (Subset(Closed(Y.tolist()), [0, 1]), None, "classes"),
        (Closed([1.5] * 4), 3, "item 0: got the label 1.5"),
        (Closed([7] * 4), 3, r"label 7.*index 0"),
        (Targets(Y, shift=1), None, "classes"),
        (TensorDataset(X, Y, Y, Y), None, "4 parts"),
        (list(X), 3, "the items have no labels"),
        (PLAIN, "abc", "list of their names"),
        (PLAIN, ["a", "a", "b"], "twice"),
        (PLAIN, True, "classes=True"),
        (PLAIN, 2.0, "classes=2.0"),
    ],
)
def test_what_is_no_label_is_refused(dataset: Any, classes: Any, text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=text):
        studio.train({"train": {"steps": 1}}, data=dataset, classes=classes, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "bad, text",
    [
        (3, r"label 3 has no name, got 3 classes.*index 17"),
        (-2, "item 17: got the label -2"),
        (1.2, "item 17: got the label 1.2"),
    ],
)
def test_each_batch_is_checked_with_its_index(bad: float, text: str) -> None:
    assert "of which each batch is checked" in of_data(from_dataset(Closed(Y.tolist()), classes=3))
    with pytest.raises(ValueError, match=text):
        Batches(
            from_dataset(Closed([*Y.tolist()[:17], bad, *Y.tolist()[18:]]), classes=3).train, 24, seed=0
        ).at(0)


def test_no_label_is_minus_one() -> None:
    data = from_dataset(TensorDataset(X, torch.where(Y == 1, -1, Y)))
    assert data.classes == ("0", "1", "2") and sorted(
        set(Batches(data.train, 24, seed=0).at(0)[1].label.tolist())
    ) == [-1, 0, 2]
    assert "8 without a label" in of_data(data) and "no sample to train on has the class 1" in of_data(data)


def test_held_out_labels_are_checked_too() -> None:
    assert from_dataset(PLAIN, Subset(PLAIN, [0, 1])).held_out.labels.tolist() == [0, 1]
    with pytest.raises(ValueError, match="held_out TensorDataset: label 3 has no name"):
        from_dataset(PLAIN, TensorDataset(X, Y + 1))
    with pytest.raises(ValueError, match="expected shape"):
        from_dataset(PLAIN, TensorDataset(X[..., :4], Y))


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 9, 1), (16, 16, 2), (16, 12, 5), (9, 8, 4)])
def test_channels_last_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"look like \(H, W, C\).*permute"):
        from_dataset([torch.zeros(shape, dtype=torch.uint8)] * 3)


@pytest.mark.parametrize(
    "shape", [(1, 8, 1), (1, 8, 3), (3, 8, 4), (2, 8, 8), (5, 8, 8), (3, 8, 8), (16, 4, 4)]
)
def test_channels_first_are_taken(shape: tuple[int, ...]) -> None:
    assert from_dataset([torch.zeros(shape)] * 3).shape == shape


def test_the_first_lines_tell_what_was_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    run = studio.train(
        points_config(steps=2),
        data=TensorDataset(points, torch.arange(40) % 2),
        classes=["left", "right"],
        out=tmp_path / "run",
    )
    assert (
        "TensorDataset: 40 points of (2,), none held out; 2 classes from labels: left, right"
        in capsys.readouterr().err.splitlines()[0]
    )
    assert (
        studio.load(run.folder, device="cpu")
        .sample(labels="right", seeds=[0], num_steps=1)
        .recipes[0]["label"]
        == 1
    )
    with pytest.raises(ValueError, match="classes without a data set of your own"):
        studio.train(points_config(steps=2), classes=2, out=tmp_path / "other", quiet=True)
