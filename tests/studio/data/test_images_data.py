"""A folder of pictures: classes, sizes, channels, the cache, and pictures in all their modes."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import studio.data.images as source
from studio.codecs.codec import Pixels, Scale
from studio.data import Data, load_data
from studio.data.decode import TooLarge, decode


def put(path: Path, array: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def grey(seed: int, height: int = 6, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def load(root: Path, **options: object) -> Data:
    return load_data({"name": "images", "path": str(root), "held_out": 0.0, **options})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three class folders, one of them with a folder below; names sort 2 before 10."""
    for i, name in enumerate(("10/a.png", "10/b.bmp", "2/c.png", "2/deep/d.PNG", "hat/e.tif")):
        put(tmp_path / "set" / name, grey(i))
    return tmp_path / "set"


def test_the_folder_is_the_class(folder: Path) -> None:
    data = load(folder)
    assert (data.classes, data.shape, data.task, data.skipped, data.name) == (
        ("2", "10", "hat"),
        (1, 6, 6),
        "image",
        0,
        "set",
    )
    assert data.train.labels.tolist() == [1, 1, 0, 0, 2]
    for i in range(5):
        assert np.array_equal(data.train.values[i, 0], grey(i))


def test_labels_from_a_table(tmp_path: Path) -> None:
    for i in range(3):
        put(tmp_path / f"{i}.png", grey(i))
    (tmp_path / "labels.csv").write_text('file,label\n0.png,cat\n2.png,"dog, small"\n1.png,cat\n')
    data = load(tmp_path)
    assert (data.classes, data.train.labels.tolist()) == (("cat", "dog, small"), [0, 0, 1])
    (tmp_path / "labels.csv").write_text("0.png,cat\n2.png,dog\n")
    with pytest.raises(
        ValueError, match=r"labels.csv has no label for 1.png \(1 are missing\); expected lines file,label"
    ):
        load(tmp_path)


def test_loose_pictures_have_no_class(tmp_path: Path) -> None:
    put(tmp_path / "0.png", grey(0))
    data = load(tmp_path)
    assert data.classes == () and data.train.labels is None
    put(tmp_path / "a" / "1.png", grey(1))
    with pytest.raises(ValueError, match="both folders and loose pictures such as 0.png"):
        load(tmp_path)


def test_size_crops_the_centre_square(tmp_path: Path) -> None:
    wide = np.zeros((4, 12), np.uint8)
    wide[:, 4:8] = 200
    put(tmp_path / "wide.png", wide)
    assert load(tmp_path, size=4).train.values[0].tolist() == [[[200] * 4] * 4]
    smooth = np.linspace(0, 255, 16).astype(np.uint8)[None].repeat(16, 0)
    put(tmp_path / "wide.png", smooth)
    small = load(tmp_path, size=4).train.values[0, 0].astype(int)
    want = smooth.reshape(4, 4, 4, 4).mean((1, 3))  # shrinking averages
    assert np.abs(small - want).max() <= 4


