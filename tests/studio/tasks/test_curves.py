"""Curves end to end: read from a file, trained, sampled, given and measured; units and laws."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import studio
from studio.codecs.curves import Curves
from studio.data import load_data
from studio.data.curves import law, process

TINY = [
    "backbone={name: dit, hidden_size: 16, depth: 1, num_heads: 2}",
    "train.steps=30",
    "train.lr=0.003",
    "train.batch_size=16",
    "train.dtype=fp32",
    "train.save_every=30",
    "train.eval_every=30",
    "train.weak_snapshot=false",
]


def own(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Curves about 300, in channels of units far apart."""
    rng = np.random.default_rng(seed)
    values = 300 + 5 * rng.standard_normal(shape)
    if len(shape) == 3:
        values[:, 1] *= 1e-3
    return values.astype(dtype)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        pytest.param((40, 12), "float32", marks=pytest.mark.slow),
        ((40, 2, 33), "float64"),
        ((40, 7), "float16"),
    ],
)
def test_samples_have_the_shape_unit_and_type_of_the_data(
    shape: tuple[int, ...], dtype: str, tmp_path: Path
) -> None:
    """Any length, with and without channels; previewed, written, measured, and in part given."""
    values = own(shape, dtype)
    np.savez(tmp_path / "own.npz", curves=values, labels=np.arange(40) % 2)
    run = studio.train(
        "curves", [f"data.path={tmp_path / 'own.npz'}", *TINY], out=tmp_path / "run", device="cpu", quiet=True
    )
    assert list((tmp_path / "run").rglob("*.png"))
    model = run.load()
    made = model.sample(seeds=range(30), num_steps=4, labels=1)
    made.save(tmp_path / "out")
    with np.load(tmp_path / "out" / "samples.npz") as file:
        assert file["values"].shape == (30, *shape[1:]) and file["values"].dtype == dtype
        assert str(file["task"]) == "curves"
        far = np.abs(file["values"].mean((0, -1)) - values.mean((0, -1)))
        assert (far < values.std((0, -1))).all()
    assert (tmp_path / "out" / "grid.png").is_file()
    studio.generate(model, tmp_path / "set", num=20, num_steps=2, quiet=True)
    found = studio.evaluate(tmp_path / "set", f"curves:{tmp_path / 'own.npz'}", allow_small=True)
    assert set(found.values) == {"energy", "steps"} and not found.failed
    free = np.ones(shape[1:], bool)
    free[..., :3] = False
    part = model.sample(seeds=[0], init=torch.from_numpy(values[0]), mask=free, num_steps=2).values[0]
    assert torch.equal(part[..., :3], torch.from_numpy(values[0, ..., :3]))


def test_every_channel_has_its_unit() -> None:
    codec = Curves(mean=(300.0, -1.0), std=(5.0, 0.1), dtype="float64")
    data = torch.tensor([[[305.0, 295.0], [-1.1, -0.9]]], dtype=torch.float64)
    torch.testing.assert_close(codec.encode(data), torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]]))
    torch.testing.assert_close(codec.decode(codec.encode(data)), data)
    jacobian = torch.autograd.functional.jacobian(codec.encode, data).double().view(4, 4)
    np.testing.assert_allclose(codec.log_det((2, 2)), torch.linalg.slogdet(jacobian)[1], rtol=1e-6)
    assert codec.sizes((2, 100)) == {"in_channels": 2, "input_size": (100,), "patch_size": 4}
    assert codec.sizes((101,)) == {"in_channels": 1, "input_size": (101,), "patch_size": 1, "dim": 101}
    with pytest.raises(ValueError, match="expected as many, all above 0"):
        Curves(mean=(0.0,), std=(0.0,))


def test_every_place_has_its_unit() -> None:
    codec = Curves(mean=(100.0, 90.0, 50.0), std=(1.0, 0.1, 20.0), places=True)
    data = torch.tensor([[101.0, 90.1, 10.0]])
    torch.testing.assert_close(codec.encode(data), torch.tensor([[1.0, 1.0, -2.0]]), rtol=0, atol=1e-4)
    torch.testing.assert_close(codec.decode(codec.encode(data)), data)
    two = data[:, None].expand(1, 2, 3)
    torch.testing.assert_close(codec.encode(two), codec.encode(data)[:, None].expand(1, 2, 3))
    jacobian = torch.autograd.functional.jacobian(codec.encode, data).double().view(3, 3)
    np.testing.assert_allclose(codec.log_det((3,)), torch.linalg.slogdet(jacobian)[1], rtol=1e-6)
    np.testing.assert_allclose(codec.log_det((2, 3)), 2 * codec.log_det((3,)))
    assert codec.sizes((3,))["input_size"] == (3,)


def test_the_process_has_its_law() -> None:
    made = process(range(4000), 16)
    mean, covariance = law(16)
    np.testing.assert_allclose(made.mean(0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(made.T), covariance, atol=0.05)
    assert np.array_equal(process(range(3, 5), 16), made[3:5])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"curves": np.zeros((4, 3), int)}, "got int64 of shape .4, 3., expected floats"),
        ({"curves": np.zeros((4, 2, 3, 1))}, "of shape .4, 2, 3, 1., expected floats"),
        ({"curves": np.array([[0.0, 1.0], [np.nan, 1.0]])}, "got nan in item 1"),
        ({"values": np.zeros((4, 3))}, "expected 'curves' among them"),
    ],
)
def test_what_is_no_curve_is_refused(arrays: Any, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_data({"name": "curves", "path": str(tmp_path / "bad.npz")})
