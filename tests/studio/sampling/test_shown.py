"""What the objects of the Python API look like where they are printed, in a terminal and in a notebook, and
what ``studio`` offers."""

import io
import sys
import types
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import points_config
from tqdm.auto import tqdm

import studio
from studio.model.model import Model
from studio.runtime.progress import in_notebook
from studio.sampling.samples import SHOWN, Sample, Samples
from studio.training.run import Run


def test_a_model_is_a_few_lines(picture_model: Model, points_model: Model) -> None:
    for model in (picture_model, points_model):
        told = repr(model)
        assert str(model) == told and 4 <= told.count("\n") <= 10 and max(map(len, told.splitlines())) <= 120
        assert model.name in told and "parameters" in told and "tensor(" not in told
    assert (
        "bar, dot, ring, wedge" in repr(picture_model)
        and "image 1×8×8" in repr(picture_model)
        and "cfg=1.5" in repr(picture_model)
    )
    assert "classes" not in repr(points_model)


def test_a_model_on_another_path_is_shown_too(picture_model: Model) -> None:
    other = picture_model.on_path("vp(schedule=cosine)")
    assert (
        "path:      vp(schedule=cosine)" in repr(other)
        and "parameters" in repr(other)
        and "cosine" in other._repr_html_()
    )


def test_a_model_is_rich_in_a_notebook(picture_model: Model, picture_run: Run) -> None:
    told = picture_model._repr_html_()
    assert "<table>" in told and "bar, dot, ring, wedge" in told and "data:image/png;base64," in told
    odd = replace(picture_model, name="<script>a</script>")
    assert "<script>" not in odd._repr_html_() and "&lt;script&gt;" in odd._repr_html_()


def test_many_classes_do_not_fill_the_screen(picture_model: Model) -> None:
    many = replace(
        picture_model, info=replace(picture_model.info, classes=tuple(f"class {i}" for i in range(300)))
    )
    assert (
        "300" in repr(many) and len(repr(many)) < 1500 and len(many._repr_html_().partition("<img")[0]) < 3000
    )


@pytest.fixture(scope="module")
def samples(picture_run: Run) -> Samples:
    return picture_run.load(device="cpu", dtype="fp32").sample(seeds=[5, 3, 4], labels=[0, 1, 1], num_steps=2)


def test_samples_are_a_sequence(samples: Samples) -> None:
    assert isinstance(samples, Sequence) and len(samples) == 3 == len(list(samples)) and bool(samples)
    assert [s.seed for s in samples] == [5, 3, 4] and [s.seed for s in reversed(samples)] == [4, 3, 5]
    assert (
        samples[-1].seed == samples[2].seed == samples[np.int64(2)].seed == 4
        and samples.index(samples[1]) == 1
        and samples[1] in samples
    )
    assert samples[0] != samples[1] and samples.count(samples[0]) == 1
    part = samples[1:]
    assert (
        isinstance(part, Samples)
        and len(part) == 2
        and torch.equal(part.values, samples.values[1:])
        and part.recipes == samples.recipes[1:]
    )
    assert [s.seed for s in samples[::-1]] == [4, 3, 5] and len(samples[:0]) == 0
    for wrong in (3, -4):
        with pytest.raises(IndexError, match="of 3, expected -3 to 2"):
            samples[wrong]
    with pytest.raises(TypeError):
        samples["a"]  # type: ignore[call-overload]


def test_samples_are_pictures_in_a_notebook(samples: Samples, points_model: Model, tmp_path: Path) -> None:
    def opened(png: bytes) -> Image.Image:
        return Image.open(io.BytesIO(png))

    assert opened(samples._repr_png_() or b"").size == samples.grid().size
    assert np.array_equal(np.asarray(opened(samples[0]._repr_png_())), samples.values[0, 0].numpy())
    assert isinstance(samples[0], Sample) and np.array_equal(
        np.asarray(samples[0].picture), samples.values[0, 0].numpy()
    )
    many = Samples(samples.values[:1].expand(500, 1, 8, 8), samples.recipes[:1] * 500, samples.task, 1.0)
    assert opened(many._repr_png_() or b"").size == many[:SHOWN].grid().size
    assert many[:0]._repr_png_() is None and repr(many[:0]) == "Samples: none"
    dots = points_model.sample(seeds=range(150), num_steps=2)
    assert opened(dots._repr_png_() or b"").size == dots.grid().size and "2 float32" in repr(dots)
    assert samples[1:].save(tmp_path / "out")[0].name == "seed-000003.png"


