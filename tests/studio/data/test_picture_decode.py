"""One decoder for every picture that comes in: upright, in sRGB, in front of its background, in the depth of
its numbers."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from studio.data import Data, load_data
from studio.data.colour import background_of
from studio.data.decode import decode
from studio.data.depth import Misfit, Reading

RNG = np.random.default_rng(0)
# no two turns of it are equal
CORNERS = np.array([[10, 20, 30], [40, 50, 60]], np.uint8).repeat(8, 0).repeat(8, 1)


def load(root: Path, **options: object) -> Data:
    return load_data({"name": "images", "path": str(root), "held_out": 0.0, "cache": False, **options})


def deep_png(path: Path, array: np.ndarray, extra: bytes = b"") -> Path:
    """A PNG of 16 bits a channel: (H, W) or (H, W, 2 to 4) uint16, which Pillow does not write in colour."""
    array = array[..., None] if array.ndim == 2 else array
    height, width, c = array.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[c], 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + (chunk(b"tRNS", extra) if extra else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


def deep_tiff(
    path: Path, array: np.ndarray, order: str = "<", photometric: int | None = None, samples: int = 1
) -> Path:
    """An uncompressed TIFF: (H, W) or (H, W, C) of any number type (``samples``: 1 unsigned, 2 signed, 3
    float)."""
    c = 1 if array.ndim == 2 else array.shape[2]
    data, bits = array.astype(array.dtype.newbyteorder(order)).tobytes(), array.dtype.itemsize * 8
    kind = (2 if c > 1 else 1) if photometric is None else photometric
    entries = [
        (256, array.shape[1]),
        (257, array.shape[0]),
        (258, None),
        (259, 1),
        (262, kind),
        (273, None),
        (277, c),
        (278, array.shape[0]),
        (279, len(data)),
    ]
    entries += [(338, 2)] if c == 4 else []
    entries += [(339, None)]
    after = 8 + 2 + 12 * len(entries) + 4
    blocks, body, start = [(258, [bits] * c), (339, [samples] * c)], b"", {}
    for tag, numbers in blocks:
        start[tag] = numbers[0] if c == 1 else after + len(body)
        body += struct.pack(f"{order}{c}H", *numbers) if c > 1 else b""
    start[273] = after + len(body)
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    for tag, value in entries:
        many = tag in (258, 339) and c > 1
        if tag in (258, 259, 262, 277, 338, 339) and not many:
            out += struct.pack(f"{order}HHIHH", tag, 3, 1, start[tag] if value is None else value, 0)
        else:
            out += struct.pack(
                f"{order}HHII",
                tag,
                3 if many else 4,
                c if many else 1,
                start[tag] if value is None else value,
            )
    path.write_bytes(out + struct.pack(f"{order}I", 0) + body + data)
    return path


# ---- how it stands -------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
def test_all_eight_orientations(ending: str, tmp_path: Path) -> None:
    """A file whose pixels are stored turned is seen as it was meant, in every format that says so."""
    meant = Image.fromarray(CORNERS)
    # what a camera did: the inverse of what EXIF asks for
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    for number, method in undo.items():
        stored = meant if method is None else meant.transpose(Image.Transpose(method))
        exif = Image.Exif()
        exif[0x0112] = number
        options = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(ending, {})
        stored.save(tmp_path / f"{number}.{ending}", exif=exif, **options)
        seen = decode(tmp_path / f"{number}.{ending}", None, 1)[0]
        assert seen.shape == CORNERS.shape and np.abs(seen.astype(int) - CORNERS).max() <= 4, number
    data = load(tmp_path, channels=1)
    assert data.shape == (1, 16, 24)
    if ending != "tif":  # Pillow turns those itself
        assert any("7 pictures were turned as EXIF says (first 2." in note for note in data.notes)


def test_a_frame_without_a_size_is_damage_in_words(tmp_path: Path) -> None:
    file = tmp_path / "no-width.png"  # what is inside counts
    Image.new("L", (4, 4)).save(file, "TIFF", save_all=True, append_images=[Image.new("L", (4, 4))])
    data = bytearray(file.read_bytes())

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little")

    first = number(4, 4)
    second = number(first + 2 + 12 * number(first, 2), 4)
    for at in range(second + 2, second + 2 + 12 * number(second, 2), 12):
        if number(at, 2) == 256:  # its width
            data[at : at + 2] = (65000).to_bytes(2, "little")
    file.write_bytes(bytes(data))
    with pytest.raises(OSError, match="has a frame without a size"):
        decode(file)


def test_a_deep_picture_is_turned_too(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.uint16).reshape(3, 4) * 341
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(
        decode(tmp_path / "a.png")[0], np.rot90(np.round(array / 4095 * 255), -1).astype(np.uint8)
    )


def test_broken_exif_is_told_and_turns_nothing(tmp_path: Path) -> None:
    Image.fromarray(CORNERS).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    data = load(tmp_path)
    assert np.array_equal(data.train.values[0, 0], CORNERS)


# ---- what is transparent -------------------------------------------------------------------------


def hidden_files(folder: Path) -> list[Path]:
    """A left half of (200, 100, 50) or grey 120 and a right half that is transparent over red or grey 7, in
    every way a file can say so."""
    folder.mkdir(exist_ok=True)
    colour = np.zeros((4, 8, 4), np.uint8)
    colour[:, :4], colour[:, 4:] = (200, 100, 50, 255), (255, 0, 0, 0)
    rgba = Image.fromarray(colour)
    rgba.save(folder / "rgba.png")
    rgba.save(folder / "rgba.webp", lossless=True, exact=True)
    rgba.save(folder / "rgba.tif")
    rgb = rgba.convert("RGB")
    rgb.save(folder / "trns.png", transparency=(255, 0, 0))
    palette = Image.new("P", (8, 4))
    palette.putpalette([200, 100, 50, 255, 0, 0])
    palette.putdata(([0] * 4 + [1] * 4) * 4)
    palette.save(folder / "palette.png", transparency=1)
    palette.save(folder / "palette.gif", transparency=1)
    palette.save(folder / "bytes.png", transparency=bytes([255, 0]))
    deep = colour.astype(np.uint16) * 257
    deep_png(folder / "deep.png", deep)
    deep_png(folder / "deeptrns.png", deep[..., :3], struct.pack(">HHH", 65535, 0, 0))
    deep_tiff(folder / "deep.tif", deep)
    return sorted(folder.iterdir())


def hidden_grey(folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    grey = np.where(np.arange(8) < 4, 120, 7).astype(np.uint8)[None].repeat(4, 0)
    alpha = np.where(grey == 7, 0, 255).astype(np.uint8)
    Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha))).save(folder / "la.png")
    Image.fromarray(grey).save(folder / "trns.png", transparency=7)
    deep_png(folder / "deep.png", np.stack([grey, alpha], -1).astype(np.uint16) * 257)
    deep_png(folder / "deeptrns.png", np.where(grey == 7, 7, 65535).astype(np.uint16), struct.pack(">H", 7))
    return sorted(folder.iterdir())


def test_the_hidden_colour_is_never_seen(tmp_path: Path) -> None:
    for file in hidden_files(tmp_path / "colour"):
        white, green = decode(file), decode(file, None, None, Reading((0, 255, 9)))
        assert white.shape == (3, 4, 8), file.name
        assert (white[:, :, :4].transpose(1, 2, 0) == (200, 100, 50)).all() and (
            white[:, :, 4:] == 255
        ).all(), file.name
        assert (green[:, :, 4:].transpose(1, 2, 0) == (0, 255, 9)).all(), file.name
        kept = decode(file, None, 4)
        assert kept.shape == (4, 4, 8) and (kept[3, :, :4] == 255).all() and (kept[3, :, 4:] == 0).all(), (
            file.name
        )
        assert decode(file, None, 1)[0, 0].tolist() == [124] * 4 + [255] * 4, file.name
    for file in hidden_grey(tmp_path / "grey"):
        left = 255 if file.name == "deeptrns.png" else 120
        assert decode(file)[0, 0].tolist() == [left] * 4 + [255] * 4, file.name
        assert decode(file, None, None, Reading((0, 0, 0)))[0, 0].tolist() == [left] * 4 + [0] * 4, file.name
        # the grey of red
        assert decode(file, None, None, Reading((255, 0, 0)))[0, 0].tolist() == [left] * 4 + [76] * 4, (
            file.name
        )
        assert decode(file, None, 4)[:, 0, 0].tolist() == [left] * 3 + [255], file.name


def test_half_transparent_is_mixed(tmp_path: Path) -> None:
    Image.new("RGBA", (3, 3), (100, 0, 200, 51)).save(tmp_path / "a.png")  # a fifth of it
    assert np.abs(decode(tmp_path / "a.png")[:, 0, 0].astype(int) - (224, 204, 244)).max() <= 1
    Image.new("RGBA", (3, 3), (100, 0, 200, 255)).save(tmp_path / "a.png")
    data = load(tmp_path)
    # nothing is transparent, nothing is told
    assert data.train.values[0, :, 0, 0].tolist() == [100, 0, 200] and not data.notes


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("white", (255, 255, 255)),
        ("black", (0, 0, 0)),
        ("#0a141e", (10, 20, 30)),
        ((1, 2, 3), (1, 2, 3)),
        ([9], (9, 9, 9)),
        (128, (128, 128, 128)),
        ("1, 2,3", (1, 2, 3)),
    ],
)
def test_backgrounds(given: object, wanted: tuple[int, int, int], tmp_path: Path) -> None:
    assert background_of(given) == wanted
    Image.new("RGBA", (2, 2), (9, 9, 9, 0)).save(tmp_path / "a.png")
    data = load(tmp_path, background=given)
    assert tuple(data.train.values[0, :, 0, 0]) == wanted == data.background
    assert any("put on the background" in note and "a.png" in note for note in data.notes)


@pytest.mark.parametrize(
    "wrong", ["nocolour", "#12", (1, 2), (1, 2, 300), 256, -1, 0.5, True, "#11223344", None]
)
def test_what_is_no_background(wrong: object, tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="background.*expected|expected.*background"):
        load(tmp_path, background=wrong)


# ---- how deep its numbers are --------------------------------------------------------------------


def expected(array: np.ndarray, top: float) -> np.ndarray:
    return np.round(array.astype(np.float64) * 255 / top).astype(np.uint8)


@pytest.mark.parametrize(
    ("greatest", "top"),
    [
        (200, 255),
        (256, 1023),
        (1023, 1023),
        (1024, 4095),
        (4095, 4095),
        (9000, 16383),
        (16384, 65535),
        (65535, 65535),
    ],
)
def test_a_file_alone_uses_the_smallest_depth_that_holds_it(greatest: int, top: int, tmp_path: Path) -> None:
    grey = RNG.integers(0, greatest + 1, (5, 7)).astype(np.uint16)
    grey[0, 0] = greatest
    colour = RNG.integers(0, greatest + 1, (5, 7, 3)).astype(np.uint16)
    colour[0, 0, 1] = greatest
    alpha = np.full((5, 7, 1), 65535, np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey).save(tmp_path / "grey.tif", compression="tiff_lzw")
    Image.fromarray(grey.astype(np.int32)).save(tmp_path / "int.tif")
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "float.tif")
    deep_tiff(tmp_path / "big.tif", grey, ">")
    deep_tiff(tmp_path / "unsigned.tif", grey.astype(np.uint32))
    for file in sorted(tmp_path.iterdir()):
        assert np.array_equal(decode(file)[0], expected(grey, top)), file.name
    for file in (
        deep_png(tmp_path / "c.png", colour),
        deep_tiff(tmp_path / "c.tif", colour),
        deep_tiff(tmp_path / "cb.tif", colour, ">"),
    ):
        assert np.array_equal(decode(file).transpose(1, 2, 0), expected(colour, top)), file.name
    for file in (
        deep_png(tmp_path / "a.png", np.concatenate([colour, alpha], -1)),
        deep_tiff(tmp_path / "a.tif", np.concatenate([colour, alpha], -1)),
    ):
        assert (
            np.array_equal(decode(file, None, 4).transpose(1, 2, 0)[..., :3], expected(colour, top))
            and (decode(file, None, 4)[3] == 255).all()
        ), file.name
    for file in (deep_png(tmp_path / "la.png", np.concatenate([grey[..., None], alpha], -1)),):
        assert np.array_equal(decode(file)[0], expected(grey, top)), file.name


def test_a_set_is_read_with_one_depth(tmp_path: Path) -> None:
    """The dark file is dark beside the bright one; alone it fills its own range; ``bits`` overrides; shallow
    files are as they are."""
    dark, bright = np.full((4, 4), 300, np.uint16), np.full((4, 4), 4000, np.uint16)
    for name, array in (("a", dark), ("b", bright)):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(tmp_path / "c.png")
    data = load(tmp_path)
    assert data.train.values[:, 0, 0, 0].tolist() == [19, 249, 7] and data.bits == 12 and data.decoder == 2
    assert "2 deep pictures with values up to 4000: read as 12 bits; data.bits changes it" in data.notes
    data = load(tmp_path, bits=16)
    assert data.train.values[:, 0, 0, 0].tolist() == [1, 16, 7] and data.bits == 16
    assert decode(tmp_path / "a.png")[0, 0, 0] == 75
    with pytest.raises(
        Misfit,
        match=r"b.png holds 4000, which is more than the 10 bits it is read with \(1023\); .*data.bits=12",
    ):
        load(tmp_path, bits=10)
    with pytest.raises(ValueError, match="got data.bits=11, expected one of 8, 10, 12, 14, 16"):
        load(tmp_path, bits=11)


def test_floats(tmp_path: Path) -> None:
    """0..1 is that range even where nothing is bright; whole numbers count as numbers; what could be either
    is refused by name."""
    dim = np.array([[0.0, 0.1], [0.25, 0.5]], np.float32)
    Image.fromarray(dim).save(tmp_path / "a.tif")
    assert decode(tmp_path / "a.tif").tolist() == [[[0, 26], [64, 128]]]
    assert decode(tmp_path / "a.tif", None, None, Reading(bits=12)).tolist() == [[[0, 26], [64, 128]]]
    data = load(tmp_path)
    assert (
        data.train.values.tolist() == [[[[0, 26], [64, 128]]]]
        and data.bits is None
        and "1 picture of floats in 0..1: 1 is white" in data.notes
    )
    Image.fromarray(dim + 0.55).save(tmp_path / "b.tif")
    with pytest.raises(
        Misfit,
        match=r"holds floats up to 1.05, expected 0..1 or whole numbers; scale them to 0..1, or set "
        r"data.bits=8",
    ):
        load(tmp_path)
    assert load(tmp_path, bits=8).train.values[0].max() == 0  # told otherwise: all of them in 0..255
    with pytest.raises(Misfit, match="b.tif holds floats up to 1.05"):
        decode(tmp_path / "b.tif")


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (
            np.array([[0.1, np.nan]], np.float32),
            "holds 1 values that are not finite, the first at row 0, column 1",
        ),
        (
            np.array([[0.1], [np.inf]], np.float32),
            "holds 1 values that are not finite, the first at row 1, column 0",
        ),
        (np.array([[-0.5, 0.5]], np.float32), "holds values from -0.5 to 0.5, expected none below 0"),
        (np.array([[-1000, 5]], np.int32), "holds values from -1000 to 5"),
        (np.array([[70000, 5]], np.int32), "holds values up to 70000, expected at most 65535"),
    ],
)
def test_what_is_no_pictures_number_is_refused_by_name(array: np.ndarray, why: str, tmp_path: Path) -> None:
    Image.new("L", (2, 1)).save(tmp_path / "ok.png")
    Image.fromarray(array).save(tmp_path / "bad.tif")
    for call in (lambda: decode(tmp_path / "bad.tif"), lambda: load(tmp_path)):
        with pytest.raises(Misfit, match=f"bad.tif {why}"):
            call()


def test_a_tiff_whose_white_is_zero(tmp_path: Path) -> None:
    array = np.array([[0, 4095, 2048]], np.uint16)
    assert decode(deep_tiff(tmp_path / "a.tif", array, photometric=0)).tolist() == [[[255, 0, 127]]]


# ---- its colours ---------------------------------------------------------------------------------


def linear_profile() -> bytes:
    """sRGB's primaries with a straight line for its curve, built from the library's own sRGB."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for k in range(int.from_bytes(data[128:132], "big")):
        at = 132 + 12 * k
        if data[at : at + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            offset = int.from_bytes(data[at + 4 : at + 8], "big")
            data[offset : offset + 12] = b"curv" + bytes(8)  # a curve of no entries is the identity
            data[at + 8 : at + 12] = (12).to_bytes(4, "big")
    return bytes(data)


def test_profiles_are_brought_to_srgb(tmp_path: Path) -> None:
    linear = np.array([[[0, 0, 0], [55, 55, 55], [255, 128, 10]]], np.uint8)
    x = linear / 255
    seen = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055) * 255  # IEC 61966-2-1
    Image.fromarray(linear).save(tmp_path / "linear.png", icc_profile=linear_profile())
    assert np.abs(decode(tmp_path / "linear.png").transpose(1, 2, 0) - seen).max() <= 1.5
    # grey with a profile of colours
    Image.fromarray(linear[..., 1]).save(tmp_path / "grey.png", icc_profile=linear_profile())
    assert np.abs(decode(tmp_path / "grey.png")[0] - seen[..., 1]).max() <= 1.5
    with_alpha = np.concatenate([linear, np.array([[[255], [255], [0]]], np.uint8)], -1)
    Image.fromarray(with_alpha).save(tmp_path / "alpha.png", icc_profile=linear_profile())
    got = decode(tmp_path / "alpha.png").transpose(1, 2, 0)
    assert np.abs(got[:, :2] - seen[:, :2]).max() <= 1.5 and (got[:, 2] == 255).all()
    data = load(tmp_path, channels=3)
    assert any(
        note.startswith("3 pictures were brought from their colour profile to sRGB (first alpha.png: sRGB")
        for note in data.notes
    )


