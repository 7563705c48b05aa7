"""Clips end to end: a user's own frames, samples in their shape and type, an image model that becomes one of
clips, frames that are given."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import run_studio

import studio
from studio.data import load_data
from studio.data.clips import bouncing

NET = ["backbone.hidden_size=32", "backbone.depth=1", "backbone.patch_size=4"]
SHORT = ["train.steps=3", "train.batch_size=8", "train.preview=false", "train.eval_every=0"]


def frames(shape: tuple[int, ...] = (24, 4, 3, 8, 12)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_shapes_bounce_off_the_walls() -> None:
    """Every clip is its seed's; what is bright never leaves, and frames of still shapes are alike."""
    made = bouncing(range(40))
    assert made.shape == (40, 8, 1, 12, 12) and made.dtype == np.uint8
    assert np.array_equal(bouncing(range(7, 9)), made[7:9])
    light = made.reshape(40, 8, -1).astype(float).sum(2)
    assert light.min() > 0.4 * light.max()
    assert (made[:, 0] != made[:, 1]).any(axis=(1, 2, 3)).mean() > 0.9


def test_a_users_own_frames(tmp_path: Path) -> None:
    """From the command line: not square, three channels; uint8 of the same shape, strips and a film."""
    np.savez(tmp_path / "mine.npz", frames=frames())
    words: tuple[object, ...] = (
        "train",
        "clips",
        f"data.path={tmp_path / 'mine.npz'}",
        *NET,
        *SHORT,
        "--out",
        tmp_path / "run",
    )
    done = run_studio(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    words = ("sample", tmp_path / "run", "--out", tmp_path / "out", "--num-steps", 2, "--seeds", "0-2")
    done = run_studio(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    values = np.load(tmp_path / "out" / "samples.npz")["values"]
    assert values.shape == (3, 4, 3, 8, 12) and values.dtype == np.uint8
    with Image.open(tmp_path / "out" / "sheet.gif") as film:
        assert getattr(film, "n_frames", 1) == 4
    with Image.open(tmp_path / "out" / "seed-000001.png") as strip:
        assert strip.size == (4 * 12 + 3, 8)


@pytest.mark.parametrize(
    "sides, form", [((10, 6), {"stem_channels": (8,)}), ((9, 7), {"patch_size": 1})], ids=str
)
def test_frames_of_any_sides_take_a_finer_network(
    sides: tuple[int, int], form: dict[str, Any], tmp_path: Path
) -> None:
    """The shipped config's stem halves twice: it is told what is taken where that does not go; a typed one is
    as it was typed."""
    np.savez(tmp_path / "mine.npz", frames=frames((16, 2, 1, *sides)))
    words = [f"data.path={tmp_path / 'mine.npz'}", "backbone.hidden_size=32", "backbone.depth=1", *SHORT]
    run = studio.train("clips", words, out=tmp_path / "run", quiet=True)
    made = run.config.backbone
    assert {k: made[k] for k in form} == form and made["hidden_size"] == 32
    assert run.load().sample(seeds=[0], num_steps=1).values.shape == (1, 2, 1, *sides)
    with pytest.raises(ValueError, match="multiples of the patch size"):
        studio.train("clips", [*words, "backbone.stem_channels=[4,4]"], out=tmp_path / "typed", quiet=True)
    assert not (tmp_path / "typed").exists()


def test_an_image_model_becomes_one_of_clips_and_frames_are_given(tmp_path: Path) -> None:
    """Attention over time and what tells of known frames are new, and start as the identity. Frames that are
    given come back bit for bit."""
    np.savez(tmp_path / "stills.npz", images=frames((24, 3, 8, 12)).transpose(0, 2, 3, 1))
    np.savez(tmp_path / "mine.npz", frames=frames())
    config: dict[str, Any] = {
        "data": {"name": "npz", "path": str(tmp_path / "stills.npz")},
        "backbone": {"name": "dit", "hidden_size": 32, "depth": 1, "num_heads": 2, "patch_size": 4},
        "objective": {"path": "linear", "parameterization": "velocity"},
        "train": {"steps": 3, "batch_size": 8, "dtype": "fp32", "preview": False, "eval_every": 0},
        "sample": {"sampler": "euler", "num_steps": 2, "guidance": ""},
    }
    base = studio.train(config, out=tmp_path / "stills", quiet=True)
    clips = {**config, "data": {"name": "clips", "path": str(tmp_path / "mine.npz")}}
    tree = {**clips, "train": {**config["train"], "known": "frames"}}
    run = studio.train(tree, start_from=base.folder, out=tmp_path / "clips", quiet=True)
    model = run.load()
    moved = [k for k in model.denoiser.net.state_dict() if k.startswith("temporal.")]
    assert moved and model.denoiser.known_trained
    given = torch.from_numpy(frames()[0])
    free = torch.tensor([False, True, True, False]).view(4, 1, 1, 1)
    made = model.sample(seeds=range(2), init=given, mask=free).values
    assert made.shape == (2, 4, 3, 8, 12) and made.dtype == torch.uint8
    assert torch.equal(made[:, [0, 3]], given[[0, 3]].expand(2, -1, -1, -1, -1))
    assert not torch.equal(made[0, 1], made[1, 1])


@pytest.mark.parametrize(
    "values, message",
    [
        (frames((6, 8, 12)), "expected uint8 clips"),
        (frames().astype(float), "got float64"),
        (frames((6, 4, 5, 8, 12)), "channels"),
        (frames((6, 0, 3, 8, 12)), "one frame or more"),
    ],
)
def test_what_are_no_clips(values: np.ndarray, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", frames=values)
    with pytest.raises(ValueError, match=message):
        load_data({"name": "clips", "path": str(tmp_path / "bad.npz")})


def test_channels_may_come_last(tmp_path: Path) -> None:
    np.savez(tmp_path / "last.npz", frames=frames((6, 4, 8, 12, 3)))
    data = load_data({"name": "clips", "path": str(tmp_path / "last.npz")})
    assert data.shape == (4, 3, 8, 12)
