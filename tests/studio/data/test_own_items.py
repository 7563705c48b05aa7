"""Items of a user's own data set: what is random in them is a function of (seed, epoch, index), all are
alike, and other content is not gone on with."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import checkpoint_differences, last_checkpoint, points_config
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

import studio
from studio.data import from_dataset
from studio.data.loader import Batches

X = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))


class Jittered(Dataset):
    """A random transform from each of the global generators."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, i: int) -> torch.Tensor:
        return X[i] + 0.1 * torch.randn(2) + 0.1 * np.random.normal() + 0.1 * random.random()


def test_random_transforms_are_a_function_of_epoch_and_index() -> None:
    data = Jittered()
    state = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    one, two = Batches(data, 8, seed=3), Batches(data, 8, seed=3, workers=2)
    forward = [one.at(k)[0] for k in range(12)]
    assert torch.equal(one.at(7)[0], forward[7])  # in any order of asking
    for k, (values, _) in enumerate(two.along(range(4, 10)), 4):
        assert torch.equal(values, forward[k])
    where = {i: v for k in range(5) for i, v in zip(one.indices(k), forward[k])}
    again = {i: v for k in range(5, 10) for i, v in zip(one.indices(k), forward[k])}
    assert not any(torch.equal(where[i], again[i]) for i in range(40)), "every epoch draws anew"
    assert not torch.equal(Batches(data, 8, seed=4).at(0)[0].sort(0)[0], forward[0].sort(0)[0])
    assert (
        torch.equal(torch.get_rng_state(), state[0])
        and np.random.get_state()[1].tolist() == state[1]
        and random.getstate() == state[2]
    )  # type: ignore[union-attr]


@pytest.mark.parametrize("workers", [0, 1])
def test_eight_steps_are_four_and_four(workers: int, tmp_path: Path) -> None:
    config = points_config(steps=8, workers=workers, schedule="constant")
    whole = studio.train(config, data=Jittered(), out=tmp_path / "whole", quiet=True)
    studio.train(config, ["train.steps=4"], data=Jittered(), out=tmp_path / "parts", quiet=True)
    torch.manual_seed(99), np.random.seed(99), random.seed(99)
    parts = studio.train(
        config, ["train.steps=8"], data=Jittered(), out=tmp_path / "parts", resume=True, quiet=True
    )
    assert checkpoint_differences(last_checkpoint(whole.folder), last_checkpoint(parts.folder)) == []


class Odd(Dataset):
    """Alike but for item 17."""

    def __init__(self, item: Any, odd: Any):
        self.item, self.odd = item, odd

    def __len__(self) -> int:
        return 600

    def __getitem__(self, i: int) -> Any:
        return self.odd if i == 17 else self.item


V = torch.zeros(2)


@pytest.mark.parametrize(
    "item, odd, text",
    [
        (V, torch.zeros(3), r"item 17 of shape \(3,\)"),
        (V, V.double(), r"item 17 of shape \(2,\) \(float64\)"),
        ((V, 0), V, "item 17 .*with no conditions"),
        ((V, {"label": 0}), (V, {"label": 0, "numeric": [1.0]}), "item 17 .*numeric"),
        ((V, {"label": 0, "numeric": [1.0]}), (V, {"label": 0}), "item 17"),
        ((V, {"numeric": [1.0]}), (V, {"numeric": [1.0, 2.0]}), r"item 17 .*numeric \[2\]"),
        ((V, 0), (V, {"lable": 0}), "condition 'lable' of item 17"),
        (V, "text", "str as the value of item 17"),
    ],
)
def test_items_that_are_not_alike_are_named(item: Any, odd: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        data = from_dataset(
            Odd(item, odd),
            classes=2
            if isinstance(item, tuple) and "numeric" not in str(item)
            else None
            if not isinstance(item, tuple) or "label" not in item[1]
            else 2,
        )
        Batches(data.train, 600, seed=0).at(0)


def test_numbers_of_items_are_conditions() -> None:
    items = [(x, {"numeric": [float(i)]}) for i, x in enumerate(X)]
    data = from_dataset(items)
    assert (
        data.numeric == ("numeric0",)
        and data.numeric_mean == (19.5,)
        and data.numeric_range == ((0.0, 39.0),)
    )
    assert torch.allclose(Batches(data.train, 40, seed=0).at(0)[1].numeric.std(correction=0), torch.ones(()))


def test_other_content_is_not_gone_on_with(tmp_path: Path) -> None:
    config = points_config(steps=2)
    studio.train(config, data=TensorDataset(X), out=tmp_path / "run", quiet=True)
    other = X.clone()
    other[31, 1] += 1e-3
    with pytest.raises(ValueError, match="data differs from that of the run being resumed"):
        studio.train(
            config,
            ["train.steps=4"],
            data=TensorDataset(other),
            out=tmp_path / "run",
            resume=True,
            quiet=True,
        )
    assert (
        studio.train(
            config,
            ["train.steps=4"],
            data=TensorDataset(X.clone()),
            out=tmp_path / "run",
            resume=True,
            quiet=True,
        ).step
        == 4
    )


def test_hashes_follow_the_content() -> None:
    a, b = (
        TensorDataset(X, torch.arange(40) % 2),
        TensorDataset(X, torch.arange(40) % 2 ^ (torch.arange(40) == 39).long()),
    )
    of = [
        from_dataset(d, classes=2).hash
        for d in (
            a,
            b,
            Subset(a, range(20)),
            Subset(a, range(1, 21)),
            ConcatDataset([a, b]),
            list(a),
            list(b),
            Subset(list(a), range(20)),
        )
    ]
    assert len(set(of)) == len(of) and all(len(h) == 16 for h in of)
    assert from_dataset(Jittered()).hash == from_dataset(Jittered()).hash != ""

    class Unsteady(Jittered):
        draws = np.random.default_rng(0)

        def __getitem__(self, i: int) -> torch.Tensor:
            return X[i] + float(self.draws.normal())

    assert from_dataset(Unsteady()).hash == ""
