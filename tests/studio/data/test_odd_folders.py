"""Folders of pictures as people have them: hidden and system folders, parts of a data set, links, endings of
all kinds, and pictures of absurd sizes."""

import csv
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.data import Data, load_data
from studio.data.decode import decode
from studio.data.notes import of_data
from studio.evaluation.sets import open_set
from studio.generation.translate import gather


def put(root: Path, *names: str, kind: str | None = None, size: int = 6) -> Path:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (size, size, 3), dtype=np.uint8)).save(
            root / name, format=kind
        )
    return root


def load(root: Path, **options: object) -> Data:
    return load_data({"name": "images", "path": str(root), "cache": False, **options})


def left_out(data: Data) -> dict[str, str]:
    return dict(list(csv.reader(data.beside["files-left-out.csv"].splitlines()))[1:])


def test_hidden_and_system_folders_are_no_classes(tmp_path: Path) -> None:
    put(tmp_path, "cat/a.png", "dog/b.png", "dog/c.png")
    put(
        tmp_path,
        ".ipynb_checkpoints/a-checkpoint.png",
        "__MACOSX/cat/._a.png",
        ".thumbnails/b.jpg",
        "@eaDir/c.png/SYNOFILE.jpg",
        "cat/.hidden.png",
        "dog/._b.png",
    )
    put(tmp_path, "$RECYCLE.BIN/x.png", "cat/.ipynb_checkpoints/z.png")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("ref")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    data = load(tmp_path, held_out=0.0)
    assert data.classes == ("cat", "dog") and data.train.labels.tolist() == [0, 1, 1]
    left = left_out(data)
    assert {
        ".ipynb_checkpoints",
        "__MACOSX",
        ".thumbnails",
        "@eaDir",
        "$RECYCLE.BIN",
        "cat/.hidden.png",
        "dog/._b.png",
        "cat/.ipynb_checkpoints",
    } == set(left)
    told = [n for n in data.notes if "hidden" in n]
    assert len(told) == 1 and told[0].startswith("8 left out (first $RECYCLE.BIN)")
    judged = open_set(tmp_path)
    assert judged.classes == data.classes and "hidden" in judged.about["left_out"]
    assert len(gather([tmp_path])) == 3


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train", "val"),
        ("Training", "validation"),
        ("train2017", "val2017"),
        ("training_set", "test_set"),
        ("TRAIN", "TEST"),
    ],
)
def test_parts_of_a_data_set_are_no_classes(tmp_path: Path, train: str, val: str) -> None:
    put(
        tmp_path,
        *(f"{train}/{c}/{i}.png" for c in ("cat", "dog") for i in range(3)),
        f"{val}/dog/9.png",
        f"{val}/cat/8.png",
    )
    data = load(tmp_path)
    assert (
        data.classes == ("cat", "dog")
        and data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
        and data.held_out.labels.tolist() == [0, 1]
    )
    assert f"{val}/ is held out, {train}/ is trained on" in data.notes and f"in {train}/, {val}/" in of_data(
        data
    )
    with pytest.raises(
        ValueError, match=rf"data.held_out=0.2 .* leave it out, or set data.path={tmp_path / train}"
    ):
        load(tmp_path, held_out=0.2)
    assert len(open_set(f"images:{tmp_path}@held_out")) == 2 and len(open_set(tmp_path)) == 8


def test_a_third_part_is_left_for_judging_and_classes_need_not_be_everywhere(tmp_path: Path) -> None:
    put(tmp_path, "train/cat/0.png", "train/dog/0.png", "valid/dog/1.png", "test/cat/2.png", "test/dog/3.png")
    data = load(tmp_path)
    assert (len(data.train), data.held_out.labels.tolist(), data.classes) == (2, [1], ("cat", "dog"))
    assert "--ref" in left_out(data)["test"]
    flat = load(put(tmp_path / "flat", "train/0.png", "train/1.png", "val/2.png"))
    assert flat.classes == () and (len(flat.train), len(flat.held_out)) == (2, 1)
    only = load(put(tmp_path / "only", "train/a/0.png", "train/b/1.png"), held_out=0.0)
    assert only.classes == ("a", "b")


