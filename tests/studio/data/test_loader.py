"""Which samples a step sees is a function of (seed, step): not of workers, of how the batch is split, or of
where a run was resumed."""

from itertools import count, islice

import numpy as np
import pytest
import torch

from studio.data import Arrays, from_dataset
from studio.data.arrays import split
from studio.data.loader import Batches, fetch


def numbers(n: int) -> Arrays:
    """Samples that carry their own index as value, label and number."""
    i = np.arange(n)
    return Arrays(i[:, None].astype(np.float32), i, i[:, None].astype(np.float64) / 10)


@pytest.mark.parametrize("n, batch", [(24, 8), (23, 8), (5, 8), (8, 8)])
def test_every_sample_once_per_epoch(n: int, batch: int) -> None:
    batches = Batches(numbers(n), batch, seed=4)
    epochs = 3
    steps = -(-epochs * n // batch)
    drawn = [i for step in range(steps) for i in batches.indices(step)][: epochs * n]
    for e in range(epochs):
        assert sorted(drawn[e * n : (e + 1) * n]) == list(range(n))
    if n > 5:
        assert drawn[:n] != drawn[n : 2 * n] != list(range(n)), "each epoch has an order of its own"


def test_the_order_is_a_function_of_seed_and_step() -> None:
    one, two, other = (Batches(numbers(23), 8, seed=s) for s in (4, 4, 5))
    forward = [one.indices(k) for k in range(12)]
    # in any order of asking
    assert [two.indices(k) for k in (11, 3, 0, 7)] == [forward[k] for k in (11, 3, 0, 7)]
    assert [other.indices(k) for k in range(3)] != forward[:3]


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_effective_batch(world: int) -> None:
    whole = Batches(numbers(23), 8, seed=4)
    parts = [Batches(numbers(23), 8, seed=4, rank=r, world=world) for r in range(world)]
    for step in range(7):
        assert [i for p in parts for i in p.indices(step)] == whole.indices(step)
    # places in the batch, which key the noise
    assert [int(i) for p in parts for i in p.local] == list(range(8))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers: int) -> None:
    plain = Batches(numbers(23), 8, seed=4)
    read_ahead = Batches(numbers(23), 8, seed=4, workers=workers)
    for start in (0, 5):
        for k, (values, cond) in enumerate(islice(read_ahead.along(count(start)), 9)):
            want, want_cond = plain.at(start + k)
            assert (
                torch.equal(values, want)
                and torch.equal(cond.label, want_cond.label)
                and torch.equal(cond.numeric, want_cond.numeric)
            )


def test_conditions_travel_with_their_samples() -> None:
    values, cond = Batches(numbers(23), 8, seed=4).at(2)
    assert torch.equal(values[:, 0].long(), cond.label)
    torch.testing.assert_close(cond.numeric, values / 10)


class Own(torch.utils.data.Dataset):
    """Items of the three forms that are understood."""

    classes = ("a", "b")

    def __init__(self, form: str):
        self.form = form

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> object:
        value = torch.tensor([float(i), 0.0])
        return {
            "bare": value,
            "pair": (value, i % 2),
            "dict": (value, {"label": i % 2, "numeric": [i / 10.0]}),
        }[self.form]


@pytest.mark.parametrize("form", ["bare", "pair", "dict"])
def test_own_data_sets(form: str) -> None:
    data = from_dataset(Own(form))
    assert (data.shape, data.classes, data.task) == ((2,), () if form == "bare" else ("a", "b"), "points")
    values, cond = Batches(data.train, 6, seed=0).at(0)
    index = values[:, 0].long()
    assert sorted(index.tolist()) == list(range(6))
    assert cond.label is None if form == "bare" else torch.equal(cond.label, index % 2)
    if form == "dict":
        assert cond.numeric is not None
        torch.testing.assert_close(
            cond.numeric * data.numeric_std[0] + data.numeric_mean[0], index[:, None] / 10
        )
    shown, _ = fetch(data.train, [(0, i) for i in range(3)])
    assert shown[:, 0].tolist() == [0, 1, 2]


def test_a_batch_must_divide_among_processes() -> None:
    with pytest.raises(ValueError, match="batch_size 9 on 2 processes.*change train.batch_size"):
        Batches(numbers(23), 9, seed=0, world=2)


def test_held_out_samples_are_not_trained_on() -> None:
    train, rest = split(100, 0.1)
    assert (len(train), len(rest)) == (90, 10) and sorted([*train, *rest]) == list(range(100))
    assert np.array_equal(split(100, 0.1)[1], rest) and not np.array_equal(rest, np.arange(90, 100))
    assert len(split(1, 0.9)[0]) == 1  # something to train on is left
    with pytest.raises(ValueError, match="held_out=1.0"):
        split(10, 1.0)


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(ValueError, match="empty data set"):
        from_dataset([])
    with pytest.raises(ValueError, match=r"shape \(2, 2\).*expected \(C, H, W\)"):
        from_dataset([torch.zeros(2, 2)])
