"""What a folder of pictures leaves out or changes is told once, with its reason, and nothing that is left out
can be asked for."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import dit_config, write_pictures

import studio
from studio.checkpoints.checkpoint import read_meta
from studio.config import load_config
from studio.data import Data, load_data


def load(root: Path, **options: object) -> Data:
    return load_data({"name": "images", "path": str(root), "held_out": 0.0, **options})


def put(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four classes; of ``bad`` and ``worse`` nothing decodes, of ``hat`` one file does not."""
    for i, name in enumerate(("arm/a.png", "arm/b.png", "hat/c.png", "zoo/d.png")):
        put(tmp_path / "set" / name, 10 * i)
    for name in ("bad/x.png", "bad/y.png", "worse/z.jpg", "hat/half.png"):
        (tmp_path / "set" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"nothing")
    return tmp_path / "set"


def test_a_class_without_a_picture_cannot_be_asked_for(folder: Path) -> None:
    for _ in range(2):  # from the cache too
        data = load(folder)
        assert (
            data.classes == ("arm", "hat", "zoo")
            and data.train.labels.tolist() == [0, 0, 1, 2]
            and data.skipped == 4
        )
        assert "no file of the classes 'bad', 'worse' decodes: left out, it cannot be asked for" in data.notes
        assert any(
            note.startswith("the first that does not decode is bad/x.png (cannot identify image file")
            for note in data.notes
        )
        rows = list(csv.reader(data.beside["files-left-out.csv"].splitlines()))
        assert [r[0] for r in rows] == [
            "file",
            "bad/x.png",
            "bad/y.png",
            "hat/half.png",
            "worse/z.jpg",
        ] and all(r[1] for r in rows)
    with pytest.raises(ValueError, match="bad/x.png does not decode"):
        load(folder, strict=True, cache=False)
    with pytest.raises(ValueError, match="4 pictures of .* do not decode"):
        load(folder, strict=True)


def test_a_run_records_what_is_left(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(folder / "arm" / "e.png", 3)
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(folder / "zoo" / "f.png")
    config = {
        **dit_config(write_pictures(tmp_path / "x.npz"), steps=1, save_every=0),
        "data": {
            "name": "images",
            "path": str(folder),
            "held_out": 0.0,
            "channels": 1,
            "background": "black",
        },
    }
    run = studio.train(config, out=tmp_path / "run")
    meta = read_meta(run.folder)
    assert meta["classes"] == ["arm", "hat", "zoo"] and (
        meta["decoder"],
        meta["background"],
        meta["bits"],
    ) == (2, [0, 0, 0], None)
    assert (run.folder / "files-left-out.csv").is_file()
    told = capsys.readouterr().err
    for line in (
        "4 files did not decode",
        "no file of the classes 'bad', 'worse'",
        "1 picture was put on the background [0, 0, 0]",
    ):
        assert told.count(line) == 1, line
    model = run.load(device="cpu")
    with pytest.raises(ValueError, match="bad"):
        model.sample(labels="bad", seeds=[0], num_steps=1)
    assert model.info.background == (0, 0, 0) and model.info.decoder == 2


def test_the_hash_is_that_of_an_older_run(folder: Path) -> None:
    """Which numbers classes have for want of files is no other content: what an older run recorded still
    fits."""
    from studio.data.arrays import content_hash

    data = load(folder)
    # arm 0, bad 1, hat 2, worse 3, zoo 4
    assert data.hash == content_hash(data.train.values, np.array([0, 0, 2, 4]), np.zeros(0))


def stacks(folder: Path) -> None:
    folder.mkdir()
    frames = [Image.fromarray(np.full((4, 4), v, np.uint8)) for v in (10, 20, 30)]
    frames[0].save(folder / "a.tif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "b.gif", save_all=True, append_images=frames[1:], duration=100)
    frames[0].save(folder / "c.png", save_all=True, append_images=frames[1:], duration=100)
    frames[0].convert("RGB").save(
        folder / "d.webp", save_all=True, append_images=[f.convert("RGB") for f in frames[1:]], lossless=True
    )
    deep = [Image.fromarray(np.full((4, 4), v, np.uint16)) for v in (1000, 2000, 4000)]
    deep[0].save(folder / "e.tif", save_all=True, append_images=deep[1:])
    Image.fromarray(np.full((4, 4), 40, np.uint8)).save(folder / "f.png")


def test_pages_and_frames_are_told_or_read(tmp_path: Path) -> None:
    stacks(tmp_path / "set")
    first = load(tmp_path / "set", channels=1)
    # alone, 1000 needs ten bits
    assert first.train.values[:, 0, 0, 0].tolist() == [10, 10, 10, 10, 249, 40] and first.bits == 10
    told = [n for n in first.notes if "several pages" in n]
    assert told == [
        "5 files with several pages or frames (first a.tif: 3): only the first of each is read, 10 "
        "further are left out; "
        "data.frames=all reads them as pictures of their own"
    ]
    every = load(tmp_path / "set", channels=1, frames="all")
    assert (
        every.train.values[:, 0, 0, 0].tolist() == [10, 20, 30] * 4 + [62, 125, 249] + [40]
        and every.bits == 12
    )
    assert not any("several pages" in n for n in every.notes)
    with pytest.raises(ValueError, match="frames"):
        load(tmp_path / "set", frames="some")


def test_pages_of_one_file_are_held_out_together(tmp_path: Path) -> None:
    for i in range(10):
        pages = [Image.fromarray(np.full((4, 4), 10 * i + k, np.uint8)) for k in range(3)]
        pages[0].save(tmp_path / f"{i}.tif", save_all=True, append_images=pages[1:])
    data = load(tmp_path, frames="all", held_out=0.3, cache=False)
    train, held = (set((part.values[:, 0, 0, 0] // 10).tolist()) for part in (data.train, data.held_out))
    assert len(held) == 3 and not train & held and len(data.held_out) == 9


def test_pictures_of_other_kinds_are_told(tmp_path: Path) -> None:
    put(tmp_path / "a.png", 1)
    for name in ("b.svg", "c.heic", "d.ico", "notes.txt", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"x")
    notes = load(tmp_path, cache=False).notes
    assert len(notes) == 1 and notes[0].startswith("3 files of other kinds left out (.heic, .ico, .svg)"), (
        notes
    )


def test_a_colour_on_the_command_line_is_no_comment() -> None:
    assert load_config("images:.", ["data.background=#ff0000"]).data["background"] == "#ff0000"
