"""Arrays from .npz files, numeric conditions, and training on what has none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import dit_config

import studio
from studio.data import load_data

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (8, 6, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (8, 6, 5, 3), dtype=np.uint8)


def load(path: Path, **options: Any) -> Any:
    return load_data({"name": "npz", "path": str(path), "held_out": 0.0, **options})


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    "array, want",
    [
        (GREY, GREY[:, None]),
        (COLOUR, COLOUR.transpose(0, 3, 1, 2)),
        (COLOUR.transpose(0, 3, 1, 2), COLOUR.transpose(0, 3, 1, 2)),
        (GREY[..., None], GREY[:, None]),
    ],
)
@pytest.mark.parametrize("name", ["images", "arr_0", "x"])
def test_pictures_in_every_order(array: np.ndarray, want: np.ndarray, name: str, tmp_path: Path) -> None:
    data = load(saved(tmp_path / "p.npz", **{name: array}), **({"images": "x"} if name == "x" else {}))
    assert (
        np.array_equal(data.train.values, want)
        and data.shape == want.shape[1:]
        and data.codec == {"name": "pixels"}
    )


def test_labels_and_names(tmp_path: Path) -> None:
    y = np.array([0, 2, 1, 1, 0, 2, 2, 0])
    plain = load(saved(tmp_path / "a.npz", images=GREY, labels=y))
    assert plain.classes == ("0", "1", "2") and plain.train.labels.tolist() == y.tolist()
    named = load(saved(tmp_path / "b.npz", images=GREY, labels=y, classes=np.array(["a", "b", "c", "d"])))
    assert named.classes == ("a", "b", "c", "d")
    other = load(saved(tmp_path / "c.npz", images=GREY, y=y), labels="y")
    assert other.train.labels.tolist() == y.tolist()
    for arrays, text in (
        ({"labels": y[:5]}, r"labels have shape \(5,\)"),
        ({"labels": y - 1}, "minimum -1"),
        ({"labels": y, "classes": np.array(["a"])}, "label 2 has no name, got 1 classes"),
        ({"numeric": np.zeros((3, 1))}, r"numeric has shape \(3, 1\)"),
    ):
        with pytest.raises(ValueError, match=text):
            load(saved(tmp_path / "d.npz", images=GREY, **arrays))


def test_vectors_are_scaled_by_their_deviation(tmp_path: Path) -> None:
    points = RNG.normal(size=(100, 3)) * 4
    data = load(saved(tmp_path / "v.npz", arr_0=points))
    assert (
        data.task == "points"
        and data.shape == (3,)
        and data.codec["std"] == pytest.approx(points.std(), rel=1e-5)
    )
    np.testing.assert_allclose(data.train.values, points, rtol=1e-6)


def test_files_that_are_something_else(tmp_path: Path) -> None:
    for arrays, text in (
        ({"images": GREY.astype(np.float32)}, "got float32 of shape.*expected uint8 pictures"),
        ({"pixels": GREY}, "holds pixels, expected.*data.images=NAME"),
        ({"images": GREY[:0]}, "holds no samples"),
        ({"images": np.array([{}])}, "pickled objects, which are never loaded"),
    ):
        with pytest.raises(ValueError, match=text):
            load(saved(tmp_path / "bad.npz", **arrays))
    whole = saved(tmp_path / "whole.npz", images=GREY).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:-200])
    (tmp_path / "text.npz").write_text("hello")
    for name in ("cut", "text"):
        with pytest.raises(ValueError, match="not a readable .npz|never loaded"):
            load(tmp_path / f"{name}.npz")
    with pytest.raises(ValueError, match="does not exist; check the path"):
        load(tmp_path / "absent.npz")
    with pytest.raises(ValueError, match="unknown option 'imges'.*did you mean 'images'"):
        load(tmp_path / "whole.npz", imges="x")


@pytest.fixture(scope="module")
def numeric_run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Points (a, b) whose conditions are their own coordinates, a third of them missing: the network learns
    to put samples where it is told."""
    root = tmp_path_factory.mktemp("numeric")
    rng = np.random.default_rng(3)
    points = rng.uniform(-1, 1, (2000, 2))
    numeric = points * [10.0, 0.5] + [100.0, 0.0]
    numeric[rng.uniform(size=numeric.shape) < 0.3] = np.nan
    np.savez(root / "n.npz", arr_0=points, numeric=numeric, numeric_names=np.array(["height", "ph"]))
    config = {
        "data": {"name": "npz", "path": str(root / "n.npz")},
        "backbone": {"name": "mlp", "width": 96, "depth": 2},
        "objective": {"cond_drop": 0.1},
        "train": {
            "steps": 500,
            "batch_size": 64,
            "lr": 4e-3,
            "dtype": "fp32",
            "ema": ["0.99"],
            "preview": True,
            "weak_snapshot": False,
            "warmup": 20,
            "save_every": 0,
            "eval_every": 0,
        },
        "sample": {"sampler": "heun", "num_steps": 15, "guidance": ""},
    }
    return studio.train(config, out=root / "run", quiet=True)


