"""The door is open: a new kind of condition, a new space with its path, and a new task, written here, outside
the packages, train, resume, are asked for on the command line, sweep and are evaluated.

Winds: where they blow to lies on a circle, and is asked for by a bearing such as ``90°``.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import studio
from backbones.types import Cond, Noise
from samplers.batch import Ends, State
from samplers.paths import EVERY as PATHS
from samplers.paths import AnyPath, as_time
from samplers.prediction import Prediction
from samplers.spaces import REGISTRY as SPACES
from samplers.spaces.euclid import Euclid
from studio.cli.main import main
from studio.data import REGISTRY as DATA
from studio.data import Data, from_arrays
from studio.data.conditions import KINDS, Field
from studio.data.kinds import PlainKind
from studio.evaluation.sets import SampleSet
from studio.tasks import REGISTRY as TASKS
from studio.tasks.base import Task

TAU = 2 * math.pi


def wrap(x: Tensor) -> Tensor:
    return torch.remainder(x + math.pi, TAU) - math.pi


# ---- a space, and a path on it --------------------------------------------------------------------


class Circle(Euclid):
    """Angles in [−π, π)."""

    name = "circle"

    def start(
        self, noise: Noise, shape: Sequence[int], cond: Cond = Cond(), **options: Any
    ) -> tuple[Tensor, Cond]:
        stream, dtype = options.get("stream", "prior"), options.get("dtype", torch.float32)
        return wrap(TAU * noise.uniform(shape, stream=stream, dtype=dtype)), cond

    def project(self, x: Tensor, cond: Cond) -> Tensor:
        return wrap(x)

    def difference(self, a: Tensor, b: Tensor) -> Tensor:
        return wrap(a - b)

    def step(self, x: Tensor, d: Tensor) -> Tensor:
        return wrap(x + d)


class Geodesic(AnyPath):
    """The shortest way from source to data, at an even pace."""

    space = "circle"

    def state(self, space: Any, pairs: Ends, t: Tensor, noise: Noise) -> State:
        way = space.difference(pairs.data, pairs.source)
        return State(space.step(pairs.source, t.to(way)[:, None] * way), t, pairs.cond, {"velocity": way})

    def convert(self, prediction: Prediction, to: str) -> Tensor:
        if (prediction.space, to) != ("velocity", "data"):
            return super().convert(prediction, to)
        left = (1 - as_time(prediction.t)).to(prediction.x).reshape(-1, 1)
        return Circle().step(prediction.x, left * prediction.value)


# ---- a kind of condition --------------------------------------------------------------------------


class Bearing(PlainKind):
    """``90°`` or a number of degrees; the network sees its cosine and sine."""

    def parse(self, field: Field, given: Any, *, files: bool = True) -> Tensor:
        if given is None or given == "none":
            return torch.tensor(math.nan)
        if isinstance(given, str) and given.startswith("@"):
            if not files:
                raise ValueError(f"got a file for {field.name}, expected its value")
            given = Path(given[1:]).read_text().strip()
        try:
            return torch.tensor(float(str(given).removesuffix("°")) % 360)
        except ValueError:
            raise ValueError(f"got {field.name}={given!r}, expected degrees, such as 90°") from None

    def show(self, field: Field, value: Tensor) -> str:
        return f"{float(str(value.numpy()))!r}°"

    def seen(self, field: Field, value: Tensor) -> Tensor:
        return torch.stack([torch.deg2rad(value).cos(), torch.deg2rad(value).sin()])

    def hint(self, field: Field) -> str:
        return "degrees, such as 90°"

    def encoder(self, field: Field) -> dict[str, Any]:
        return {"encoder": "numbers", "count": 2}


# ---- a task ---------------------------------------------------------------------------------------


def spread(samples: SampleSet, real: SampleSet) -> float:
    """1 − the length of the mean direction: 0 where all blow one way."""
    return 1 - float(np.abs(np.exp(1j * samples.values).mean()))


class Compass(Task):
    name, together = "compass", True
    measures: Any = {"spread": spread}

    def pictures(self, values: Tensor) -> list[Image.Image]:
        return [self.sheet(values)]

    def sheet(
        self, values: Tensor, *, columns: int | None = None, captions: Sequence[str] = ()
    ) -> Image.Image:
        rose = np.histogram(values.numpy(), 64, (-math.pi, math.pi))[0]
        return Image.fromarray((255 * rose / max(rose.max(), 1)).astype(np.uint8)[None].repeat(16, 0))


# ---- their data, and the run ----------------------------------------------------------------------


def winds(*, count: int = 512) -> Data:
    """Bearings all about, and winds that blow there but for a little."""
    rng = np.random.default_rng(0)
    bearing = rng.uniform(0, 360, count)
    values = wrap(torch.from_numpy(np.deg2rad(bearing) + 0.1 * rng.standard_normal(count)))[:, None].float()
    asked = {"bearing": ("bearing", [f"{b}°" for b in bearing])}
    codec = {"name": "scale", "std": 1.0}
    return from_arrays("winds", values, task="compass", codec=codec, conditions=asked)


CONFIG: dict[str, Any] = {
    "name": "winds",
    "data": {"name": "winds"},
    "backbone": {"name": "mlp", "width": 64, "depth": 2},
    "objective": {"path": "geodesic", "parameterization": "velocity", "cond_drop": 0.1},
    "train": {
        "steps": 240,
        "batch_size": 64,
        "lr": 1e-2,
        "dtype": "fp32",
        "save_every": 240,
        "weak_snapshot": False,
        "ema": ["0.99"],
    },
    "sample": {"sampler": "heun", "num_steps": 8, "guidance": ""},
}


@pytest.fixture(scope="module", autouse=True)
def registered() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for registry, name, thing in (
            (SPACES, "circle", "Circle"),
            (PATHS, "geodesic", "Geodesic"),
            (KINDS, "bearing", "Bearing"),
            (TASKS, "compass", "Compass"),
            (DATA, "winds", "winds"),
        ):
            patch.setitem(registry, name, f"{__name__}:{thing}")
        yield


@pytest.fixture(scope="module")
def run(registered: None, tmp_path_factory: pytest.TempPathFactory) -> studio.Run:
    return studio.train(CONFIG, out=tmp_path_factory.mktemp("door") / "winds", quiet=True)


def off(values: Tensor, degrees: float) -> float:
    return float(wrap(values - math.radians(degrees)).abs().mean())


def command(*words: Any) -> None:
    threads = torch.get_num_threads()
    try:
        main([str(w) for w in words])
    except SystemExit as end:
        assert not end.code
    finally:
        torch.set_num_threads(threads)


def test_a_wind_blows_where_it_is_asked_to(run: studio.Run, tmp_path: Path) -> None:
    """Across the seam at ±180° too, where numbers that are no angles would meet in the middle."""
    model = run.load(device="cpu", dtype="fp32")
    for degrees in (0, 90, 180, -135):
        made = model.sample(seeds=range(64), conditions={"bearing": degrees})
        assert off(made.values, degrees) < 0.35 and float(made.values.abs().max()) <= math.pi
    assert made.recipes[0]["fields"] == {"bearing": "225.0°"}
    guided = model.sample(seeds=range(64), conditions={"bearing": "180°"}, guidance="cfg=1.5")
    assert off(guided.values, 180) < 0.5
    free = model.sample(seeds=range(256)).values  # left open: from all about
    assert float(torch.exp(1j * free.double()).mean().abs()) < 0.3


def test_the_command_line_samples_by_a_file(run: studio.Run, tmp_path: Path) -> None:
    (tmp_path / "west.txt").write_text("270°\n")
    out = tmp_path / "out"
    command(
        "sample", run.folder, "--seeds", "0-7", "--set", f"bearing=@{tmp_path / 'west.txt'}", "--out", out
    )
    with np.load(out / "samples.npz") as file:
        assert off(torch.from_numpy(file["arr_0"]), 270) < 0.35
    recipe = json.loads((out / "recipe.json").read_text())[0]
    assert recipe["fields"] == {"bearing": "270.0°"} and (out / "grid.png").is_file()
    command("sample", run.folder, "--seeds", "0-7", "--set", "bearing=270.0°", "--out", tmp_path / "again")
    assert (out / "samples.npz").read_bytes() == (tmp_path / "again" / "samples.npz").read_bytes()


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(run: studio.Run, tmp_path: Path) -> None:
    config = {**CONFIG, "train": {**CONFIG["train"], "steps": 20, "log_every": 5, "preview": False}}
    whole = studio.train(config, out=tmp_path / "whole", quiet=True)
    half = studio.train(config, out=tmp_path / "half", quiet=True, on_log=lambda line: line["step"] < 10)
    assert half.interrupted and half.step == 10
    studio.train(config, out=tmp_path / "half", resume=True, quiet=True)
    last = "checkpoints/000000020/net.safetensors"
    assert (tmp_path / "half" / last).read_bytes() == (whole.folder / last).read_bytes()


def test_sets_are_made_evaluated_and_swept(run: studio.Run, tmp_path: Path) -> None:
    east = {"bearing": "90°"}
    studio.generate(run.load(device="cpu"), tmp_path / "east", num=100, conditions=east, quiet=True)
    studio.generate(run.load(device="cpu"), tmp_path / "all", num=100, quiet=True)
    narrow, wide = (studio.evaluate(tmp_path / name, "winds") for name in ("east", "all"))
    assert narrow.protocol["fields"] == {"bearing": "90.0°"} and "fields" not in wide.protocol
    assert narrow.protocol["task"] == "compass" and narrow.values["spread"] < 0.1 < wide.values["spread"]
    rows = studio.sweep(run.load(device="cpu"), tmp_path / "sweep", {"num_steps": [1, 8]}, num=64)
    assert [set(row) for row in rows] == [{"num_steps", "spread"}] * 2


def test_names_that_are_not_here_are_told(run: studio.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose parts are not registered says which."""
    for registry, name, word in (
        (PATHS, "geodesic", "path"),
        (TASKS, "compass", "task"),
        (KINDS, "bearing", "kind"),
    ):
        with monkeypatch.context() as patch:
            patch.delitem(registry, name)
            with pytest.raises(ValueError, match=f"got {word}.*{name}.*, expected one of"):
                studio.load(run.folder, device="cpu").sample(seeds=[0], conditions={"bearing": 1})
