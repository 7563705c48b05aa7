"""Pictures read at one side or at two: what is scaled, what is cropped and filled up, and what is no size."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.data import Data, load_data
from studio.data import decode as decoding
from studio.data.colour import ORIENTATION
from studio.data.decode import decode
from studio.data.depth import Reading
from studio.data.kept import cache_path
from studio.data.look import look
from studio.data.sides import as_size, said, sides_of

LANCZOS = Image.Resampling.LANCZOS


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def array(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).transpose(2, 0, 1)


def load(root: Path, **options: object) -> Data:
    return load_data({"name": "images", "path": str(root), "held_out": 0.0, **options})


def kept_file(path: Path) -> tuple[int, bytes]:
    """Which file it is and what it holds; its times change when it is used."""
    return path.stat().st_ino, path.read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    for k, (height, width) in enumerate([(32, 48), (48, 32), (20, 20), (7, 90)]):
        noise(height, width, k).save(tmp_path / "set" / f"{k}.png")
    return tmp_path / "set"


def test_a_picture_of_that_ratio_is_scaled_and_no_more() -> None:
    picture = noise(32, 48)
    small = array(picture.resize((24, 16), LANCZOS))
    assert np.array_equal(decode(picture, (16, 24)), small)
    assert np.array_equal(decode(picture, (16, 24), whole=True), small)
    for size in (16, (16, 16)):  # the middle of the same
        assert np.array_equal(decode(picture, size), small[..., 4:20])


@pytest.mark.parametrize("height, width", [(33, 47), (47, 33), (5, 8), (1, 9), (64, 64)])
def test_one_number_reads_as_it_always_did(height: int, width: int) -> None:
    """The shorter side scaled, the middle cut out; or the longer one, and the rest filled up."""
    picture, back = noise(height, width), (9, 99, 200)
    for side in (1, 3, 16, 31, 101):
        scale = side / min(height, width)
        large = picture.resize((max(side, round(width * scale)), max(side, round(height * scale))), LANCZOS)
        left, top = (large.width - side) // 2, (large.height - side) // 2
        assert np.array_equal(decode(picture, side), array(large)[:, top : top + side, left : left + side])
        scale = side / max(height, width)
        inner = picture.resize((max(1, round(width * scale)), max(1, round(height * scale))), LANCZOS)
        square = Image.new("RGB", (side, side), back)
        square.paste(inner, ((side - inner.width) // 2, (side - inner.height) // 2))
        assert np.array_equal(decode(picture, side, reading=Reading(back), whole=True), array(square))


def test_both_sides_are_covered_and_the_middle_is_kept() -> None:
    """Of a picture with a column of its own colour for each place, and one with a row for each, the middle
    is left: no border shows that would have been filled up."""
    across = np.repeat(np.arange(0, 240, 5, dtype=np.uint8)[None, :, None], 8, 0).repeat(3, 2)  # 8 × 48
    seen = decode(Image.fromarray(across), (8, 24))
    assert np.array_equal(seen, across.transpose(2, 0, 1)[..., 12:36])
    seen = decode(Image.fromarray(across.transpose(1, 0, 2)), (24, 8))
    assert np.array_equal(seen, across.transpose(2, 1, 0)[:, 12:36])
    for height, width in ((1, 1), (3, 200), (200, 3), (17, 23)):
        for sides in ((16, 24), (24, 16), (5, 40), (1, 7)):
            grey = decode(Image.new("L", (width, height), 77), sides)
            assert grey.shape == (1, *sides) and (grey == 77).all()


def test_the_whole_picture_lies_in_the_middle_of_the_rectangle() -> None:
    red = Image.new("RGB", (16, 32), "red")
    seen = decode(red, (16, 24), reading=Reading((0, 0, 255)), whole=True)
    inside = np.zeros((16, 24), bool)
    inside[:, 8:16] = True
    assert (seen[0] == 255 * inside).all() and (seen[2] == 255 * ~inside).all()
    seen = decode(Image.new("RGBA", (64, 128), "red"), (24, 4), channels=4, whole=True)
    assert seen.shape == (4, 24, 4) and (seen[3] == 255).sum() == 8 * 4 and (seen[3, 8:16] == 255).all()


def test_a_long_strip_is_cut_before_it_is_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    strip = Image.fromarray(
        np.linspace(0, 255, 600).astype(np.uint8)[None, :, None].repeat(3, 0).repeat(3, 2)
    )
    plain = decode(strip, (16, 24))
    monkeypatch.setattr(decoding, "MOST_ENLARGED", 10_000)
    cut = decode(strip, (16, 24))
    assert cut.shape == plain.shape == (3, 16, 24)
    assert np.abs(cut.astype(int) - plain).max() <= 2  # 4.5 of 600 columns are seen
    assert decode(strip.transpose(Image.Transpose.ROTATE_90), (24, 16)).shape == (3, 24, 16)


@pytest.mark.parametrize("turned", [False, True])
def test_a_large_jpeg_is_decoded_small(turned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never smaller than is wanted of it, nor as large as for a square that holds both sides; as it is seen,
    not as it lies in the file."""
    y, x = np.mgrid[:96, :640]
    picture = Image.fromarray(np.dstack([x * 255 // 639, y * 255 // 95, 0 * x]).astype(np.uint8))
    exif = Image.Exif()
    if turned:
        exif[ORIENTATION], picture = 6, picture.transpose(Image.Transpose.ROTATE_90)
    picture.save(tmp_path / "a.jpg", quality=95, exif=exif)
    plain = decode(tmp_path / "a.jpg", (8, 80))
    monkeypatch.setattr(decoding, "MAX_PIXELS", 6000)
    small = decode(tmp_path / "a.jpg", (8, 80))
    assert np.abs(small.astype(int) - plain).max() <= 12
    with pytest.raises(decoding.TooLarge, match="expected at most 6,000"):
        decode(tmp_path / "a.jpg", (80, 8))


def test_a_folder_at_two_sides(folder: Path) -> None:
    data = load(folder, size=[16, 24])
    assert data.shape == (3, 16, 24) and len(data.train) == 4
    assert np.array_equal(data.train.values[0], decode(folder / "0.png", (16, 24)))
    whole = load(folder, size=(16, 24), crop="none")
    assert np.array_equal(whole.train.values[1], decode(folder / "1.png", (16, 24), whole=True))
    assert load(folder, size=(24, 16)).shape == (3, 24, 16)


def test_what_was_decoded_at_one_number_is_found_again(folder: Path) -> None:
    files = sorted(folder.iterdir())
    store = cache_path(folder, files, (2, 16, None, (255, 255, 255), None, "first")).with_suffix(".npy")
    assert not store.exists()
    load(folder, size=16)
    before = kept_file(store)
    assert load(folder, size=[16, 16]).shape == (3, 16, 16) and kept_file(store) == before
    kept = set(store.parent.iterdir())
    load(folder, size=[16, 24])
    assert len(set(store.parent.iterdir()) - kept) == 2 and kept_file(store) == before


def test_the_share_of_pictures_that_sides_keep(tmp_path: Path) -> None:
    for k in range(3):
        noise(20, 40, k).save(tmp_path / f"{k}.png")
    seen = look(tmp_path)
    assert seen is not None
    kept = [seen.kept(*sides) for sides in ((8, 8), (8, 16), (8, 32), (16, 8))]
    assert kept == [0.5, 1.0, 0.5, 0.25]


@pytest.mark.parametrize(
    "size, forms",
    [(16, (16, "16")), ([16, 24], ([16, 24], "[16,24]")), ((16, 16), (16, "16")), (np.int64(5), (5, "5"))],
)
def test_sizes(size: object, forms: tuple[object, str]) -> None:
    sides = sides_of(size)
    assert (as_size(sides), said(sides)) == forms and sides_of(as_size(sides)) == sides


@pytest.mark.parametrize(
    "size",
    [[16], [16, 24, 3], 0, [0, 16], [16, -4], 1.5, [16.0, 24], "16x24", ["a", "b"], True, [True, 8], []],
)
def test_what_is_no_size(size: object, folder: Path) -> None:
    with pytest.raises(ValueError, match=r"got data.size=.*height and width, such as \[16,24\]"):
        sides_of(size)
    with pytest.raises(ValueError, match="size.*expected"):
        load(folder, size=size)
