"""A task of one's own, written outside the packages: curves with a measure, a file, a preview and an
augmentation of their own, through training, sampling, generation, evaluation and a sweep."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import backbones
import studio
from studio.data import REGISTRY as DATA
from studio.data.arrays import from_arrays
from studio.evaluation import evaluate, load_result
from studio.evaluation.sets import SampleSet, open_set
from studio.evaluation.sweep import parse_axis, sweep
from studio.tasks import REGISTRY as TASKS
from studio.tasks import guessed
from studio.tasks.base import Augment, Task

LENGTH = 12


def curves(*, count: int = 96, held_out: float = 0.25) -> Any:
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, (count, 1, 1))
    values = np.sin(np.linspace(0, 3, LENGTH) + phase).astype(np.float32)
    codec = {"name": "scale", "std": 0.7}
    return from_arrays("curves", values, None, (), held_out=held_out, task="curve", codec=codec)


class Smooth(nn.Module):
    """(B, C, L) → (B, C, L)."""

    def __init__(self, *, in_channels: int = 1, input_size: int = 0):
        super().__init__()
        self.net = nn.Conv1d(in_channels + 1, in_channels, 3, padding=1)
        self.length = input_size

    def forward(self, x: Tensor, t: Tensor, cond: Any = None, ctx: Any = None) -> Tensor:
        return self.net(torch.cat([x, t.expand(len(x)).view(-1, 1, 1).expand(-1, 1, x.shape[-1])], 1))


def roughness(samples: SampleSet, real: SampleSet) -> float:
    """How far mean squared steps of both sets lie apart."""
    steps = [np.square(np.diff(s.values, axis=-1)).mean() for s in (samples, real)]
    return float(abs(steps[0] - steps[1]))


def reverse(values: Tensor, noise: Any) -> Tensor:
    turned = noise.uniform(stream="reverse") < 0.5
    return torch.where(turned.view(-1, 1, 1), values.flip(-1), values)


class CurveTask(Task):
    name, together, listing, previewed = "curve", True, ("curves.csv",), 3
    array = "values"
    measures: Any = {"roughness": roughness}

    @property
    def legend(self) -> Mapping[str, np.ndarray]:
        return {"places": np.linspace(0, 3, LENGTH)}

    @property
    def augments(self) -> Mapping[str, Augment]:
        return {"reverse": Augment(reverse)}

    def pictures(self, values: Tensor) -> list[Image.Image]:
        return [self.sheet(values)]

    def sheet(
        self, values: Tensor, *, columns: int | None = None, captions: Sequence[str] = ()
    ) -> Image.Image:
        return Image.new("L", (len(values), LENGTH))

    def write(self, folder: Path, values: Tensor, recipes: Sequence[Mapping[str, Any]]) -> None:
        text = io.StringIO()
        np.savetxt(text, values[:, 0].numpy(), delimiter=",")
        (folder / "curves.csv").write_text(text.getvalue())


CONFIG: dict[str, Any] = {
    "name": "curves",
    "data": {"name": "curves"},
    "backbone": {"name": "smooth"},
    "objective": {"path": "linear", "parameterization": "velocity"},
    "train": {
        "steps": 4,
        "batch_size": 8,
        "warmup": 0,
        "schedule": "constant",
        "ema": ["0.9"],
        "dtype": "fp32",
        "eval_every": 2,
        "save_every": 2,
        "preview": True,
        "augment": ["reverse"],
    },
    "sample": {"sampler": "heun", "num_steps": 3, "guidance": ""},
}


@pytest.fixture(scope="module", autouse=True)
def registered() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "curve", f"{__name__}:CurveTask")
        patch.setitem(DATA, "curves", f"{__name__}:curves")
        patch.setitem(backbones.REGISTRY, "smooth", f"{__name__}:Smooth")
        yield


@pytest.fixture(scope="module")
def run(registered: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return studio.train(CONFIG, out=tmp_path_factory.mktemp("runs") / "curves", quiet=True)


def test_it_trains_resumes_and_is_previewed(run: Any, tmp_path: Path) -> None:
    last = "checkpoints/000000004"
    with Image.open(run.folder / last / "preview.png") as preview:
        assert preview.size == (3, LENGTH)
    out = tmp_path / "parts"
    studio.train(CONFIG, ["train.steps=2"], out=out, quiet=True)
    studio.train(CONFIG, ["train.steps=4"], out=out, resume=True, quiet=True)
    weights = f"{last}/net.safetensors"
    whole = (run.folder / weights).read_bytes()
    assert (out / weights).read_bytes() == whole
    plain = studio.train(CONFIG, ["train.augment=[]"], out=tmp_path / "plain", quiet=True)
    assert (plain.folder / weights).read_bytes() != whole
    with pytest.raises(ValueError, match="train.flip=true on curve data, expected pictures"):
        studio.train(CONFIG, ["train.flip=true"], out=tmp_path / "flipped", quiet=True)
    assert not (tmp_path / "flipped").exists()


def test_its_samples_are_kept_read_and_measured(run: Any, tmp_path: Path) -> None:
    model = run.load(device="cpu", dtype="fp32")
    assert model.denoiser.net.length == LENGTH
    made = model.sample(seeds=range(5))
    made.save(tmp_path / "saved")
    assert len((tmp_path / "saved" / "curves.csv").read_text().splitlines()) == 5
    studio.generate(model, tmp_path / "set", num=40, quiet=True)
    for folder in ("saved", "set"):
        assert {"values", "places", "task"} <= set(np.load(tmp_path / folder / "samples.npz"))
    assert studio.generate(model, tmp_path / "set", num=40, quiet=True).written == 0  # it is whole
    found = open_set(tmp_path / "set")
    assert (found.task, found.shape, len(found)) == ("curve", (1, LENGTH), 40)
    assert found.legend["places"].shape == (LENGTH,)
    np.testing.assert_allclose(found.values[:5], made.values.numpy(), atol=1e-5)
    assert open_set(tmp_path / "saved" / "samples.npz").task == "curve" != guessed(found.values, {})
    result = evaluate(tmp_path / "set", "curves")
    assert result.values.keys() == result.floor.keys() == {"roughness"} and result.protocol["task"] == "curve"
    assert result.values["roughness"] > result.floor["roughness"]
    alone = evaluate(model, "curves@train", num=40)
    assert alone.values == pytest.approx(result.values, abs=1e-5)
    studio.generate(model, tmp_path / "other", seeds="100-139", quiet=True)
    compared = studio.compare(tmp_path / "set", tmp_path / "other", "curves", rounds=20)
    assert set(compared.interval) == {"roughness"}


def test_a_sweep_and_what_it_refuses(run: Any, tmp_path: Path) -> None:
    model = run.load(device="cpu", dtype="fp32")
    axes = [parse_axis("num_steps=1,3")]
    found = list(sweep(model, tmp_path / "out", axes, metrics="roughness", num=24, images=2))
    assert [set(r.values) for _, r, *_ in found if r is not None] == [{"roughness"}] * 2
    assert (tmp_path / "out" / "heat-roughness.png").is_file()
    assert all(load_result(p).protocol["task"] == "curve" for p in (tmp_path / "out" / "jobs").glob("*.json"))
    for options, words in (
        ({"metrics": "fd"}, "got metric 'fd' for curve, expected some of roughness"),
        ({"features": "lenet"}, "features=lenet for curve, expected pictures"),
        ({"ref": "points:moons"}, "got a reference of points for a model of curve"),
    ):
        with pytest.raises(ValueError, match=words):
            list(sweep(model, tmp_path / "no", axes, num=4, **options))
    assert not (tmp_path / "no").exists()
    with pytest.raises(ValueError, match="makes curve, not picture files"):
        Path(tmp_path / "bridge").mkdir()
        studio.translate(_starting_from_data(model), [tmp_path], tmp_path / "bridge")


def _starting_from_data(model: Any) -> Any:
    from dataclasses import replace

    return replace(model, info=replace(model.info, starts_from="other curves"))


def test_a_set_whose_task_is_not_here_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", arr_0=np.zeros((4, 1, 3), np.float32), task=np.array("sonnet"))
    with pytest.raises(ValueError, match="got task 'sonnet', expected one of .*curve, "):
        open_set(tmp_path / "a.npz")


def test_arrays_without_a_record_are_what_they_look_like() -> None:
    looks = {
        "image": np.zeros((2, 3, 4, 4), np.uint8),
        "points": np.zeros((2, 5), np.float32),
        "molecule": np.array(["C", "CC"]),
        "field": np.zeros((2, 3, 4, 4), np.float32),
    }
    assert {SampleSet("a", values).task for values in looks.values()} == set(looks)
    assert all(SampleSet("a", values).task == task for task, values in looks.items())
