"""A file of samples belongs to one set: same seeds made under any other setting do not count as there."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tiny import files_below, run_studio

import studio
from studio.evaluation.sets import open_set
from studio.generation import seal
from studio.generation.plan import command_of_manifest, read_manifest
from studio.model.model import Model
from studio.sampling.samples import save_png
from studio.training.run import Run

OPTIONS: dict[str, Any] = {
    "num": 6,
    "num_steps": 2,
    "guidance": "cfg=2.0",
    "deterministic": True,
    "quiet": True,
}


def generate(model: Model, out: Path, **options: Any) -> Any:
    return studio.generate(model, out, **{**OPTIONS, **options})


@pytest.fixture(scope="module")
def whole(picture_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("identity") / "whole"
    assert generate(picture_model, folder).written == 6
    return folder


@pytest.mark.parametrize(
    "options",
    [
        {"guidance": "cfg=3.0"},
        {"guidance": None},
        {"sampler": "euler"},
        {"sampler": "ddim(eta=0.5)"},
        {"num_steps": 3},
        {"labels": "2"},
        {"deterministic": False},
        {"path": "trig"},
    ],
)
def test_a_picture_of_the_same_seed_made_otherwise_is_made_again(
    options: dict[str, Any], whole: Path, picture_model: Model, tmp_path: Path
) -> None:
    mixed, other = tmp_path / "mixed", tmp_path / "other"
    shutil.copytree(whole, mixed)
    generate(picture_model, other, **options)
    shutil.copy(other / "000" / "000001.png", mixed / "000" / "000001.png")  # label 1 in the set: 2 differs
    if "labels" not in options:  # which stand in the pictures
        with pytest.raises(ValueError, match="000001.png.*studio generate"):
            open_set(mixed)
    assert generate(picture_model, mixed).written == 1
    assert files_below(mixed) == files_below(whole)


def test_a_picture_of_other_weights_is_made_again(
    whole: Path, picture_model: Model, picture_run: Run, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(whole, mixed)
    generate(studio.load(picture_run.folder, weights="raw", dtype="fp32", device="cpu"), tmp_path / "raw")
    shutil.copy(tmp_path / "raw" / "000" / "000004.png", mixed / "000" / "000004.png")
    assert generate(picture_model, mixed).written == 1
    assert files_below(mixed) == files_below(whole)


def test_a_picture_that_started_from_another_one_is_no_sample(
    whole: Path, picture_model: Model, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(whole, mixed)
    target = mixed / "000" / "000002.png"
    made = picture_model.sample(
        seeds=[2], labels=2, num_steps=2, guidance="cfg=2.0", deterministic=True, init=target, strength=0.5
    )
    save_png(target, made.pictures[0], made.recipes[0])
    assert generate(picture_model, mixed).written == 1
    assert files_below(mixed) == files_below(whole)


def test_what_is_damaged_anywhere_is_made_again_and_nothing_is_decoded(
    whole: Path, picture_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(whole, mixed)
    path = mixed / "000" / "000003.png"
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 8] ^= 1  # the size is right and the recipe is whole
    path.write_bytes(data)
    (mixed / "000" / "000005.png").write_bytes((whole / "000" / "000005.png").read_bytes()[:-12])  # no end
    assert generate(picture_model, mixed).written == 2 and files_below(mixed) == files_below(whole)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("a picture was decoded"))
    from PIL.PngImagePlugin import PngImageFile

    monkeypatch.setattr(PngImageFile, "load", lambda self: pytest.fail("a picture was decoded"))
    assert generate(picture_model, mixed).written == 0


def retouched(path: Path) -> None:
    """Other pixels, as a program writes them that keeps every text of a PNG: all its checksums hold."""
    with Image.open(path) as picture:
        picture.load()  # texts may stand behind the pixels
        said = {k: v for k, v in picture.info.items() if isinstance(v, str)}
        changed = picture.point(lambda value: 255 - value)
    info = PngInfo()
    for key, text in said.items():
        info.add_text(key, text)
    changed.save(path, format="PNG", pnginfo=info)


@pytest.mark.parametrize("texts", ["all", "recipe"])
def test_a_picture_is_what_its_digest_says(
    whole: Path, picture_model: Model, tmp_path: Path, texts: str
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(whole, mixed)
    path = mixed / "000" / "000003.png"
    data = path.read_bytes()
    assert seal.holds(data)
    body = data[: -seal.LENGTH - seal.END]
    assert hashlib.sha256(body).hexdigest().encode() in data[len(body) :]
    if texts == "recipe":  # a program that drops the digest
        path.write_bytes(body + data[-seal.END :])
    retouched(path)
    Image.open(path).verify()
    assert not seal.holds(path.read_bytes())
    assert generate(picture_model, mixed).written == 1 and files_below(mixed) == files_below(whole)


def test_pictures_of_sets_without_digests_stay(whole: Path, picture_model: Model, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(whole, older)
    manifest = json.loads((older / "manifest.json").read_text())
    assert manifest.pop("sealed") is True
    (older / "manifest.json").write_text(json.dumps(manifest))
    for path in older.glob("[0-9]*/*.png"):
        data = path.read_bytes()
        path.write_bytes(data[: -seal.LENGTH - seal.END] + data[-seal.END :])
    before = files_below(older)
    assert generate(picture_model, older).written == 0 and files_below(older) == before
    path = older / "000" / "000003.png"
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 8] ^= 1
    path.write_bytes(data)
    assert generate(picture_model, older).written == 1 and seal.holds(path.read_bytes())
    retouched(path)  # what bears a digest is held to it
    assert generate(picture_model, older).written == 1 and seal.holds(path.read_bytes())


def test_the_path_is_part_of_a_set(whole: Path, picture_model: Model, tmp_path: Path) -> None:
    """Also for sets that were begun before it was pinned: they are on the model's own."""
    older = tmp_path / "older"
    shutil.copytree(whole, older)
    manifest = json.loads((older / "manifest.json").read_text())
    assert manifest["pinned"].pop("path") == "own"
    (older / "manifest.json").write_text(json.dumps(manifest))
    for folder in (whole, older):
        before = files_below(folder)
        with pytest.raises(ValueError, match="path: it has 'own', this call 'trig'"):
            generate(picture_model.on_path("trig"), folder)
        assert generate(picture_model, folder).written == 0 and files_below(folder) == before
    other = tmp_path / "trig"
    assert generate(picture_model.on_path("trig"), other).written == 6
    assert generate(picture_model, other, path="trig").written == 0
    with pytest.raises(ValueError, match="path: it has 'trig', this call 'own'"):
        generate(picture_model, other)
    assert "--path trig" in command_of_manifest(read_manifest(other), other)


