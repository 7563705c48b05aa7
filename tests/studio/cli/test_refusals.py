"""Bad input: a clear error that says what was got and what to do, and nothing written or lost."""

import shutil
import struct
import zlib
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import dit_config, points_config

import studio
from studio.checkpoints import checkpoint
from studio.config import load_config
from studio.data import load_data
from studio.model.model import Model
from studio.training.run import Run


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.stepz=3", "did you mean 'steps'"),
        ("train.batch_size=many", "expected int"),
        ("train.steps=-4", "positive"),
        ("colour=red", "unknown key"),
        ("train.ema=[true]", "got EMA 'true', expected a decay"),
        ("sample.num_steps=0", "at least 1"),
        ("train.optimizer=sgd", "'adamw', 'muon'"),
    ],
)
def test_config(override: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_config("demo", [override])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backbone": {"name": "dit", "patchsize": 2}}, "did you mean 'patch_size'"),
        ({"backbone": {"name": "dlt"}}, "did you mean 'dit'"),
        ({"objective": {"path": "lineer"}}, "did you mean 'linear'"),
        ({"data": {"name": "npz", "path": "absent.npz"}}, "does not exist"),
    ],
)
def test_nothing_is_written_by_a_refused_run(
    change: dict[str, Any], words: str, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        studio.train({**dit_config(pictures), **change}, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_pictures_have_no_atoms_to_reorder(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train.reorder=true on image data, expected graphs"):
        studio.train(dit_config(pictures, reorder=True), out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_kept(points_run: Run) -> None:
    before = {p: p.read_bytes() for p in points_run.folder.rglob("*") if p.is_file()}
    with pytest.raises(FileExistsError, match="--resume to go on, --overwrite"):
        studio.train(points_config(), out=points_run.folder, quiet=True)
    with pytest.raises(ValueError, match="got device 'cuda:7'"):
        studio.train(points_config(), out=points_run.folder, overwrite=True, device="cuda:7", quiet=True)
    with pytest.raises(ValueError, match="expected one of"):
        studio.train(
            {**points_config(), "data": {"name": "nothing"}},
            out=points_run.folder,
            overwrite=True,
            quiet=True,
        )
    assert before == {p: p.read_bytes() for p in points_run.folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labels": 4}, "got class 4, expected 0 to 3"),
        ({"labels": "rng"}, "did you mean 'ring'"),
        ({"num_steps": -3}, "num_steps=-3"),
        ({"sampler": "hoin"}, "sampler 'hoin'"),
        ({"sampler": "ddim(respacing=ddim5)"}, "VP table"),
        ({"guidance": "cgf=2"}, "did you mean 'cfg'"),
        ({"seeds": "a-b"}, "numbers and ranges"),
        ({"labels": [1, 2], "seeds": "0-3"}, "2 labels for 4 seeds"),
        ({"conditions": {"ph": 7}}, "condition 'ph'"),
        ({"init": torch.zeros(1, 9, 9)}, r"expected \(1, 8, 8\)"),
        ({"init": torch.zeros(1, 8, 8), "strength": 1.5}, "strength=1.5"),
    ],
)
def test_sampling(options: dict[str, Any], words: str, picture_model: Model) -> None:
    with pytest.raises(ValueError, match=words):
        picture_model.sample(**{"seeds": [0], **options})


def test_a_sampler_that_needs_a_head_the_model_lacks(picture_model: Model) -> None:
    with pytest.raises(ValueError, match="no variance head"):
        picture_model.sample(seeds=[0], sampler="ddpm(variance=learned_range)")


def test_guidance_of_a_model_without_conditions(points_model: Model) -> None:
    with pytest.raises(ValueError, match="no conditions to guide"):
        points_model.sample(seeds=[0], guidance=2.0)


def test_files_are_not_replaced(picture_model: Model, tmp_path: Path) -> None:
    samples = picture_model.sample(seeds=[1], num_steps=2)
    samples.save(tmp_path)
    kept = (tmp_path / "seed-000001.png").read_bytes()
    with pytest.raises(FileExistsError, match="--overwrite"):
        picture_model.sample(seeds=[1], num_steps=3).save(tmp_path)
    assert (tmp_path / "seed-000001.png").read_bytes() == kept


def test_no_room_and_no_folder(picture_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = picture_model.sample(seeds=[1], num_steps=1)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        samples.save(tmp_path / "file" / "out")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("usage", "total used free")(10, 9, 1))
    with pytest.raises(ValueError, match="make room"):
        samples.save(tmp_path / "out")
    assert not (tmp_path / "out").exists() and (tmp_path / "file").read_text() == "mine"


@pytest.fixture
def damaged(points_run: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(points_run.folder, tmp_path / "damaged"))


def test_a_checkpoint_that_is_cut_off(damaged: Path) -> None:
    weights = checkpoint.find(damaged) / "ema-0.9.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(
        ValueError,
        match=r"cut off or damaged \(ema-0.9.safetensors: got \d+ bytes, expected \d+ bytes\); use .*@20",
    ):
        studio.load(damaged)
    assert studio.train(points_config(steps=60), out=damaged, resume=True, quiet=True).step == 60  # from 20
    assert [p.name for p in (damaged / "checkpoints").glob("broken-*")] == ["broken-000000040"]


def test_weights_of_another_shape(damaged: Path) -> None:
    text = (damaged / "config.yaml").read_text()
    (damaged / "config.yaml").write_text(text.replace("width: 32", "width: 16"))
    with pytest.raises(ValueError, match=r"has shape \(.*\), expected"):
        studio.load(damaged)


def test_newer_versions_and_pickles(damaged: Path, tmp_path: Path) -> None:
    text = (damaged / "config.yaml").read_text()
    (damaged / "config.yaml").write_text(text.replace("schema: 1", "schema: 99"))
    with pytest.raises(ValueError, match="schema 99.*upgrade"):
        studio.load(damaged)
    torch.save({"net": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="pickle, which is never loaded"):
        studio.load(tmp_path / "model.pt")


def test_schema_0_is_brought_up_to_date() -> None:
    tree = {
        "name": "old",
        "model": {"name": "mlp", "width": 16},
        "loss": {"path": "linear"},
        "train": {"steps": 5},
    }
    config = load_config(tree)
    assert (config.schema, config.backbone, config.objective) == (
        1,
        {"name": "mlp", "width": 16},
        {"path": "linear"},
    )


def picture(path: Path, size: tuple[int, int] = (8, 8), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path)


def test_folders_of_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no pictures"):
        load_data({"name": "images", "path": str(tmp_path / "empty")})
    for i in range(3):
        picture(tmp_path / "set" / "a" / f"{i}.png")
    (tmp_path / "set" / "b").mkdir()
    (tmp_path / "set" / "b" / "broken.png").write_bytes(b"not a picture")
    data = load_data({"name": "images", "path": str(tmp_path / "set"), "held_out": 0.0})
    assert (len(data.train), data.skipped, data.classes, data.shape) == (3, 1, ("a",), (1, 8, 8))
    with pytest.raises(ValueError, match="broken.png"):
        load_data({"name": "images", "path": str(tmp_path / "set"), "strict": True})
    picture(tmp_path / "set" / "b" / "wide.png", (12, 8), "RGB")
    with pytest.raises(ValueError, match="data.size=N to resize"):
        load_data({"name": "images", "path": str(tmp_path / "set")})
    assert load_data({"name": "images", "path": str(tmp_path / "set"), "size": 8, "channels": 3}).shape == (
        3,
        8,
        8,
    )


def test_a_picture_of_a_billion_pixels(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 25_000, 8, 0, 0, 0, 0))
    (tmp_path / "huge.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")
    )
    with pytest.raises(ValueError, match="huge.png.*pixels"):
        load_data({"name": "images", "path": str(tmp_path)})


def test_a_pickled_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="pickled objects"):
        load_data({"name": "npz", "path": str(tmp_path / "bad.npz")})
