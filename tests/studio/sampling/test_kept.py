"""Entries that a caller knows come back bit for bit, of all samples or of each, and what does not fit is
refused in words."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import run_studio

import studio
from studio.codecs.codec import FromNoise
from studio.model.model import Model
from studio.sampling.commands import command_of
from studio.sampling.kept import kept

QUICK = ["train.steps=2", "train.batch_size=8", "train.dtype=fp32", "train.eval_every=0", "train.warmup=1"]
QUICK += ["train.preview=false", "train.weak_snapshot=false", "train.save_every=0", "train.lr=0.02"]
SMALL = ["backbone.hidden_size=16", "backbone.depth=1", "backbone.num_heads=2"]
KNOWN = np.arange(12) < 4
GIVEN = np.where(KNOWN, 0.1 * np.arange(12) + 7, np.nan)  # what is not known is not looked at


def trained(name: str, folder: Path, *options: str) -> Model:
    run = studio.train(name, [*options, *QUICK, *SMALL], out=folder, device="cpu", quiet=True)
    return run.load(device="cpu")


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Trained with known entries, on curves of twelve places."""
    folder = tmp_path_factory.mktemp("kept") / "curves"
    return trained("curves", folder, "data.count=40", "data.length=12", "train.known=[prefix,random]")


def test_known_entries_are_those_of_the_caller(curves: Model) -> None:
    plain = curves.sample(seeds=range(5), num_steps=3)
    made = curves.sample(seeds=range(5), num_steps=3, batch=2, known=KNOWN, given=GIVEN)
    wanted = torch.from_numpy(GIVEN[:4].astype(np.float32)).expand(5, 4)
    assert torch.equal(made.values[:, :4], wanted) and torch.isfinite(made.values).all()
    assert (made.values[:, 4:] != plain.values[:, 4:]).all()  # the rest is told of them
    none = curves.sample(seeds=range(5), num_steps=3, known=np.zeros(12, bool), given=GIVEN)
    assert torch.equal(none.values, plain.values)
    assert made.recipes[0]["sampler"] == plain.recipes[0]["sampler"]
    same = curves.sample(
        seeds=range(5), num_steps=3, batch=2, known=torch.tensor(KNOWN), given=GIVEN.tolist()
    )
    assert torch.equal(same.values, made.values)


def test_each_sample_has_its_own(curves: Model) -> None:
    """A sample with what is known of it does not depend on the others."""
    known = np.arange(12) < np.array([[0], [3], [12]])
    given = np.random.default_rng(0).standard_normal((3, 12)).astype(np.float32)
    every: dict[str, Any] = {"num_steps": 3, "deterministic": True}
    made = curves.sample(seeds=[7, 3, 7], known=known, given=given, **every).values
    for i, seed in enumerate((7, 3, 7)):
        alone = curves.sample(seeds=[seed], known=known[i], given=given[i], **every).values[0]
        assert torch.equal(made[i], alone)
        np.testing.assert_array_equal(made[i][known[i]].numpy(), given[i][known[i]])
    assert torch.equal(made[0], curves.sample(seeds=[7], **every).values[0])
    shared = curves.sample(seeds=[7, 3, 7], known=known[1], given=given, **every).values
    assert torch.equal(shared[1], made[1])


def test_a_model_that_was_not_told_of_them(points_model: Model) -> None:
    made = points_model.sample(seeds=range(4), known=[True, False], given=[0.3, np.nan])
    assert torch.equal(made.values[:, 0], torch.full((4,), 0.3)) and made.values[:, 1].unique().numel() == 4
    assert "resample=5" in made.recipes[0]["sampler"]


