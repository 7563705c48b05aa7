"""Rows with padding: it is neither seen nor counted, and there are as many rows as were asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import studio
from backbones import Cond, DiT, NoiseSource
from samplers.batch import Batch
from samplers.objective import build_objective
from studio.codecs.rows import Rows
from studio.data import load_data
from studio.data.rows import walks

TINY = [
    "backbone.hidden_size=16",
    "backbone.depth=1",
    "train.steps=20",
    "train.batch_size=16",
    "train.dtype=fp32",
    "train.save_every=20",
    "train.eval_every=20",
    "train.preview=false",
]


def own(folder: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """A file of float64 rows about 300, two to six of them real; what stands on padding is not finite."""
    rng = np.random.default_rng(0)
    mask = np.arange(6) < rng.integers(2, 7, 40)[:, None]
    values = 300 + 5 * rng.standard_normal((40, 6, 3))
    values[~mask] = np.nan
    np.savez(folder / "own.npz", values=values, mask=mask, labels=np.arange(40) % 2)
    return folder / "own.npz", values, mask


@pytest.fixture(scope="module")
def net() -> DiT:
    torch.manual_seed(0)
    made = DiT(
        input_size=(5,), in_channels=3, patch_size=1, rows=True, hidden_size=32, depth=2, num_heads=2,
        num_classes=0, known=True,
    )  # fmt: skip
    for p in made.parameters():
        torch.nn.init.normal_(p.requires_grad_(False), std=0.1)
    return made.double().eval()


def test_what_stands_on_padding_changes_nothing(net: DiT) -> None:
    """Neither at real rows, nor in the loss; what is real does, and so does how many are."""
    valid = torch.tensor([[True, True, True, False, False], [True] * 5])
    x = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moved = torch.where(valid[..., None], x, 10 * torch.randn_like(x))
    t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    out = net(x, t, Cond(valid=valid)).detach()
    torch.testing.assert_close(net(moved, t, Cond(valid=valid))[valid], out[valid], rtol=0, atol=1e-6)
    assert not out[~valid].any()
    other = torch.tensor([[True] * 4 + [False], [True] * 5])
    assert float((net(x, t, Cond(valid=other)) - out)[0, :3].abs().max()) > 1e-3
    torch.testing.assert_close(net(x, t, Cond(valid=torch.ones_like(valid))), net(x, t))
    objective = build_objective(path="linear", parameterization="velocity")
    noise = NoiseSource([0, 1])

    def loss(data: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        return objective.loss(net, Batch(data, Cond(valid=valid), None), noise).per_sample

    torch.testing.assert_close(loss(moved, valid), loss(x, valid), rtol=0, atol=1e-6)
    assert float((loss(x, torch.ones_like(valid)) - loss(x, valid))[0].abs()) > 1e-3


def test_a_learned_variance_is_as_many_rows_more() -> None:
    options = {"input_size": (5,), "in_channels": 3, "patch_size": 1, "rows": True, "hidden_size": 16}
    two = DiT(**options, depth=1, num_heads=2, num_classes=0, learn_sigma=True)  # type: ignore[arg-type]
    bias = torch.arange(6.0)
    torch.nn.init.zeros_(two.final_layer.linear.weight)
    with torch.no_grad():
        two.final_layer.linear.bias.copy_(bias)
    first, second = two(torch.zeros(2, 5, 3), torch.zeros(2)).chunk(2, dim=1)
    assert torch.equal(first, bias[:3].expand(2, 5, 3)) and torch.equal(second, bias[3:].expand(2, 5, 3))


def test_a_users_own_rows(tmp_path: Path) -> None:
    """Trained, sampled with as many rows as asked for, written, measured, in part given."""
    path, values, mask = own(tmp_path)
    config = [f"data.path={path}", *TINY]
    data = load_data({"name": "rows", "path": str(path), "held_out": 0})
    real = values[mask]
    np.testing.assert_allclose(data.codec["mean"], real.mean(0))
    np.testing.assert_allclose(data.codec["std"], real.std(0))
    run = studio.train("rows", config, out=tmp_path / "run", device="cpu", quiet=True)
    model = run.load()
    for sampler in ("heun", "ddim", "ddpm"):
        made = model.sample(seeds=range(4), num_steps=3, sampler=sampler, conditions={"rows": 2})
        there = (made.values != 0).any(-1)
        assert there.tolist() == [[True] * 2 + [False] * 4] * 4
        assert made.values.dtype == torch.float64 and 200 < float(made.values[there].mean()) < 400
    first, second = model.task.frames([made.values, 2 * made.values])
    assert first.size == second.size and first.tobytes() != second.tobytes()
    free = np.ones((6, 3), bool)
    free[:2] = False
    part = model.sample(seeds=[0], init=values[0], mask=free, num_steps=2, conditions={"rows": 4}).values[0]
    assert np.array_equal(part[:2].numpy(), values[0, :2])
    for ask in (model.invert, model.log_prob):
        with pytest.raises(ValueError, match="makes samples of as many rows as its start is told"):
            ask(made.values)
    studio.generate(model, tmp_path / "set", num=30, num_steps=2, quiet=True)
    with np.load(tmp_path / "set" / "samples.npz") as file:
        assert file["values"].shape == (30, 6, 3) and file["values"].dtype == np.float64
        assert {*(file["values"] != 0).any(-1).sum(1)} <= {2, 3, 4, 5, 6}
    found = studio.evaluate(tmp_path / "set", f"rows:{path}", allow_small=True)
    assert set(found.values) == {"energy", "rows", "steps", "lengths"} and not found.failed
    assert found.values["lengths"] < 0.5
    with pytest.raises(ValueError, match="got the backbone mlp, .* for rows of shape"):
        studio.train("rows", [*config, "backbone={name: mlp}"], out=tmp_path / "no", quiet=True)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(("name", "depth"), [("dis", 2), ("rwkv", 3)])
def test_networks_without_attention_take_rows(name: str, depth: int, tmp_path: Path) -> None:
    """Named for the shipped config, whose other options stay; heads, which they do not have, fall away, and
    are refused where they were typed."""
    config = [
        f"data.path={own(tmp_path)[0]}",
        *TINY,
        "train.steps=4",
        "train.save_every=4",
    ]
    config += [f"backbone.name={name}", f"backbone.depth={depth}"]
    run = studio.train("rows", config, out=tmp_path / "run", device="cpu", quiet=True)
    model = run.load()
    assert "num_heads" not in model.config.backbone and model.config.backbone["hidden_size"] == 16
    made = model.sample(seeds=range(4), num_steps=3, conditions={"rows": 2}).values
    assert (made != 0).any(-1).tolist() == [[True] * 2 + [False] * 4] * 4
    with pytest.raises(ValueError, match="unknown option 'num_heads'"):
        studio.train("rows", [*config, "backbone.num_heads=2"], out=tmp_path / "no", quiet=True)


def test_lengths_are_drawn_as_the_data_has_them() -> None:
    codec = Rows(mean=(300.0,), std=(2.0,), lengths=(0, 3, 0, 1))
    path = build_objective(path="linear").path
    x, cond = codec.start(Cond(), NoiseSource(range(4000)), path, (4, 1))
    assert cond.valid is not None
    share = torch.bincount(cond.valid.sum(1), minlength=5).double() / 4000
    torch.testing.assert_close(share, torch.tensor([0, 0, 0.75, 0, 0.25]).double(), rtol=0, atol=0.03)
    decoded = codec.decode(x)
    assert torch.equal(decoded[..., 0] != 0, cond.valid)


def test_walks_have_their_law() -> None:
    values, real = walks(range(3000))
    assert set(real.sum(1)) == {*range(4, 13)} and not values[~real].any()
    variance = [values[real[:, k], k].var() for k in range(4)]
    np.testing.assert_allclose(variance, [1, 2, 3, 4], rtol=0.1)
    assert np.array_equal(walks(range(3, 5))[0], values[3:5])


MASK = np.array([[1, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"values": np.zeros((2, 3, 1), int), "mask": MASK}, "got int64 of shape .2, 3, 1., expected floats"),
        ({"values": np.zeros((2, 3)), "mask": MASK}, "of shape .2, 3., expected floats .N, n, d."),
        ({"values": np.zeros((2, 3, 1))}, "expected 'mask' among them"),
        ({"values": np.zeros((2, 3, 1)), "mask": MASK[:, :2]}, "got a mask of int64 .2, 2. for values"),
        ({"values": np.zeros((2, 3, 1)), "mask": MASK + 1}, "expected bools .N, n."),
        ({"values": np.zeros((2, 3, 1)), "mask": MASK[:, ::-1]}, "real rows do not come first .index 0."),
        ({"values": np.full((2, 3, 1), np.inf), "mask": MASK}, "got inf in item 0"),
    ],
)
def test_what_does_not_fit_is_refused(arrays: Any, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_data({"name": "rows", "path": str(tmp_path / "bad.npz")})