def test_samples_and_runs_are_a_few_lines(samples: Samples, picture_run: Run) -> None:
    assert (
        repr(samples).splitlines()[0].startswith("Samples: 3 of 1×8×8 uint8 by ")
        and "seeds:   5,3-4" in repr(samples)
        and "bar, dot" in repr(samples)
    )
    assert repr(samples[0]) == "Sample: 1×8×8 uint8 of seed 5, class bar"
    assert (
        repr(picture_run).count("\n") <= 3
        and str(picture_run.folder) in repr(picture_run)
        and len(repr(picture_run)) < 500
    )


def test_dir_is_what_is_public() -> None:
    assert dir(studio) == sorted(studio.__all__)
    assert {
        "train",
        "load",
        "generate",
        "evaluate",
        "sweep",
        "translate",
        "compare",
        "compress",
        "Model",
        "Run",
        "Samples",
        "list_models",
        "__version__",
    } == set(dir(studio))
    for name in dir(studio):
        assert getattr(studio, name) is not None


def test_no_module_is_called_like_a_public_function() -> None:
    """Python would put the module in the function's place as soon as somebody imports from it."""
    assert not [
        name for name in dir(studio) if not name.startswith("_") and find_spec(f"studio.{name}") is not None
    ]
    assert callable(studio.sweep) and callable(studio.translate)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        studio.nothing  # type: ignore[attr-defined] # noqa: B018


def test_a_sweep_runs_to_its_end(picture_run: Run, tmp_path: Path) -> None:
    rows = studio.sweep(
        picture_run.folder, tmp_path / "a", {"cfg.scale": [1, 2], "num_steps": [1]}, images=1, device="cpu"
    )
    assert (
        rows == [{"cfg.scale": "1", "num_steps": "1"}, {"cfg.scale": "2", "num_steps": "1"}]
        and (tmp_path / "a" / "sheet.png").is_file()
    )
    assert studio.sweep(
        str(picture_run.folder), tmp_path / "b", ["num_steps=1,2"], images=1, device="cpu"
    ) == [
        {"num_steps": "1"},
        {"num_steps": "2"},
    ]
    for axes in ("num_steps=1", {"num_steps": []}, {"num_steps": [1, 1]}, [], ["num_steps"]):
        with pytest.raises(ValueError, match="expected"):
            studio.sweep(picture_run.folder, tmp_path / "c", axes, images=1, device="cpu")
    assert not (tmp_path / "c").exists()


def test_a_translation_takes_a_name(picture_run: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="translates nothing"):
        studio.translate(picture_run.folder, tmp_path / "a.png", tmp_path / "out", device="cpu")


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A kernel as tqdm.auto finds it, and the bars that were made in it."""
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    made: list[Any] = []

    class Bar(tqdm):  # type: ignore[type-arg, misc]
        def __init__(self, *args: Any, **options: Any):
            super().__init__(*args, file=io.StringIO(), **options)
            made.append(self)

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    return made


def test_progress_in_a_notebook_is_tqdms(notebook: list[Any], picture_run: Run, tmp_path: Path) -> None:
    assert in_notebook()
    model = picture_run.load(device="cpu", dtype="fp32")
    model.sample(seeds=range(4), num_steps=3, batch=2, guidance=None, sampler="euler")
    studio.generate(model, tmp_path / "set", num=4, num_steps=2)
    studio.train(points_config(steps=6), out=tmp_path / "run")
    assert [(b.desc.rstrip(": "), b.n, b.total) for b in notebook] == [
        ("sampling", 6, 6),
        ("generating", 4, 4),
        ("dots", 6, 6),
    ]
    assert "loss" in notebook[2].postfix and all(b.disable or b.last_print_n == b.n for b in notebook)
    seen: list[Any] = []
    model.sample(seeds=[0], num_steps=1, on_step=seen.append)
    studio.train(points_config(steps=2), out=tmp_path / "quiet", quiet=True)
    assert seen and len(notebook) == 3


def test_no_bar_of_tqdms_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for shell in (None, types.SimpleNamespace(config={"TerminalIPythonApp": {}})):
        monkeypatch.setitem(
            sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda shell=shell: shell)
        )
        assert not in_notebook()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not in_notebook()