def test_pictures_and_each_of_their_channels(picture_model: Model) -> None:
    grey = torch.randint(0, 256, (8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    known = torch.arange(8) < 3
    made = picture_model.sample(seeds=[0, 1], num_steps=2, known=known, given=grey).values
    assert torch.equal(made[:, 0, :, :3], grey[:, :3].expand(2, 8, 3))
    again = picture_model.sample(seeds=[0, 1], num_steps=2, known=known, given=grey / 255).values
    assert torch.equal(made, again)


def test_as_many_rows_as_are_known(tmp_path: Path) -> None:
    model = trained("rows", tmp_path / "run", "data.count=40", "train.known=frames")
    shape = model.sample_shape
    known = np.zeros(shape, bool)
    known[:9] = True
    given = np.random.default_rng(0).standard_normal(shape)
    made = model.sample(seeds=range(6), num_steps=2, known=known[:, :1], given=given).values
    there = (made != 0).any(-1)
    assert there[:, :9].all() and torch.equal(made[:, :9], torch.tensor(given[:9]).to(made).expand(6, 9, -1))
    assert there.sum(1).unique().numel() > 1  # some are longer
    with pytest.raises(ValueError, match="got 4 rows for samples of which row 9 is known"):
        model.sample(seeds=[0], known=known, given=given, conditions={"rows": 4})


def test_angles_keep_their_turns(tmp_path: Path) -> None:
    angles = np.random.default_rng(0).uniform(-9, 9, (20, 5, 2)).astype(np.float32)
    np.savez(tmp_path / "x.npz", angles=angles)
    asked = [f"data.path={tmp_path / 'x.npz'}", "data.centre=true", "train.known=prefix"]
    model = trained("angles", tmp_path / "run", *asked)
    known = np.ones((5, 2), bool)
    known[1:3] = False
    made = model.sample(seeds=[0, 1], num_steps=3, known=known, given=angles[:2]).values.numpy()
    assert np.array_equal(made[:, known], angles[:2, known]) and np.abs(made[:, ~known]).max() < np.pi


def test_from_files_and_what_recipes_say(curves: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "seen.npz", known=KNOWN, given=GIVEN)
    np.save(tmp_path / "known.npy", KNOWN)
    asked: dict[str, Any] = {"seeds": [2], "num_steps": 3}
    arrays = curves.sample(known=KNOWN, given=GIVEN, **asked)
    assert arrays.recipes[0]["as_values"] == ["known", "given"]
    with pytest.raises(ValueError, match="known and given came as values in Python"):
        command_of(arrays.recipes[0])
    words = ("--known", tmp_path / "known.npy", "--given", tmp_path / "seen.npz", "--num-steps", "3")
    said = ("sample", curves.folder, "--out", tmp_path / "out", "--seeds", "2")
    done = run_studio(*said, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out" / "samples.npz") as file:
        assert np.array_equal(file["values"], arrays.values.numpy())
    files = curves.sample(known=str(tmp_path / "known.npy"), given=tmp_path / "seen.npz", **asked)
    assert torch.equal(files.values, arrays.values)
    line = shlex.split(command_of(files.recipes[0]))
    assert line[line.index("--given") + 1] == str(tmp_path / "seen.npz")


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"known": KNOWN}, "got known without given"),
        ({"given": GIVEN}, "got given without known"),
        ({"known": KNOWN[:5], "given": GIVEN}, r"got known of shape \(5,\), expected \(12,\)"),
        ({"known": KNOWN, "given": GIVEN[:5]}, r"given of shape \(5,\), expected \(12,\), or \(2, 12\)"),
        ({"known": KNOWN, "given": np.zeros((3, 12))}, r"given of shape \(3, 12\)"),
        ({"known": np.ones((3, 12)), "given": GIVEN}, r"known of shape \(3, 12\)"),
        ({"known": 2 * KNOWN, "given": GIVEN}, "other values than 0 and 1"),
        ({"known": np.ones(12, bool), "given": GIVEN}, "8 known values that are not finite"),
        ({"known": KNOWN, "given": GIVEN * 1e300}, "4 known values that are not finite"),
        ({"known": KNOWN, "given": "none.npy"}, "none.npy, which does not exist"),
        ({"known": KNOWN, "given": ["a"] * 12}, "expected an array of numbers"),
        ({"known": KNOWN, "given": GIVEN, "init": np.zeros(12)}, "init and known entries, expected one"),
        ({"known": KNOWN, "given": GIVEN, "strength": 0.5}, "without a picture to start from"),
    ],
)
def test_what_is_not_known(curves: Model, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        curves.sample(seeds=[0, 1], **asked)


class Sums(FromNoise):
    """A codec whose states are no entries of samples."""

    name, bound, pictures = "sums", None, False


def test_models_without_entries_of_their_own() -> None:
    with pytest.raises(ValueError, match="sees no entries of samples but what its codec sums makes"):
        kept([True], [0.0], (1,), 1, Sums(), "mine")  # type: ignore[arg-type]
    model = studio.load("moses-graph-dit", device="cpu")
    graph = np.zeros(model.sample_shape, np.uint8)
    with pytest.raises(ValueError, match="of which a piece is given; give the piece as init"):
        model.request(seeds=[0], known=graph == 1, given=graph)
    bridge = studio.load("fashion-restore", device="cpu")
    x = torch.zeros(1, *bridge.sample_shape, dtype=torch.uint8)
    with pytest.raises(ValueError, match="starts from a source; give mask"):
        bridge.request(seeds=[0], sources=x, known=x[0] == 0, given=x[0])
