"""Seeds and numeric conditions are what they say, or refused; the meaning of a number survives
fine-tuning."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import points_config
from torch.utils.data import TensorDataset

import studio
from studio.checkpoints.build import Info
from studio.data import load_data
from studio.data.conditions import asked
from studio.runtime.seeds import parse_seeds


@pytest.mark.parametrize(
    "seeds",
    [
        1.9,
        True,
        [1.5],
        "1.9",
        [True],
        -1,
        [-3],
        2**63,
        [2**70],
        str(2**63),
        np.float64(1.5),
        np.array([0.5]),
        torch.tensor([1.5]),
        "0-1,9-5",
        "5-",
        "-1",
        "",
        "a",
        None,
        ["1"],
        float("nan"),
        float("inf"),
        "0-99999999999",
        "²",
    ],
)
def test_seeds_that_are_none(seeds: Any) -> None:
    with pytest.raises(ValueError, match="got (the )?seed"):
        parse_seeds(seeds)


@pytest.mark.parametrize(
    "seeds, want",
    [
        ("0-2, 7", (0, 1, 2, 7)),
        (3, (3,)),
        (range(2), (0, 1)),
        (np.int64(4), (4,)),
        (2.0, (2,)),
        (np.array([1, 2]), (1, 2)),
        (torch.tensor([5]), (5,)),
        (2**63 - 1, (2**63 - 1,)),
        ([np.float32(3)], (3,)),
        ([], ()),
    ],
)
def test_seeds_that_are(seeds: Any, want: tuple[int, ...]) -> None:
    assert parse_seeds(seeds) == want


@pytest.mark.parametrize(
    "value", ["inf", "-inf", "nan", float("inf"), float("nan"), np.nan, "1e999", 10**400, True, "sour", [1.0]]
)
def test_conditions_that_are_no_numbers(value: Any) -> None:
    with pytest.raises(ValueError, match="expected a number; to leave it open write a=none"):
        asked(
            Info("points", (2,), (), {}, numeric=("a",), numeric_mean=(0.0,), numeric_std=(1.0,)),
            {"a": value},
            1,
        )


def with_numbers(path: Path, numbers: np.ndarray, **more: Any) -> dict[str, Any]:
    np.savez(
        path,
        arr_0=np.random.default_rng(0).normal(size=(len(numbers), 2)),
        numeric=numbers,
        numeric_names=np.array(["a", "b"]),
        **more,
    )
    return {"name": "npz", "path": str(path), "held_out": 0.0}


def test_infinite_numbers_count_as_missing_and_are_told(tmp_path: Path) -> None:
    numbers = np.random.default_rng(1).normal(3, 2, (50, 2))
    whole = load_data(with_numbers(tmp_path / "a.npz", numbers))
    numbers[7, 0], numbers[9, 0] = np.inf, -np.inf
    data = load_data(with_numbers(tmp_path / "b.npz", numbers))
    assert np.isfinite([*data.numeric_mean, *data.numeric_std]).all() and data.numeric_mean[
        0
    ] == pytest.approx(whole.numeric_mean[0], abs=0.5)
    assert (
        np.isnan(data.train.numeric[[7, 9], 0]).all()
        and np.isfinite(data.train.numeric).sum() == 98
        and np.isfinite(data.numeric_range).all()
    )
    assert (
        data.notes == ("2 infinite numbers of a (first at index 7) count as missing",) and whole.notes == ()
    )
    numbers[:, 1] = np.nan
    with pytest.raises(ValueError, match="no finite number for the condition 'b'"):
        load_data(with_numbers(tmp_path / "c.npz", numbers))


def test_a_number_keeps_its_meaning_when_fine_tuned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(2)
    config = {**points_config(steps=2), "data": with_numbers(tmp_path / "a.npz", rng.normal(0, 1, (60, 2)))}
    base = studio.train(config, out=tmp_path / "base", quiet=True)
    config["data"] = with_numbers(tmp_path / "b.npz", rng.normal(100, 10, (60, 2)))
    tuned = studio.train(config, start_from=str(base.folder), out=tmp_path / "tuned")
    assert "a, b: standardised as" in capsys.readouterr().err
    one, two = (studio.load(r.folder, device="cpu").info for r in (base, tuned))
    assert (one.numeric_mean, one.numeric_std) == (two.numeric_mean, two.numeric_std)
    model = studio.load(base.folder, device="cpu")
    free, said = (model.sample(seeds=[0], num_steps=1, conditions=c) for c in ({}, {"a": "none", "b": None}))
    assert (
        torch.equal(free.values, said.values)
        and said.recipes[0]["conditions"] == free.recipes[0]["conditions"]
    )
    for wrong in ({"a": "nan"}, {"a": "inf"}, {"c": "none"}):
        with pytest.raises(ValueError, match="got condition"):
            model.sample(seeds=[0], num_steps=1, conditions=wrong)


@pytest.mark.parametrize("sigma, told", [(0.5, True), (1.0, False)])
def test_a_deviation_that_is_off_is_told(
    sigma: float, told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = points_config(steps=1)
    config["objective"] = {"path": "edm", "parameterization": {"name": "edm", "sigma_data": sigma}}
    studio.train(
        config,
        data=TensorDataset(torch.randn(200, 2, generator=torch.Generator().manual_seed(0))),
        out=tmp_path / "run",
    )
    error = capsys.readouterr().err
    assert ("counts on sigma_data=0.5" in error) == told and ("the data has deviation" in error) == told
