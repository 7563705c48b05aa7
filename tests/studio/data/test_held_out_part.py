"""Held-out numbers are of what was held out, of all its classes; where nothing was there are none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import metrics, points_config
from torch.utils.data import TensorDataset

import studio
from studio.data import Arrays, Data
from studio.data.loader import held_out, spread

POINTS = TensorDataset(torch.randn(64, 2, generator=torch.Generator().manual_seed(0)), torch.arange(64) // 16)


def test_an_own_data_set_without_a_held_out_part_has_no_held_out_numbers(tmp_path: Path) -> None:
    short = points_config(steps=4, eval_every=2)
    run = studio.train(short, data=POINTS, out=tmp_path / "a", quiet=True)
    assert not any("held_out" in k for line in metrics(run.folder) for k in line)
    run = studio.train(short, data=POINTS, held_out=POINTS, out=tmp_path / "b", quiet=True)
    assert sum("held_out" in line for line in metrics(run.folder)) == 2


@pytest.mark.parametrize("count", [8, 50, 200, 999, 1000, 5000])
def test_every_class_is_seen_in_its_share(count: int) -> None:
    labels = np.repeat(np.arange(5), [600, 200, 150, 49, 1])  # sorted, as splits are
    rows = spread(Arrays(np.zeros((1000, 2), np.float32), labels), count)
    assert rows == sorted(set(rows)) and len(rows) == min(count, 1000)
    seen = np.bincount(labels[rows], minlength=5)
    assert (seen >= 1).all() and np.abs(
        seen - np.array([600, 200, 150, 49, 1]) * len(rows) / 1000
    ).max() <= 2.5
    assert rows == spread(Arrays(np.zeros((1000, 2), np.float32), labels), count)


def test_a_part_without_labels_is_seen_over_its_length() -> None:
    rows = np.array(spread(Arrays(np.zeros((1000, 2), np.float32)), 100))
    assert len(set(rows.tolist())) == 100 and abs(rows.mean() - 500) < 60


def test_sources_of_pairs_go_with_their_samples() -> None:
    values = np.arange(100, dtype=np.float32)[:, None].repeat(2, 1)
    data = Data(
        "pairs",
        "points",
        (2,),
        Arrays(values),
        Arrays(values, np.arange(100) // 50),
        source=Arrays(-values),
        held_out_source=Arrays(-values),
        paired=True,
    )
    kept = held_out(data, 20)
    assert (
        kept is not None
        and kept.source is not None
        and torch.equal(kept.source, -kept.values)
        and float(kept.values.max()) > 50
    )