def test_numbers_steer_samples(numeric_run: Any) -> None:
    model = studio.load(numeric_run.folder, device="cpu", dtype="fp32")
    assert model.info.numeric == ("height", "ph") and model.info.numeric_mean[0] == pytest.approx(
        100, abs=0.5
    )
    assert model.info.numeric_std[0] == pytest.approx(10 / 3**0.5, rel=0.05)
    at = model.sample(seeds=range(200), conditions={"height": 105.0, "ph": -0.25}).values
    assert at.mean(0).tolist() == pytest.approx([0.5, -0.5], abs=0.12) and float(at.std(0).max()) < 0.25
    # one is missing, and text is a number
    half = model.sample(seeds=range(200), conditions={"ph": "-0.25"}).values
    assert float(half[:, 1].mean()) == pytest.approx(-0.5, abs=0.12) and float(half[:, 0].std()) > 0.4
    free = model.sample(seeds=range(200)).values
    assert float(free.std(0).min()) > 0.4
    recipe = model.sample(seeds=[1], conditions={"height": 105.123456789}).recipes[0]
    assert recipe["conditions"] == {"height": 105.123456789}
    for wrong, text in (
        ({"hight": 1}, "did you mean 'height'"),
        ({"ph": "sour"}, "ph='sour', expected a number"),
    ):
        with pytest.raises(ValueError, match=text):
            model.sample(seeds=[0], conditions=wrong)


def test_pictures_without_classes_train_with_the_shipped_configs(tmp_path: Path) -> None:
    """Their guidance has nothing to work on and is left out; asked for by name it is an error."""
    for i in range(12):
        Image.fromarray(RNG.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    small = [
        "backbone.size=null",
        "backbone.hidden_size=32",
        "backbone.depth=1",
        "backbone.num_heads=2",
        "backbone.patch_size=2",
        "train.steps=2",
        "train.batch_size=4",
        "train.preview=true",
    ]
    with pytest.raises(ValueError, match="no conditions to guide towards; leave it out"):
        studio.train(
            f"images:{tmp_path}", [*small, "sample.guidance=cfg=2"], out=tmp_path / "run", quiet=True
        )
    assert not (tmp_path / "run").exists()
    run = studio.train(f"images:{tmp_path}", small, out=tmp_path / "run", quiet=True)
    assert (run.folder / "checkpoints" / "000000002" / "preview.png").is_file()
    samples = run.load(device="cpu").sample(seeds=range(2), num_steps=2)
    assert (
        samples.values.shape == (2, 1, 8, 8)
        and samples.recipes[0]["guidance"] == ""
        and "label" not in samples.recipes[0]
    )
    with pytest.raises(ValueError, match="no conditions to guide towards"):
        run.load(device="cpu").sample(seeds=[0], guidance=2.0)


class Images(torch.utils.data.Dataset):
    """Float pictures in [−1, 1], or latents of five channels."""

    def __init__(self, channels: int):
        self.channels = channels

    def __len__(self) -> int:
        return 16

    def __getitem__(self, i: int) -> torch.Tensor:
        return torch.linspace(-1, 1, self.channels * 64).view(self.channels, 8, 8)


class Inner(torch.nn.Module):
    """A network of one's own that keeps its layers in ``net``, as checkpoints name theirs."""

    def __init__(self, channels: int):
        super().__init__()
        self.net = torch.nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor, t: torch.Tensor, cond: Any, ctx: Any = None) -> torch.Tensor:
        return self.net(x)


@pytest.mark.parametrize("channels", [1, 5])
def test_own_networks_and_float_pictures(channels: int, pictures: Path, tmp_path: Path) -> None:
    config = {"train": {**dit_config(pictures)["train"], "steps": 4, "preview": True}}
    run = studio.train(
        config, data=Images(channels), backbone=Inner(channels), out=tmp_path / "run", quiet=True
    )
    last = run.folder / "checkpoints" / "000000004"
    assert (last / "preview.png").is_file()
    with pytest.raises(ValueError, match="a network of its own; pass it"):
        studio.load(run.folder)
    from studio.model.export import export

    for weights in ("raw", "ema"):
        here = studio.load(
            run.folder, weights=weights, backbone=Inner(channels), device="cpu", dtype="fp32"
        ).sample(seeds=range(3), num_steps=2)
        flat = export(str(run.folder), tmp_path / f"flat-{weights}", weights=weights)
        there = studio.load(flat, backbone=Inner(channels), device="cpu", dtype="fp32").sample(
            seeds=range(3), num_steps=2
        )
        assert torch.equal(here.values, there.values) and here.values.dtype == torch.float32
        here.save(tmp_path / f"out-{weights}")
        with np.load(tmp_path / f"out-{weights}" / "samples.npz") as kept:
            np.testing.assert_array_equal(kept["arr_0"], here.values.numpy())
        scaled = here.values[0] / max(1.0, float(here.values.abs().max()))
        shown = np.asarray(here.pictures[0]).astype(float)
        np.testing.assert_allclose(shown, ((torch.cat([*scaled], dim=-1) + 1) * 127.5).numpy(), atol=0.51)
