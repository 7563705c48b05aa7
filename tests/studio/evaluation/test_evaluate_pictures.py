"""Folders of pictures as people have them in `evaluate`: a broken one is named, unlike ones say how they are
unlike, and both sides can be fitted."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from studio.cli.main import main
from studio.data.decode import decode
from studio.evaluation import evaluate
from studio.evaluation.fitting import fitted
from studio.evaluation.sets import SampleSet, open_set


class Means:
    """The mean of each quarter of each channel."""

    name, hash, dim, channels = "means", "0", 4, None

    def __call__(self, values: Tensor) -> dict[str, Tensor]:
        return {
            "features": torch.nn.functional.adaptive_avg_pool2d(
                values.float().mean(1, keepdim=True), 2
            ).flatten(1)
        }


def folder(
    path: Path, count: int = 12, *, sides: tuple[int, int] = (8, 8), mode: str = "RGB", seed: int = 0
) -> Path:
    path.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (*sides, 3), dtype=np.uint8)).convert(mode).save(
            path / f"{i:02d}.png"
        )
    return path


def wrong(one: Path, ref: Path, **options: object) -> str:
    with pytest.raises(ValueError) as error:
        evaluate(one, ref, features=Means(), metrics="fd", allow_small=True, **options)
    return str(error.value)


@pytest.mark.parametrize("side", ["samples", "reference"])
@pytest.mark.parametrize("place", ["00.png", "07.png"])
def test_a_broken_picture_is_named(side: str, place: str, tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a"), folder(tmp_path / "b", seed=1)
    broken = (a if side == "samples" else b) / place
    for content in (broken.read_bytes()[:60], b"", b"<html>not found</html>"):
        broken.write_bytes(content)
        text = wrong(a, b)
        assert f"{broken} is not a readable picture" in text and "mend it or take it out" in text
        assert not any(word in text for word in ("Error", "Traceback"))


def test_what_is_no_picture_is_told_before_anything_is_computed(tmp_path: Path) -> None:
    path = folder(tmp_path / "a") / "11.png"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="11.png is not a readable picture"):
        open_set(path.parent)


def test_unlike_pictures_say_how(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a"), folder(tmp_path / "b", seed=1)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(a / "05.png")
    text = wrong(a, b)
    assert (
        f"{a / '05.png'} is grey (1 channel), {a / '00.png'} is RGB (3 channels)" in text
        and "--channels" in text
        and "--size" not in text
        and "pixels" not in text
    )
    Image.fromarray(np.zeros((6, 9, 3), np.uint8)).save(a / "05.png")
    text = wrong(a, b)
    assert (
        f"{a / '05.png'} is 9×6 pixels, {a / '00.png'} is 8×8;" in text
        and "--size N" in text
        and "channel" not in text
    )
    (a / "05.png").unlink()
    grey = folder(tmp_path / "grey", mode="L", seed=2)
    assert "--size N --channels" in wrong(a, grey)


def test_both_sides_are_fitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As training reads pictures: the shorter side is scaled, the centre cut out; grey among RGB is one of
    them."""
    a, b = folder(tmp_path / "a", sides=(16, 20)), folder(tmp_path / "b", mode="L", seed=1)
    Image.fromarray(np.full((9, 7), 90, np.uint8)).save(a / "05.png")
    result = evaluate(a, b, features=Means(), metrics="fd", allow_small=True, size=np.int64(8), channels=1)
    assert result.values["fd"] >= 0 and not result.failed
    assert result.protocol["fitted"] == result.protocol["reference_fitted"] == "size=8, channels=1"
    values = fitted(open_set(a), 8, 1).values[:]
    assert (
        values.shape == (12, 1, 8, 8)
        and np.array_equal(values[0], decode(a / "00.png", 8, 1))
        and np.array_equal(values[5], decode(a / "05.png", 8, 1))
    )
    main(
        [
            "evaluate",
            str(a),
            "--ref",
            str(b),
            "--size",
            "28",
            "--channels",
            "1",
            "--features",
            "lenet",
            "--metrics",
            "fd",
            "--allow-small",
        ]
    )
    assert "fd" in capsys.readouterr().out


def test_pictures_in_memory_are_fitted_alike(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", sides=(16, 20))
    whole = open_set(path)
    array = SampleSet("array", whole.values[:])
    assert (
        np.array_equal(fitted(array, 8, 1).values[:], fitted(whole, 8, 1).values[:])
        and fitted(array, 8, 1).hash == fitted(whole, 8, 1).hash
    )
    assert fitted(array) is array and fitted(array, channels=1).shape == (1, 16, 20)


def test_both_sides_are_fitted_to_height_and_width(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = folder(tmp_path / "a", sides=(6, 9)), folder(tmp_path / "b", sides=(16, 20), seed=1)
    assert "fit both: --size 6,9 --channels" in wrong(a, b)
    Image.fromarray(np.zeros((30, 20, 3), np.uint8)).save(b / "05.png")
    result = evaluate(a, b, features=Means(), metrics="fd", allow_small=True, size=(6, 9))
    assert (
        not result.failed and result.protocol["fitted"] == result.protocol["reference_fitted"] == "size=[6,9]"
    )
    assert np.array_equal(fitted(open_set(b), [6, 9]).values[:1][0], decode(b / "00.png", (6, 9)))
    whole = SampleSet("array", open_set(a).values[:])
    assert fitted(whole, (6, 9)).hash == fitted(open_set(a), (6, 9)).hash == open_set(a).hash
    named = evaluate(a, f"images:{b}", features=Means(), metrics="fd", allow_small=True, size=(6, 9))
    assert named.values["fd"] == result.values["fd"] and named.protocol["reference_fitted"] == "size=[6,9]"
    assert open_set(f"images:{b}@held_out", None, {"size": [6, 9], "channels": None}).shape == (3, 6, 9)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(a / "05.png")
    assert "--size 6,9" in wrong(a, b)
    asked = f"evaluate {a} --ref {b} --metrics fd --features lenet --channels 1 --size".split()
    for size, told in (
        ("6,9", "of shape (1, 1, 6, 9), expected"),
        ("6,9,3", "got size=[6,9,3], expected a whole number of pixels of at least 1, or height and width"),
        ("6x9", "got size=6x9, expected"),
    ):
        with pytest.raises(SystemExit):
            main([*asked, size])
        assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, text",
    [
        (dict(size=0), "size=0"),
        (dict(size=[8]), "size=[8]"),
        (dict(size=2.5), "size=2.5"),
        (dict(channels=2), "channels=2"),
        (dict(channels="rgb"), "channels='rgb'"),
    ],
)
def test_what_cannot_be_fitted(options: dict[str, object], text: str, tmp_path: Path) -> None:
    a = folder(tmp_path / "a")
    assert text in wrong(a, a, **options)
    with pytest.raises(ValueError, match="got size for points samples"):
        fitted(SampleSet("dots", np.zeros((4, 2), np.float32)), 8)