def test_parts_that_could_be_classes_are_refused_with_the_way_out(tmp_path: Path) -> None:
    put(tmp_path / "mixed", "train/a/0.png", "val/a/0.png", "extra/0.png")
    put(tmp_path / "two", "val/a/0.png", "test/a/0.png")
    put(tmp_path / "bare", "train/a/0.png", "test/0.png")
    for name, text in (("mixed", "beside extra/"), ("two", "val/, test/"), ("bare", "has classes and")):
        with pytest.raises(ValueError, match=rf"{text}.*data.path={tmp_path / name}/"):
            load(tmp_path / name)
    assert load(
        put(tmp_path / "vehicles", "train/0.png", "car/1.png", "plane/2.png"), held_out=0.0
    ).classes == ("car", "plane", "train")


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    put(tmp_path / "store", "pets/0.png", "pets/1.png", "more/2.png")
    put(tmp_path / "set", "dog/3.png")
    (tmp_path / "set" / "cat").symlink_to(tmp_path / "store" / "pets")
    (tmp_path / "set" / "dog" / "more").symlink_to(tmp_path / "store" / "more")
    (tmp_path / "set" / "dog" / "again").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "set" / "dog" / "self").symlink_to("self")
    data = load(tmp_path / "set", held_out=0.0)
    assert data.classes == ("cat", "dog") and data.train.labels.tolist() == [0, 0, 1, 1]
    assert left_out(data) == {
        "dog/again": "a link to a folder that it lies in",
        "dog/gone.png": "a link that leads nowhere",
        "dog/self": "a link that leads nowhere",
    }


def test_endings_of_all_kinds(tmp_path: Path) -> None:
    put(tmp_path, "a.jfif", "b.jpe", kind="JPEG")
    put(tmp_path, "c.ppm", "d.avif", "e.JPG", "f.tga", "g.jp2")
    put(tmp_path, "photo", "h.0042", kind="PNG")
    for name in ("x.heic", "y.NEF", "README", "notes.txt", "table.csv", "data.unknown"):
        (tmp_path / name).write_text("text")
    data = load(tmp_path, held_out=0.0)
    assert len(data.train) == 9
    assert set(left_out(data)) == {"x.heic", "y.NEF", "README"}
    assert any("2 files of other kinds left out (.heic, .nef)" in n for n in data.notes) and any(
        "1 left out (README)" in n for n in data.notes
    )


def test_one_huge_photo_does_not_end_a_run(tmp_path: Path) -> None:
    put(tmp_path, "a/0.png", "b/1.png")
    huge = Image.fromarray(np.arange(256, dtype=np.uint8)[None].repeat(200, 0)).resize(
        (12_000, 9_000), Image.Resampling.NEAREST
    )
    huge.save(tmp_path / "a" / "huge.jpg", quality=30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load(tmp_path, size=16, channels=1, held_out=0.0)
    assert len(data.train) == 3
    shown = data.train.values[1, 0].astype(float).mean(0)  # a ramp, of which columns 2 to 18 of 21 are seen
    assert np.abs(shown - 255 * (np.arange(2, 18) + 0.5) / 21).max() < 2
    huge.save(tmp_path / "a" / "huge.png", compress_level=1)  # cannot be read at less than its size
    data = load(tmp_path, size=16, channels=1, held_out=0.0)
    assert len(data.train) == 3 and data.skipped == 1 and "12000×9000 pixels" in left_out(data)["a/huge.png"]
    with pytest.raises(ValueError, match="huge.png"):
        load(tmp_path, size=16, channels=1, held_out=0.0, strict=True)


@pytest.mark.parametrize("shape", [(40_000, 1), (1, 40_000), (30_000, 3)])
def test_a_strip_is_cropped_before_it_is_enlarged(
    tmp_path: Path, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    plain = Image.Image.resize
    monkeypatch.setattr(
        Image.Image,
        "resize",
        lambda self, size, *a, **k: (made.append(size[0] * size[1]), plain(self, size, *a, **k))[1],
    )
    Image.fromarray(np.full(shape, 70, np.uint8)).save(tmp_path / "strip.png")
    array = decode(tmp_path / "strip.png", 64)
    assert array.shape == (1, 64, 64) and (array == 70).all() and max(made) <= 16_000_000


def test_a_class_called_by_a_digit_that_is_no_number(tmp_path: Path) -> None:
    data = load(put(tmp_path, "²/0.png", "10/1.png", "2/2.png", "٣/3.png", "½/4.png"), held_out=0.0)
    assert set(data.classes) == {"²", "10", "2", "٣", "½"} and data.classes.index("2") < data.classes.index(
        "10"
    )


@pytest.mark.skipif(os.getuid() == 0, reason="the superuser reads everything")
def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    put(tmp_path, "a/0.png", "b/1.png")
    (tmp_path / "b").chmod(0)
    assert "not readable" in left_out(load(tmp_path, held_out=0.0))["b"]
    (tmp_path / "b").chmod(0o700)
