"""Tokens end to end: a user's own ids, the chain whose law is known, samples in the data's shape and type."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import run_studio

import studio
from studio.data import load_data
from studio.data.tokens import TRANSITIONS, chain, entropy_rate, stationary
from studio.metrics import token_sets

SMALL = [
    "backbone.hidden_size=32",
    "backbone.depth=1",
    "train.steps=4",
    "train.batch_size=16",
    "train.preview=false",
]


def test_the_chain_has_its_law() -> None:
    rows = chain(range(4000), 16)
    pairs = token_sets.frequencies(rows, 4, 2).reshape(4, 4)
    shares = stationary()
    np.testing.assert_allclose(shares @ TRANSITIONS, shares, atol=1e-12)
    np.testing.assert_allclose(pairs, shares[:, None] * TRANSITIONS, atol=0.006)
    np.testing.assert_allclose(rows[:, 0].mean(), (shares * np.arange(4)).sum(), atol=0.06)
    assert np.array_equal(chain(range(5, 9), 16), rows[5:9])
    found = token_sets.entropy(pairs.ravel()) - token_sets.entropy(pairs.sum(1))
    assert found == pytest.approx(entropy_rate(), abs=0.01)


def test_divergences() -> None:
    p, q = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert (
        token_sets.jensen_shannon(p, q) == pytest.approx(np.log(2)) and token_sets.jensen_shannon(p, p) == 0
    )
    assert token_sets.frequencies(np.array([[0, 1, 1]]), 2, 2).tolist() == [0, 0.5, 0, 0.5]
    assert token_sets.repeated(np.array([[1, 2], [1, 2], [2, 1]])) == pytest.approx(1 / 3)


def own(folder: Path, **arrays: Any) -> Path:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 5, (60, 6)).astype(np.int32)
    ids[:, 0] = 4
    np.savez(folder / "mine.npz", **{"tokens": ids, "labels": np.arange(60) % 2, **arrays})
    return folder / "mine.npz"


def test_a_users_own(tmp_path: Path) -> None:
    """From the command line as the manual has it: the same shape and type, text where ids stand for symbols,
    known tokens given back, measured against the data."""
    where = own(tmp_path, symbols=np.array(list("abcde")))
    done = run_studio(
        "train", "tokens", f"data.path={where}", *SMALL, "--out", tmp_path / "run", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    done = run_studio("sample", tmp_path / "run", "--out", tmp_path / "out", "--num-steps", 3, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    file = np.load(tmp_path / "out" / "samples.npz")
    values = file["values"]
    assert values.shape == (8, 6) and values.dtype == np.int32 and 0 <= values.min() <= values.max() < 5
    assert file["symbols"].tolist() == list("abcde") and int(file["vocab"]) == 5
    lines = (tmp_path / "out" / "samples.txt").read_text().splitlines()
    assert lines == ["".join("abcde"[i] for i in row) for row in values]
    model = studio.load(tmp_path / "run", device="cpu", dtype="fp32")
    given, free = np.array([4, 0, 1, 2, 3, 0]), np.array([0, 0, 0, 1, 1, 1], bool)
    made = model.sample(seeds=range(4), labels=1, init=given, mask=free, num_steps=3)
    assert (made.values[:, :3].numpy() == given[:3]).all()
    assert np.array_equal(
        made.values.numpy(),
        model.sample(seeds=range(4), labels=1, init=given, mask=free, num_steps=3).values.numpy(),
    )
    found = studio.evaluate(tmp_path / "out" / "samples.npz", f"tokens:{where}", allow_small=True)
    assert {"unigram", "bigram", "copies"} <= set(found.values) and found.failed == {}
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert {r["sampler"] for r in recipe} == {"masked"}


def test_grids_of_ids_and_sets_of_them(tmp_path: Path) -> None:
    grids = np.random.default_rng(0).integers(0, 3, (40, 4, 5)).astype(np.uint8)
    np.savez(tmp_path / "grids.npz", tokens=grids)
    settings = [*SMALL, f"data.path={tmp_path / 'grids.npz'}", "train.known=random"]
    run = studio.train("tokens", settings, out=tmp_path / "run", quiet=True)
    model = run.load()
    made = model.sample(seeds=range(3), num_steps=2, sampler="masked(order=halton)")
    assert made.values.shape == (3, 4, 5) and str(made.values.dtype) == "torch.uint8"
    assert made.grid().size[0] > 0 and model.denoiser.known_trained
    studio.generate(model, tmp_path / "set", num=10, num_steps=2, quiet=True)
    assert np.load(tmp_path / "set" / "samples.npz")["values"].dtype == np.uint8
    with pytest.raises(ValueError, match="choose masked"):
        model.sample(seeds=[0], sampler="euler")


@pytest.mark.parametrize(
    "arrays, options, message",
    [
        ({"tokens": np.zeros((4, 3))}, {}, "got float64 of shape .4, 3., expected whole numbers"),
        ({"tokens": np.zeros(4, int)}, {}, "of shape .4,., expected whole numbers .N, L."),
        ({"tokens": -np.ones((4, 3), int)}, {}, "got tokens from -1 to -1"),
        ({"tokens": np.full((4, 3), 9)}, {"vocab": 5}, "from 9 to 9 and a vocabulary of 5, expected 0 to 4"),
        ({"tokens": np.full((4, 3), 10**7)}, {}, "2 to 100,000 tokens"),
        ({"tokens": np.zeros((4, 3), int)}, {}, "a vocabulary of 1"),
        ({"ids": np.zeros((4, 3), int)}, {}, "expected 'tokens' among them"),
    ],
)
def test_what_are_no_tokens(arrays: Any, options: Any, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_data({"name": "tokens", "path": str(tmp_path / "bad.npz"), **options})
