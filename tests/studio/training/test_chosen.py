"""`studio train images:DIR` with nothing else: what is chosen from the pictures and the pace of the machine,
what a user types wins, and going on is the same."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tiny import run_studio

import studio
from studio.config import Config, load_config
from studio.data.look import look
from studio.training import defaults

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


def folder(
    root: Path,
    draw: Callable[[ImageDraw.ImageDraw, int, int, np.random.Generator], None],
    sides: tuple[int, int],
    *,
    mode: str = "RGB",
    back: tuple[int, ...] | None = None,
    classes: tuple[str, ...] = ("a", "b"),
    each: int = 10,
) -> Path:
    """Pictures of sides between two numbers, in front of one colour or of one each."""
    rng = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for k in range(each):
            width, height = (int(v) for v in rng.integers(sides[0], sides[1] + 1, 2))
            picture = Image.new(
                "RGB", (width, height), back or tuple(int(v) for v in rng.integers(0, 200, 3))
            )
            draw(ImageDraw.Draw(picture), width, height, rng)
            picture.convert(mode).save(root / name / f"{k}.png")
    return root


def disc(pen: ImageDraw.ImageDraw, w: int, h: int, rng: np.random.Generator) -> None:
    x, y, r = w * rng.uniform(0.4, 0.6), h * rng.uniform(0.4, 0.6), min(w, h) * rng.uniform(0.15, 0.3)
    pen.ellipse((x - r, y - r, x + r, y + r), fill=tuple(int(v) for v in rng.integers(150, 256, 3)))


def hook(pen: ImageDraw.ImageDraw, w: int, h: int, rng: np.random.Generator) -> None:
    x, y = w * rng.uniform(0.25, 0.35), h * rng.uniform(0.15, 0.25)
    pen.line((x, y, x, y + 0.6 * h, x + 0.4 * w, y + 0.6 * h), fill="white", width=max(2, w // 8))


def settled(
    root: Path, *typed: str, pace: float | None = None, patch: pytest.MonkeyPatch | None = None
) -> Config:
    """What is chosen where a step takes ``pace`` seconds for a picture of 32×32 and more for larger ones, or
    what it takes here."""
    if pace is not None and patch is not None:
        patch.setattr(
            defaults,
            "step_seconds",
            lambda config, info, device, dtype: (
                pace
                * config.train.batch_size
                * np.prod(info.shape[1:])
                / 32**2
                * (config.backbone.get("hidden_size", 192) / 192) ** 2
            ),
        )
    return defaults.settled(
        load_config(f"images:{root}", typed), f"images:{root}", typed, CPU, torch.float32, quiet=True
    )


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("mixed") / "photos", disc, (40, 130))


def test_nothing_typed_nothing_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command as it stands in the first line of a manual, over pictures of all sizes; going on is with
    the very same settings."""
    small = folder(tmp_path / "photos", disc, (8, 11))
    made = run_studio("train", f"images:{small}", "train.minutes=0.02", "--threads", 1, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    for told in (
        "data.size=",
        "data.channels=3",
        "data.crop=centre",
        "train.flip=",
        "patch",
        "width",
        "train.batch_size=",
        "measured here",
        "ms a step",
    ):
        assert told in made.stderr, told
    run = tmp_path / "runs" / "photos"
    first = (run / "config.yaml").read_text()
    studio.train(f"images:{small}", ["train.minutes=0.03"], out=run, resume=True)
    assert "chosen" not in capsys.readouterr().err
    assert (run / "config.yaml").read_text() == first.replace("minutes: 0.02", "minutes: 0.03")
    assert (
        json.loads((run / "meta.json").read_text())["shape"][1:]
        == [load_config(run / "config.yaml").data["size"]] * 2
    )


def test_the_machine_s_pace_decides(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, middling, quick = (
        settled(mixed, "train.minutes=10", pace=p, patch=monkeypatch) for p in (1.0, 0.04, 0.001)
    )
    assert [c.data["size"] for c in (slow, middling, quick)] == [32, 48, 64]
    assert slow.backbone["hidden_size"] < quick.backbone["hidden_size"] == 192
    assert slow.train.batch_size <= middling.train.batch_size < quick.train.batch_size
    for c in (slow, middling, quick):
        assert c.train.minutes == 10 and c.train.steps is None and c.train.save_every > 0
    assert quick.train.preview and not slow.train.preview  # a grid would take most of the ten minutes
    short, long = settled(mixed, pace=0.001, patch=monkeypatch), settled(mixed, pace=0.1, patch=monkeypatch)
    assert defaults.SHORTEST == short.train.minutes < long.train.minutes <= defaults.LONGEST


def test_a_size_is_one_number_or_two(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(*typed: str) -> Config:
        return settled(mixed, *typed, pace=0.01, patch=monkeypatch)

    wide = chosen("data.size=[16,24]")
    assert wide.tree()["data"]["size"] == [16, 24] and wide.data["crop"] == "centre"
    form = {k: v for k, v in wide.backbone.items() if k != "hidden_size"}
    assert form["stem_channels"] == (32,)  # 8 × 12 tokens
    square = chosen("data.size=[24,24]").tree()
    assert square["data"].pop("size") == [24, 24]
    alike = chosen("data.size=24").tree()
    assert alike["data"].pop("size") == 24 and square == alike
    assert len(chosen("data.size=[32,64]").backbone["stem_channels"]) == 2  # 8 × 16
    assert chosen("data.size=[9,15]").backbone["patch_size"] == 1
    for size in ("[16]", "[16,24,3]", "0", "[16,0]", "-16", "1.5", "[16.5,24]", "wide", "16x24", "true"):
        with pytest.raises(ValueError, match=r"data.size=.*height and width, such as \[16,24\]"):
            chosen(f"data.size={size}")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="pictures of 16×25, expected multiples of the patch size 2"):
        settled(mixed, "data.size=[16,25]", "backbone.patch_size=2")


def test_what_was_typed_wins(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = {
        "data.size": 40,
        "data.channels": 1,
        "data.crop": "none",
        "train.flip": True,
        "train.batch_size": 6,
        "train.steps": 77,
        "backbone.hidden_size": 96,
        "train.eval_every": 5,
        "train.save_every": 0,
        "train.log_every": 3,
        "backbone.patch_size": 4,
    }
    for flip in (True, False):
        typed["train.flip"] = flip
        config = settled(
            mixed, *(f"{k}={str(v).lower()}" for k, v in typed.items()), pace=0.01, patch=monkeypatch
        )
        tree = config.tree()
        assert {k: tree[k.partition(".")[0]][k.partition(".")[2]] for k in typed} == typed
        assert (
            config.train.minutes is None
            and "stem_channels" not in config.backbone
            and 96 % config.backbone["num_heads"] == 0
        )
    assert settled(mixed, "backbone.size=Mi/4", pace=0.01, patch=monkeypatch).backbone == {
        "name": "dit",
        "size": "Mi/4",
    }
    own = settled(
        mixed,
        "backbone.name=dit",
        "backbone.hidden_size=96",
        "backbone.depth=2",
        pace=0.01,
        patch=monkeypatch,
    ).backbone
    assert "size" not in own and (own["hidden_size"], own["depth"]) == (96, 2)  # a size would overrule them
    assert settled(mixed, "backbone.name=dis", pace=0.01, patch=monkeypatch).backbone["name"] == "dis"
    monkeypatch.undo()
    with pytest.raises(ValueError, match="width 97 and 5 heads"):
        defaults.settled(
            *[load_config(f"images:{mixed}", o := ("backbone.hidden_size=97", "backbone.num_heads=5"))],
            f"images:{mixed}",
            o,
            CPU,
            torch.float32,
        )


def test_flips_are_for_pictures_that_look_the_same_mirrored(mixed: Path, tmp_path: Path) -> None:
    assert look(mixed).mirrors  # type: ignore[union-attr]
    assert not look(folder(tmp_path / "hooks", hook, (40, 90))).mirrors  # type: ignore[union-attr]
    assert not look(folder(tmp_path / "few", disc, (40, 90), each=2)).mirrors  # type: ignore[union-attr]


def test_pictures_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grey files, colour files without a colour, small ones of one size, plain borders of one colour; and
    what is read agrees."""
    alike = settled(
        folder(
            tmp_path / "alike",
            lambda p, w, h, r: p.rectangle((8, 8, 20, 20), fill=(int(r.integers(99, 255)),) * 3),
            (28, 28),
            back=(30, 30, 30),
        ),
        pace=0.01,
        patch=monkeypatch,
    )
    assert "size" not in alike.data and alike.data["channels"] == 1 and "crop" not in alike.data
    grey = settled(folder(tmp_path / "grey", disc, (20, 60), mode="L"), pace=0.01, patch=monkeypatch)
    assert grey.data["channels"] == 1 and grey.data["crop"] == "centre"
    bordered = settled(
        folder(
            tmp_path / "logos",
            lambda p, w, h, r: p.rectangle((0.1 * w, 0.4 * h, 0.9 * w, 0.6 * h), fill="red"),
            (40, 120),
            back=(0, 40, 80),
        ),
        pace=0.01,
        patch=monkeypatch,
    )
    assert bordered.data["crop"] == "none" and list(bordered.data["background"]) == [0, 40, 80]
    whole = studio.data.load_data(bordered.data)
    corner = np.asarray(whole.train.values)[:, :, 0, 0]
    assert np.abs(corner.astype(int) - [0, 40, 80]).max() <= 2
    reds = (np.asarray(whole.train.values)[:, 0] > 128).sum((1, 2))
    assert (reds > 0).all()  # nothing was cut away


def test_own_settings_are_left_alone(mixed: Path) -> None:
    for source in ("points", "fashion-dit", f"npz:{mixed}", {"data": {"name": "images", "path": str(mixed)}}):
        assert not defaults.is_open(source)


def test_every_side_has_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from studio.checkpoints.build import Info
    from studio.training.speed import step_seconds

    for sides in ((8, 8), (28, 28), (33, 33), (24, 40), (64, 64)):
        config = load_config("images", ["train.batch_size=1"])
        config.backbone = defaults.network("dit", sides, 128)
        info = Info("image", (1, *sides), ("x",), {"name": "pixels"})
        monkeypatch.setattr("studio.training.speed.STEPS", 1)
        assert 0 < step_seconds(config, info, CPU, torch.float32) < 60