def test_a_profile_of_srgb_changes_no_byte(tmp_path: Path) -> None:
    array = RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(array).save(
        tmp_path / "a.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    )
    data = load(tmp_path)
    assert np.array_equal(data.train.values[0].transpose(1, 2, 0), array) and not data.notes


def test_profiles_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    array = RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png", icc_profile=b"no profile at all")
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.fromarray(array).save(tmp_path / "b.png", icc_profile=lab)  # of another kind of picture
    data = load(tmp_path)
    assert np.array_equal(data.train.values[1].transpose(1, 2, 0), array)
    assert any(
        note.startswith(
            "2 pictures were taken as they are, because their colour profile does not apply (first a.png: "
        )
        for note in data.notes
    )


def test_modes_of_print_and_television(tmp_path: Path) -> None:
    colour = np.zeros((8, 8, 3), np.uint8)
    colour[:] = (200, 60, 90)
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "cmyk.tif")
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    Image.fromarray(colour).convert("YCbCr").save(tmp_path / "ycc.tif", compression="tiff_lzw")
    lab = ImageCms.profileToProfile(
        Image.fromarray(colour),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    lab.save(tmp_path / "lab.tif")
    Image.fromarray(np.arange(64).reshape(8, 8) % 2 == 0).save(tmp_path / "bits.png")
    for name in ("cmyk.tif", "cmyk.jpg", "ycc.tif", "lab.tif"):
        assert np.abs(decode(tmp_path / name)[:, 4, 4].astype(int) - (200, 60, 90)).max() <= 4, name
    assert decode(tmp_path / "bits.png")[0, 0, :2].tolist() == [255, 0]


# ---- what was there before -----------------------------------------------------------------------


def test_ordinary_pictures_have_the_bytes_they_had(tmp_path: Path) -> None:
    for name, shape in (("a.png", (9, 7, 3)), ("b.bmp", (9, 7, 3)), ("c.png", (9, 7)), ("d.jpg", (9, 7, 3))):
        Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / name)
        with Image.open(tmp_path / name) as picture:
            plain = np.asarray(picture)
        assert np.array_equal(
            decode(tmp_path / name), plain[None] if plain.ndim == 2 else plain.transpose(2, 0, 1)
        )
        with Image.open(tmp_path / name) as picture:
            small = (
                picture.convert("L")
                .resize((5, round(9 * 5 / 7)), Image.Resampling.LANCZOS)
                .crop((0, 0, 5, 5))
            )
        assert np.array_equal(decode(tmp_path / name, 5, 1)[0], np.asarray(small))


