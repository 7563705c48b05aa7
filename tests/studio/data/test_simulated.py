"""Simulations without an end: samples by their number alone, in any company, and what else reads them."""

import numpy as np
import pytest
import torch

from studio.data import Data
from studio.data.arrays import Arrays
from studio.data.loader import Batches, fetch, spread
from studio.data.notes import of_data
from studio.data.simulated import BLOCK, Simulated


def block(k: int) -> Arrays:
    rng = np.random.default_rng(k)
    values = rng.standard_normal((BLOCK, 2)).astype(np.float32)
    return Arrays(values, named={"twice": 2 * values})


def test_a_sample_is_a_function_of_its_number_whatever_it_comes_with() -> None:
    data = Simulated(block)
    indices = [BLOCK + 1, 0, 3 * BLOCK, BLOCK - 1, 5]
    values, cond = data.__getitems__(indices)
    assert torch.equal(cond.named["twice"], 2 * values)
    for i, value in zip(indices, values):
        assert np.array_equal(value.numpy(), block(i // BLOCK).values[i % BLOCK])
        assert torch.equal(data[i][0], value)


@pytest.mark.parametrize("world", [1, 2])
def test_every_step_sees_new_samples_and_processes_share_them(world: int) -> None:
    size, steps = 1024, (0, 1, 4, 5)
    mine = [Batches(Simulated(block), size, seed=3, rank=r, world=world) for r in range(world)]
    seen = [torch.cat([part.at(step)[0] for part in mine]) for step in steps]
    for step, values in zip(steps, seen):
        start = step * size
        assert np.array_equal(values.numpy(), block(start // BLOCK).values[start % BLOCK :][:size])
    assert len(torch.cat(seen).unique(dim=0)) == len(steps) * size


def test_what_looks_at_some_takes_the_first_and_says_that_there_is_no_end() -> None:
    data = Data("d", "vectors", (2,), Simulated(block), codec={"name": "scale"})
    assert spread(data.train, 3) == [0, 1, 2]
    assert np.array_equal(fetch(data.train, [(0, 2)])[0][0].numpy(), block(0).values[2])
    assert of_data(data, "vectors").startswith("d: as training goes, simulated vectors of (2,)")
