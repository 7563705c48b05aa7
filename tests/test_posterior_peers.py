"""The score that both sides of the benchmark of posteriors get, and the draws that it is taken of."""

import numpy as np
import pytest
import torch

from benchmarks import posterior_samples
from benchmarks.posterior_samples import DRAWS, FILE, SIDES, TASKS, packed, unpacked
from benchmarks.two_sample import c2st
from studio.tasks import build


def test_equal_samples_are_not_told_apart_and_far_ones_always() -> None:
    random = torch.Generator().manual_seed(0)
    first = torch.randn((3, 250, 2), generator=random)
    second = torch.randn((3, 250, 2), generator=random) + torch.tensor([0.0, 1.0, 6.0])[:, None, None]
    told = c2st(first, second, most=100)
    best = 0.5 + 0.5 * torch.special.erf(torch.tensor(0.5))  # means that lie √2 apart: Φ(1/√2)
    assert abs(told[0] - 0.5) < 0.07 and abs(told[1] - best) < 0.05 and told[2] > 0.99
    assert torch.equal(*(c2st(first, second, most=2) for _ in range(2)))


def test_draws_are_kept_as_whole_numbers_within_the_prior() -> None:
    task = build("slcp")
    draws = task.simulate(50, seed=1)["values"]
    back = unpacked(packed(draws, task), task)
    assert np.abs(back - draws).max() <= 6 / posterior_samples.FINEST / 2 * 1.01
    with pytest.raises(ValueError, match="beyond the ends"):
        packed(draws + 3, task)


def test_the_file_of_draws_has_both_sides_and_our_simulators_posterior() -> None:
    found, about = posterior_samples.load()
    assert FILE.stat().st_size <= 2_000_000 and about["versions"]["sbi"]
    for name, known in TASKS.items():
        task = build(name)
        rows, d = task.simulate(1)["observations"].shape[1:], len(task.parameters)
        assert found[f"{known}_observations"].shape == (10, *rows)
        assert found[f"{known}_reference"].shape == (10, DRAWS, d)
        for side in SIDES:
            assert found[f"{known}_{side}"].shape[1:] == (10, DRAWS, d)
        assert about["draws_per_s"][name]["ours"] > 0 and about["draws_per_s"][name]["npe"] > 0
    task, few = build("two-moons"), slice(0, 3)
    theirs = unpacked(found["two_moons_reference"][few], task)
    ours = [
        task.reference(rows, DRAWS, k).draws for k, rows in enumerate(found["two_moons_observations"][few])
    ]
    told = c2st(torch.from_numpy(theirs), torch.from_numpy(np.stack(ours)), most=40)
    assert (told - 0.5).abs().max() < 0.06