def test_the_command_takes_a_path(picture_run: Run, tmp_path: Path) -> None:
    common = (
        "generate",
        picture_run.folder,
        "--out",
        tmp_path / "out",
        "--num",
        4,
        "--num-steps",
        1,
        "--device",
        "cpu",
        "--path",
        "trig",
    )
    done = run_studio(*common, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_manifest(tmp_path / "out")["pinned"]["path"] == "trig"
    again = run_studio(*common, cwd=tmp_path)
    assert again.returncode == 0 and "(0 new" in again.stdout
    own = run_studio(*common[:-2], cwd=tmp_path)
    assert own.returncode == 2 and "path: it has 'trig', this call 'own'" in own.stderr


def older(folder: Path, strip: Callable[[Path], None]) -> None:
    """As a version wrote it that pinned no path and marked no unit."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["pinned"]["path"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for path in folder.glob("[0-9]*.npy"):
        strip(path)
    with np.load(folder / "samples.npz") as file:
        rows = file["arr_0"]
    np.savez(folder / "samples.npz", arr_0=rows)


def test_units_of_arrays_say_whose_they_are(points_model: Model, tmp_path: Path) -> None:
    options: dict[str, Any] = {"num": 1200, "guidance": None, "deterministic": False}
    mine, other = tmp_path / "mine", tmp_path / "other"
    generate(points_model, mine, **options)
    generate(points_model, other, **{**options, "num_steps": 3})
    good = files_below(mine)
    shutil.copy(other / "000.npy", mine / "000.npy")  # right shape, other settings
    assert (
        generate(points_model, mine, **options).written == 1000
        and files_below(mine)["000.npy"] == good["000.npy"]
    )
    shutil.copy(mine / "000.npy", tmp_path / "unit.npy")
    assert np.load(tmp_path / "unit.npy", mmap_mode="r").shape == (1000, 2)  # read as any .npy
    more = tmp_path / "more"
    generate(points_model, more, **{**options, "num": 2000})
    shutil.copy(more / "000.npy", more / "001.npy")  # this set's own, at another place
    assert generate(points_model, more, **{**options, "num": 2000}).written == 1000
    np.save(mine / "001.npy", np.load(mine / "001.npy"))  # nobody's
    assert generate(points_model, mine, **options).written == 200


def test_units_of_older_sets_stay(points_model: Model, tmp_path: Path) -> None:
    options: dict[str, Any] = {"num": 1200, "guidance": None, "deterministic": False}
    mine = tmp_path / "mine"
    generate(points_model, mine, **options)
    older(mine, lambda path: np.save(path, np.load(path)))
    before = files_below(mine)
    assert generate(points_model, mine, **options).written == 0 and files_below(mine) == before
    (mine / "001.npy").unlink()
    assert generate(points_model, mine, **options).written == 200
    generate(points_model, tmp_path / "other", **{**options, "num_steps": 3})
    # what says that it is another's is another's
    shutil.copy(tmp_path / "other" / "000.npy", mine / "000.npy")
    assert generate(points_model, mine, **options).written == 1000


def test_a_whole_npz_of_another_set_is_not_taken(picture_model: Model, tmp_path: Path) -> None:
    made = [
        generate(picture_model, tmp_path / name, format="npz", guidance=line)
        for name, line in (("a", "cfg=2.0"), ("b", "cfg=3.0"))
    ]
    good = (tmp_path / "a" / "samples.npz").read_bytes()
    assert generate(picture_model, tmp_path / "a", format="npz").written == 0
    shutil.copy(made[1].npz, made[0].npz)
    assert generate(picture_model, tmp_path / "a", format="npz").written == 6
    with np.load(tmp_path / "a" / "samples.npz", allow_pickle=False) as file:
        (tmp_path / "was.npz").write_bytes(good)
        assert np.array_equal(file["arr_0"], np.load(tmp_path / "was.npz")["arr_0"]) and file[
            "classes"
        ].tolist() == list(picture_model.classes)
