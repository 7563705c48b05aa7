"""``train.known``: a model that is given some entries and asked for the rest, in training, from the command
line, and when it goes on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import checkpoint_differences, last_checkpoint, points_config, run_studio

import studio
from studio.data import from_arrays

# x ~ N(0, C): E[x₁, x₂ | x₀ = a] = (0.9, −0.6) a
COVARIANCE = np.array([[1.0, 0.9, -0.6], [0.9, 1.0, -0.5], [-0.6, -0.5, 1.0]])
GIVEN = np.array([1.5, 0.0, 0.0], np.float32)
FREE = np.array([0, 1, 1], bool)


def data(count: int = 4096) -> Any:
    values = np.random.default_rng(0).multivariate_normal(np.zeros(3), COVARIANCE, count).astype(np.float32)
    return from_arrays("threes", values, task="points", codec={"name": "scale", "std": 2.0})


def config(**train: Any) -> dict[str, Any]:
    tree = points_config(**{"steps": 6, "known": "random", **train})
    return {**tree, "data": {}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    tree = config(steps=375, batch_size=256, lr=1e-2, ema=["0.99"], warmup=20)
    tree["backbone"] |= {"width": 96, "depth": 2}
    return studio.train(tree, data=data(), out=tmp_path_factory.mktemp("known") / "run", quiet=True)


def test_the_rest_follows_from_what_is_given(run: Any) -> None:
    """Means and spreads of the exact conditional law; what was given comes back to the last bit; without it
    the law is the data's."""
    model = run.load()
    assert model.denoiser.known_trained and model.denoiser.net.known_embedder.weight.abs().max() > 0
    made = model.sample(seeds=range(1500), known=~FREE, given=GIVEN).values
    assert torch.equal(made[:, 0], torch.full((1500,), 1.5))
    mean, std = made[:, 1:].mean(0), made[:, 1:].std(0)
    torch.testing.assert_close(mean, torch.tensor([1.35, -0.9]), atol=0.12, rtol=0)
    torch.testing.assert_close(std, torch.tensor([0.19, 0.64]).sqrt(), atol=0.1, rtol=0)
    free = model.sample(seeds=range(1500)).values
    torch.testing.assert_close(torch.cov(free.T), torch.tensor(COVARIANCE).float(), atol=0.15, rtol=0)


def test_from_the_command_line(run: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", GIVEN)
    np.save(tmp_path / "free.npy", FREE)
    words = (
        "sample",
        run.folder,
        "--out",
        tmp_path / "out",
        "--init",
        "x.npy",
        "--mask",
        "free.npy",
        "--json",
    )
    done = run_studio(*words, "--seeds", "0-3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["recipe"]["init"] == "x.npy"
    values = np.load(tmp_path / "out" / "samples.npz")["arr_0"]
    assert (values[:, 0] == 1.5).all() and len(np.unique(values[:, 1])) == 4


@pytest.mark.parametrize(
    "init, mask, message",
    [
        (GIVEN[:2], FREE, r"got a sample of shape \(2,\), expected \(3,\)"),
        (GIVEN * np.nan, FREE, "not finite"),
        ("x.png", FREE, "expected numbers of shape"),
        (GIVEN, FREE[:2], r"got a mask of \(2,\), expected \(3,\)"),
        (GIVEN, "x.png", "an array or an .npy file"),
    ],
)
def test_what_is_no_given_sample(run: Any, init: Any, mask: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run.load().sample(seeds=[0], init=init, mask=mask)


def test_stopped_and_gone_on_with(tmp_path: Path) -> None:
    """Masks are a function of the seed and the step."""
    tree = config(known=["random", {"name": "prefix", "most": 0.5}], schedule="constant")
    whole = studio.train(tree, data=data(64), out=tmp_path / "whole", quiet=True)
    studio.train(tree, ["train.steps=3"], data=data(64), out=tmp_path / "parts", quiet=True)
    rest = studio.train(
        tree, ["train.steps=6"], data=data(64), out=tmp_path / "parts", resume=True, quiet=True
    )
    found = checkpoint_differences(last_checkpoint(whole.folder), last_checkpoint(rest.folder))
    assert found == []


def test_a_network_without_an_option_for_it_is_given_them_clean(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []

    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Linear(3, 3)

        def forward(self, x: Any, t: Any, cond: Any = None, ctx: Any = None) -> Any:
            if cond is not None and cond.known is not None:
                seen.append(cond.known)
            return self.net(x)

    studio.train(config(), backbone=Own(), data=data(64), out=tmp_path / "own", quiet=True)
    assert seen and seen[0].shape[1:] == (3,)


@pytest.mark.parametrize(
    "known, message",
    [("prefx", "did you mean 'prefix'"), ({"name": "random", "most": 2}, "0 <= least <= most <= 1")],
)
def test_what_is_no_pattern(known: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        studio.train(config(known=known), data=data(64), out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
