"""What a caller gives to start from: one picture in every form that a user has it in is one picture, and one
mask is one mask."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from studio.data.depth import Reading
from studio.model.model import Model
from studio.sampling import inputs

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (8, 8), dtype=np.uint8)
FREE = np.zeros((8, 8), bool)
FREE[:, 3:] = True


def started(model: Model, init: Any, **options: Any) -> np.ndarray:
    """The picture that a model starts from, checked as every request is."""
    request, _ = model.request(seeds=[0], init=init, **options)
    assert request.init is not None and request.init.dtype == torch.uint8 and request.init.shape == (1, 8, 8)
    return request.init[0].numpy()


def freed(model: Model, mask: Any) -> np.ndarray:
    request, _ = model.request(seeds=[0], init=GREY, mask=mask)
    assert request.mask is not None and request.mask.dtype == torch.bool
    return request.mask.numpy()


@pytest.mark.parametrize(
    "form",
    [
        "uint8",
        "chw",
        "hwc",
        "list",
        "floats",
        "doubles",
        "int64",
        "uint16",
        "tensor",
        "ToTensor",
        "PIL",
        "PNG",
        "npy",
        "text",
    ],
)
def test_one_picture_in_every_form(form: str, picture_model: Model, tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", GREY / 255)
    forms = {
        "uint8": GREY,
        "chw": GREY[None],
        "hwc": GREY[..., None],
        "list": GREY.tolist(),
        "floats": GREY.astype(np.float32) / 255,
        "doubles": GREY / 255,
        "int64": GREY.astype(np.int64),
        "uint16": GREY.astype(np.uint16),
        "tensor": torch.from_numpy(GREY),
        "ToTensor": torch.from_numpy(GREY)[None] / 255,
        "PIL": Image.fromarray(GREY),
        "PNG": tmp_path / "a.png",
        "npy": tmp_path / "a.npy",
        "text": str(tmp_path / "a.png"),
    }
    assert np.array_equal(started(picture_model, forms[form]), GREY)


def test_floats_start_where_their_picture_does(picture_model: Model) -> None:
    """Floats in 0..1 were all black: the whole way to the samples."""
    options: dict[str, Any] = dict(seeds=[1], num_steps=4, strength=0.5)
    wanted = picture_model.sample(init=torch.from_numpy(GREY)[None], **options).values
    assert torch.equal(
        picture_model.sample(init=torch.from_numpy(GREY)[None] / 255, **options).values, wanted
    )


@pytest.mark.parametrize(
    "wrong, why",
    [
        (
            torch.from_numpy(GREY)[None] / 127.5 - 1,
            r"values from -\S+ to \S+, expected .* try \(x \+ 1\) / 2",
        ),
        (GREY.astype(np.int64) * 257, "values up to 6"),
        (GREY / 2.5, "scale, clip or round"),
        (np.where(FREE, np.nan, 0.5), "24|40"),
        (GREY[:4], "resize it first"),
    ],
)
def test_what_is_no_picture(wrong: Any, why: str, picture_model: Model) -> None:
    with pytest.raises(ValueError, match=why):
        picture_model.request(seeds=[0], init=wrong)


def test_files_are_read_as_the_models_own_were(picture_model: Model, tmp_path: Path) -> None:
    """Background and bits are those that the model has recorded, and a picture is upright."""
    model = replace(picture_model, info=replace(picture_model.info, background=(0, 0, 0), bits=12, decoder=2))
    alpha = np.where(FREE, 255, 0).astype(np.uint8)
    Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(alpha))).save(tmp_path / "la.png")
    assert np.array_equal(started(model, tmp_path / "la.png"), np.where(FREE, GREY, 0))
    assert np.array_equal(started(picture_model, tmp_path / "la.png"), np.where(FREE, GREY, 255))
    Image.fromarray(GREY.astype(np.uint16)).save(tmp_path / "deep.png")
    assert np.array_equal(
        started(model, tmp_path / "deep.png"), np.round(GREY * (255 / 4095)).astype(np.uint8)
    )
    assert np.array_equal(started(picture_model, tmp_path / "deep.png"), GREY)  # 8 bits hold it
    turned = Image.fromarray(GREY)
    exif = turned.getexif()
    exif[0x0112] = 3
    turned.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(started(model, tmp_path / "turned.png"), GREY[::-1, ::-1])
    with Image.open(tmp_path / "turned.png") as picture:  # not read yet, and read
        assert np.array_equal(started(model, picture), GREY[::-1, ::-1])
        picture.load()
        assert np.array_equal(started(model, picture), GREY[::-1, ::-1])


def test_a_frame_that_was_chosen_is_the_one(picture_model: Model, tmp_path: Path) -> None:
    Image.fromarray(255 - GREY).save(tmp_path / "a.tif", save_all=True, append_images=[Image.fromarray(GREY)])
    with Image.open(tmp_path / "a.tif") as picture:
        picture.seek(1)
        assert np.array_equal(started(picture_model, picture), GREY)


def files_of_masks(folder: Path) -> list[Path]:
    white = FREE.astype(np.uint8) * 255
    Image.fromarray(white).save(folder / "white.png")
    Image.fromarray(FREE.astype(np.uint8)).save(folder / "ones.png")
    Image.fromarray(FREE).save(folder / "bits.png")
    Image.fromarray(FREE.astype(np.uint16) * 65535).save(folder / "deep.png")
    Image.fromarray(FREE.astype(np.float32)).save(folder / "floats.tif")
    Image.fromarray(np.stack([white] * 3, -1)).save(folder / "rgb.png")
    for name, colour in (("black", 0), ("red", (255, 0, 0)), ("clear", 255)):
        layer = np.zeros((8, 8, 4), np.uint8)
        layer[..., :3] = colour
        layer[..., 3] = white
        Image.fromarray(layer).save(folder / f"alpha-{name}.png")
    strokes = np.zeros((8, 8, 4), np.uint8)  # white and black strokes on nothing
    strokes[:, 3:], strokes[:4, :3] = 255, (0, 0, 0, 255)
    Image.fromarray(strokes).save(folder / "strokes.png")
    palette = Image.fromarray(FREE.astype(np.uint8), "L").convert("P")
    palette.save(folder / "palette.png")
    np.save(folder / "a.npy", FREE)
    return sorted(folder.iterdir())


def test_one_mask_in_every_form(picture_model: Model, tmp_path: Path) -> None:
    for path in files_of_masks(tmp_path):
        assert np.array_equal(freed(picture_model, path), FREE), path.name
    white = FREE.astype(np.uint8) * 255
    arrays = [
        FREE,
        FREE.astype(np.uint8),
        white,
        FREE.astype(np.int64),
        FREE.astype(np.float32),
        white.astype(np.float32),
        FREE[None],
        FREE[..., None],
        np.stack([white] * 3),
        np.stack([white] * 3, -1),
        np.stack([FREE] * 3),
        np.stack([FREE.astype(np.float32)] * 3, -1),
        FREE.tolist(),
        FREE.astype(np.uint16) * 65535,
    ]
    for array in arrays:
        assert np.array_equal(freed(picture_model, array), FREE)
        if isinstance(array, np.ndarray) and array.dtype != np.uint16:
            assert np.array_equal(freed(picture_model, torch.from_numpy(array)), FREE)
    assert np.array_equal(freed(picture_model, Image.fromarray(FREE)), FREE)
    assert np.array_equal(freed(picture_model, Image.fromarray(white)), FREE)


def test_a_mask_of_as_many_rows_as_a_picture_has_channels() -> None:
    """(H, W, C) is told from (C, H, W) by the size that is wanted."""
    free = np.array([[True, False, True, True]] * 3)
    for array in (free, free[None], free[..., None], np.stack([free] * 3), np.stack([free] * 4, -1)):
        assert np.array_equal(inputs.mask(array, (3, 4)).numpy(), free)


@pytest.mark.parametrize(
    "value, why",
    [(0, "black everywhere: nothing may change"), (1, "white everywhere: nothing of the picture is kept")],
)
def test_a_mask_that_says_nothing_is_told(value: int, why: str, picture_model: Model) -> None:
    with pytest.warns(UserWarning, match=why):
        freed(picture_model, np.full((8, 8), value, np.uint8))


def test_what_is_no_mask(picture_model: Model, tmp_path: Path) -> None:
    photo = RNG.integers(0, 256, (8, 8, 4), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    with pytest.raises(ValueError, match="a picture with transparency"):
        freed(picture_model, tmp_path / "photo.png")
    for wrong, why in (
        (-FREE.astype(np.float32), "from -1"),
        (FREE[:4], "resize"),
        (np.full((8, 8), np.nan), "nan"),
        (np.array("a"), "a mask of"),
    ):
        with pytest.raises(ValueError, match=why):
            freed(picture_model, wrong)


def test_floats_of_a_models_own_stay_what_they_are() -> None:
    own, shape = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0)), (3, 4, 4)
    assert torch.equal(inputs.picture(own, shape, pictures=False, reading=Reading()), own)
    assert torch.equal(
        inputs.picture(own.permute(1, 2, 0).numpy(), shape, pictures=False, reading=Reading()), own
    )
    for wrong in (Image.new("RGB", (4, 4)), torch.zeros(shape, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="floats of its own"):
            inputs.picture(wrong, shape, pictures=False, reading=Reading())


def test_a_mask_of_the_picture_frees_every_latent_that_it_touches() -> None:
    small = np.zeros((8, 8), bool)
    small[0, 5] = True
    assert inputs.mask(small, (2, 2), (8, 8)).tolist() == [[False, True], [False, False]]
