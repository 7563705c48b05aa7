"""Values given sets: what a file may hold, the exact posterior of the toy, and from data to samples on the
command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import run_studio

import studio
from studio.codecs.codec import build_codec
from studio.data import load_data
from studio.data.sets import NOISE, lines, posterior

G = np.random.default_rng(0)


def arrays(count: int = 64) -> dict[str, Any]:
    """Two numbers of different unit, which the mean of the set tells."""
    rows = G.standard_normal((count, 5, 3)).astype(np.float32)
    mask = np.arange(5) < G.integers(1, 6, count)[:, None]
    mean = (rows * mask[..., None]).sum(1) / mask.sum(1)[:, None]
    values = (mean[:, :2] * [1000, 0.01] + [5000, 0]).astype(np.float32)
    return {"values": values, "set": rows, "mask": mask}


def test_a_file_of_values_and_sets(tmp_path: Path) -> None:
    given = arrays()
    np.savez(tmp_path / "a.npz", **given, columns=np.array(["x", "y", "z"]))
    data = load_data(
        {"name": "sets", "path": str(tmp_path / "a.npz"), "held_out": 0.25, "pooling": "attention"}
    )
    (field,) = data.fields
    assert data.shape == (2,) and data.task == "vectors" and len(data.held_out) == 16
    assert field.names == ("x", "y", "z") and field.options == {"pooling": "attention"}
    seen = data.train.named["set"]
    assert np.array_equal(~np.isnan(seen).any(-1), given["mask"][data.rows[0]])  # type: ignore[index]
    codec = build_codec(data.codec)
    x = codec.encode(torch.from_numpy(data.train.values))
    assert torch.allclose(x.mean(0), torch.zeros(2), atol=1e-3) and torch.allclose(
        x.std(0), torch.ones(2), atol=0.05
    )
    assert torch.allclose(codec.decode(x), torch.from_numpy(data.train.values), rtol=1e-5)
    absent = np.where(given["mask"][..., None], given["set"], np.nan)
    np.savez(tmp_path / "b.npz", values=given["values"], set=absent)
    other = load_data({"name": "sets", "path": str(tmp_path / "b.npz"), "held_out": 0.25})
    assert np.array_equal(other.train.named["set"], seen, equal_nan=True)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"values": None}, r"holds set, mask, expected values \(N, d\), set \(N, K, f\) and mask"),
        ({"set": np.ones((64, 5))}, r"got set of float64 \(64, 5\), expected numbers \(N, K, f\)"),
        ({"set": np.ones((9, 5, 3)), "mask": np.ones((9, 5), bool)}, "got 9 sets for 64 values"),
        ({"mask": np.ones((64, 4), bool)}, r"got a mask of shape \(64, 4\) for rows of shape \(64, 5, 3\)"),
        ({"mask": np.zeros((64, 5), bool)}, "got no value for the condition 'set'"),
        ({"values": np.full((64, 2), np.nan)}, "expected finite numbers"),
        ({"columns": np.array(["x"])}, "got 1 columns, expected the names of 3"),
    ],
)
def test_what_does_not_go_together_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{k: v for k, v in {**arrays(), **change}.items() if v is not None})
    with pytest.raises(ValueError, match=message):
        load_data({"name": "sets", "path": str(tmp_path / "a.npz")})


def test_the_posterior_of_lines_is_the_prior_weighed_by_the_likelihood() -> None:
    _, sets, names = lines(6, seed=3)
    assert names == ("t", "y") and sets.shape == (6, 20, 2)
    theta = G.standard_normal((200_000, 2))
    for rows in sets:
        there = rows[~np.isnan(rows).any(1)][:4].astype(np.float64)
        off = there[:, 1] - theta[:, :1] - theta[:, 1:] * there[:, 0]
        weight = np.exp(-0.5 * (off**2).sum(1) / NOISE**2)
        weight /= weight.sum()
        mean, covariance = posterior(there)
        spread = (theta - weight @ theta).T @ ((theta - weight @ theta) * weight[:, None])
        assert np.allclose(weight @ theta, mean, atol=0.03) and np.allclose(spread, covariance, atol=0.03)


def test_from_a_file_to_samples_for_a_set(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays())
    run = str(tmp_path / "run")
    overrides = [
        "train.steps=4",
        "train.batch_size=16",
        "backbone.width=16",
        "train.preview=false",
        "train.warmup=1",
    ]
    run_studio("train", "sets", f"data.path={tmp_path / 'a.npz'}", "--out", run, *overrides, cwd=tmp_path)
    for count in (1, 2, 9):  # fewer than training saw, and more
        np.save(tmp_path / "few.npy", G.standard_normal((count, 3)).astype(np.float32))
        asked = f"set=@{tmp_path / 'few.npy'}"
        out = tmp_path / f"out{count}"
        run_studio("sample", run, "--set", asked, "--out", str(out), "--num-steps", "2", cwd=tmp_path)
        with np.load(out / "samples.npz") as file:
            assert file["values"].shape == (8, 2) and file["values"].dtype == np.float32
            assert abs(file["values"][:, 0].mean() - 5000) < 5000  # in the unit of the data
        recipe = json.loads((out / "recipe.json").read_text())[0]
        assert len(json.loads(recipe["fields"]["set"])) == count
    told = run_studio("info", run, cwd=tmp_path).stdout
    assert "'set': '1 to 5 rows of 3 numbers each as [[...], ...]" in told
    model = studio.load(run, device="cpu")
    with pytest.warns(UserWarning, match="set=.* is outside what .* was trained on, 1 to 5 rows"):
        model.sample(seeds=[0], conditions={"set": np.ones((9, 3))})
    order = G.permutation(4)
    rows = G.standard_normal((4, 3))
    a, b = (model.sample(seeds=[1, 2], conditions={"set": s}).values for s in (rows, rows[order]))
    assert torch.allclose(a, b, rtol=1e-5)
    studio.generate(model, tmp_path / "many", num=5, batch=2, conditions={"set": rows.tolist()})
    with np.load(tmp_path / "many" / "samples.npz") as file:
        expected = model.sample(seeds=range(5), conditions={"set": rows}).values
        assert np.allclose(file["values"], expected, rtol=1e-3)


@pytest.mark.slow
def test_a_short_run_comes_near_the_exact_posterior(tmp_path: Path) -> None:
    run = studio.train(
        "sets", out=tmp_path / "run", overrides=["train.steps=1000", "data.count=10000"], quiet=True
    )
    model, ratio, off = run.load(device="cpu"), [], []
    _, sets, _ = lines(12, seed=99)
    for rows in sets:
        made = model.sample(seeds=range(200), conditions={"set": rows}, batch=200).values.numpy()
        mean, covariance = posterior(rows)
        deviation = np.sqrt(np.diag(covariance))
        ratio.append(made.std(0) / deviation)
        off.append((made.mean(0) - mean) / deviation)
    assert 0.85 < np.mean(ratio) < 1.35 and np.sqrt(np.mean(np.square(off))) < 0.5