def test_a_cache_of_another_reading_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    Image.new("RGBA", (2, 2), (9, 9, 9, 0)).save(tmp_path / "set" / "a.png")
    Image.fromarray(np.full((2, 2), 1000, np.uint16)).save(tmp_path / "set" / "b.png")

    def values(**options: object) -> list[int]:
        spec = {"name": "images", "path": str(tmp_path / "set"), "held_out": 0.0, "channels": 3, **options}
        first, again = load_data(spec), load_data(spec)
        assert (first.hash, first.notes, first.bits, first.background) == (
            again.hash,
            again.notes,
            again.bits,
            again.background,
        )
        return again.train.values[:, 0, 0, 0].tolist()

    assert values() == [255, 249] and values(background="black") == [0, 249] and values(bits=12) == [255, 62]
    before = len(list((tmp_path / "cache").rglob("*.npy")))
    monkeypatch.setattr("studio.data.images.DECODER", 3)
    assert values() == [255, 249] and len(list((tmp_path / "cache").rglob("*.npy"))) == before + 1


def test_pictures_from_memory_too() -> None:
    """What Pillow opens from bytes is decoded as from a path."""
    buffer = io.BytesIO()
    Image.new("RGBA", (2, 2), (9, 9, 9, 0)).save(buffer, format="PNG")
    buffer.seek(0)
    assert decode(buffer).tolist() == [[[255, 255]] * 1 + [[255, 255]]] * 3  # type: ignore[arg-type]