def test_channels(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    put(tmp_path / "c.png", colour)
    assert np.array_equal(load(tmp_path).train.values[0], colour.transpose(2, 0, 1))
    luma = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(load(tmp_path, channels=1).train.values[0, 0] - luma).max() <= 1
    with_alpha = load(tmp_path, channels=4).train.values[0]
    assert np.array_equal(with_alpha[:3], colour.transpose(2, 0, 1)) and (with_alpha[3] == 255).all()
    with pytest.raises(ValueError, match="data.channels=2, expected 1, 3 or 4"):
        load(tmp_path, channels=2)


def test_modes(tmp_path: Path) -> None:
    """Palette, bilevel, grey with alpha and 16 bits become what they show."""
    palette = Image.new("P", (2, 1))
    palette.putpalette([250, 10, 20, 1, 2, 3])
    palette.putdata([0, 1])
    palette.save(tmp_path / "p.png")
    assert decode(tmp_path / "p.png")[:, 0].T.tolist() == [[250, 10, 20], [1, 2, 3]]
    Image.fromarray(np.array([[0, 1]], bool)).save(tmp_path / "b.png")
    assert decode(tmp_path / "b.png").tolist() == [[[0, 255]]]
    Image.merge("LA", (Image.new("L", (1, 1), 77), Image.new("L", (1, 1), 9))).save(tmp_path / "la.png")
    assert decode(tmp_path / "la.png").tolist() == [[[249]]]  # nearly transparent, on white
    deep = np.array([[0, 257, 32896, 65535]], np.uint16)
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        assert decode(tmp_path / name).tolist() == [[[0, 1, 128, 255]]], name
    put(tmp_path / "rgba.png", np.full((1, 1, 4), 8, np.uint8))
    assert (
        decode(tmp_path / "rgba.png").shape == (3, 1, 1)
        and decode(tmp_path / "rgba.png", None, 4).tolist() == [[[8]]] * 4
    )


def test_a_cache_hit_is_the_same_data(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (folder / "hat" / "broken.png").write_bytes(b"nothing")
    first = load(folder)
    assert list((tmp_path / "cache" / "drift-studio").glob("*.npy")) and not list(
        (tmp_path / "cache").rglob("*.tmp")
    )

    def never(*args: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(source, "decode", never)
    hit = load(folder)
    assert (
        np.array_equal(first.train.values, hit.train.values)
        and first.train.labels.tolist() == hit.train.labels.tolist()
    )
    assert (first.hash, first.skipped, hit.hash, hit.skipped) == (first.hash, 1, first.hash, 1)
    with pytest.raises(ValueError, match="broken.png"):  # strict looks through the cache
        load(folder, strict=True)
    with pytest.raises(ValueError, match="decoded again"):
        load(folder, size=3)  # other options are another cache


def test_a_changed_picture_is_decoded_again(folder: Path) -> None:
    before = load(folder)
    put(folder / "10" / "a.png", grey(99))
    os.utime(folder / "10" / "a.png", ns=(1, 1))
    after = load(folder)
    assert np.array_equal(after.train.values[0, 0], grey(99)) and after.hash != before.hash


def test_the_number_of_decoders_changes_nothing(folder: Path) -> None:
    one, four = (load(folder, workers=n, cache=False) for n in (1, 4))
    assert one.hash == four.hash


def test_a_cache_that_cannot_be_written_is_no_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(load(folder).train) == 5


def test_broken_and_large_pictures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (folder / "2" / "c.png").read_bytes()
    (folder / "2" / "c.png").write_bytes(whole[: len(whole) // 2])  # cut off in the middle
    data = load(folder)
    assert (data.skipped, len(data.train), data.train.labels.tolist()) == (1, 4, [1, 1, 0, 2])
    with pytest.raises(
        ValueError, match=r"c.png does not decode.*1 of 5 pictures do not; mend or remove them"
    ):
        load(folder, strict=True, cache=False)
    monkeypatch.setattr("studio.data.decode.MAX_PIXELS", 35)
    with pytest.raises(TooLarge, match=r"has 6×6 pixels, expected at most 35; scale it down first"):
        decode(folder / "10" / "a.png")
    with pytest.raises(
        ValueError, match=r"has 6×6 pixels, expected at most 35; scale it down first\); 5 of 5"
    ):
        load(folder, cache=False)
    for path in folder.rglob("*.*"):
        path.write_bytes(b"x")
    with pytest.raises(ValueError, match="5 of 5 pictures do not"):
        load(folder)


def test_a_picture_of_a_billion_pixels_is_not_quietly_left_out(folder: Path) -> None:
    """Only its header is there: the size is judged before anything is decoded. The other pictures are
    fine."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    # Pillow refuses the first and warns of the second
    for width, height in ((40_000, 25_000), (10_000, 10_000)):
        header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        (folder / "2" / "huge.png").write_bytes(
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
        )
        data = load(folder)
        assert (
            data.skipped == 1
            and len(data.train) == 5
            and any("huge.png has" in n and "scale it down first" in n for n in data.notes)
        )
        assert "2/huge.png," in data.beside["files-left-out.csv"]
        with pytest.raises(ValueError, match="huge.png"):
            load(folder, strict=True)


def test_codecs_go_both_ways() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    x = Pixels().encode(every)
    assert (
        x.dtype == torch.float32
        and float(x.min()) == -1
        and float(x.max()) == 1
        and float(x.flatten()[51]) == pytest.approx(51 / 127.5 - 1)
    )
    assert torch.equal(Pixels().decode(x), every)
    assert Pixels().decode(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]
    points = torch.tensor([[3.0, -1.5]])
    assert Scale(std=1.5).encode(points).tolist() == [[2.0, -1.0]] and torch.equal(
        Scale(std=1.5).decode(Scale(std=1.5).encode(points)), points
    )
