"""A model is a folder: found by name, loaded from runs and exports, of this and of older versions of the
format."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import differences, files_below, run_studio

import studio
from studio.checkpoints import checkpoint
from studio.checkpoints.find import card, locate, weights_in
from studio.cli.listing import catalogue
from studio.model.catalog import find_by_hash, name_of, weights_hash
from studio.model.export import export
from studio.model.model import Model
from studio.runtime.recipes import read_recipe
from studio.sampling.commands import command_of
from studio.training.run import Run

GOLDEN = Path(__file__).parents[2] / "golden"
REQUEST = {"seeds": range(6), "num_steps": 3}


def weights_of(model: Model) -> dict[str, torch.Tensor]:
    return dict(model.denoiser.net.named_parameters())


def saved(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix("net."): v for k, v in load_file(folder / f"{name}.safetensors").items()}


@pytest.mark.parametrize(
    "weights, name",
    [("ema", "ema-0.99"), ("raw", "net"), ("ema-0.99", "ema-0.99"), ("ema-power-6", "ema-power-6")],
)
@pytest.mark.parametrize("step", [None, 16, 3])
def test_weights_and_steps_of_a_run(weights: str, name: str, step: int | None, picture_run: Run) -> None:
    where = picture_run.folder if step is None else f"{picture_run.folder}@{step}"
    model = studio.load(where, weights=weights, device="cpu", dtype="fp32")
    want = saved(picture_run.folder / "checkpoints" / f"{step or 48:09d}", name)
    got = {k: v.detach() for k, v in weights_of(model).items()}
    assert differences(got, {k: want[k] for k in got}) == []
    assert model.classes == ("bar", "dot", "ring", "wedge") and model.info.shape == (1, 8, 8)
    assert model.name == f"{picture_run.folder}@{step or 48}"
    assert model.weights == ("raw" if name == "net" else name)


def test_the_profiles_are_not_the_same(picture_run: Run) -> None:
    hashes = {
        studio.load(picture_run.folder, weights=w, device="cpu").hash
        for w in ("raw", "ema-0.99", "ema-power-6")
    }
    assert len(hashes) == 3


@pytest.mark.parametrize("weights", ["ema", "raw", "ema-power-6"])
def test_an_export_samples_what_the_run_samples(weights: str, picture_run: Run, tmp_path: Path) -> None:
    folder = export(str(picture_run.folder), tmp_path / "flat", weights=weights)
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.yaml",
        "meta.json",
        "model.safetensors",
        "preview.png",
    ]
    run, flat = (
        studio.load(f, weights=w, device="cpu", dtype="fp32")
        for f, w in ((picture_run.folder, weights), (folder, "auto"))
    )
    assert torch.equal(run.sample(**REQUEST).values, flat.sample(**REQUEST).values)
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata()["modelspec.architecture"] == "dit"
    shown = card(folder)
    assert (shown.step, shown.weights, shown.backbone) == (48, ("raw" if weights == "raw" else "ema",), "dit")


@pytest.mark.parametrize("dtype, bound", [("fp16", 2**-11), ("bf16", 2**-8)])
def test_a_sixteen_bit_export_is_the_rounded_model(
    dtype: str, bound: float, picture_run: Run, tmp_path: Path
) -> None:
    folder = export(str(picture_run.folder), tmp_path / "half", dtype=dtype)
    stored, whole = (
        load_file(folder / "model.safetensors"),
        saved(picture_run.folder / "checkpoints" / "000000048", "ema-0.99"),
    )
    assert all(
        v.dtype == {"fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
        for v in stored.values()
        if v.is_floating_point()
    )
    model = studio.load(folder, device="cpu", dtype="fp32")
    for key, value in weights_of(model).items():
        assert value.dtype == torch.float32
        assert ((value - whole[key]).abs() <= whole[key].abs() * bound + 1e-7).all(), key
    a, b = (
        m.sample(**REQUEST).values.float()
        for m in (model, studio.load(picture_run.folder, device="cpu", dtype="fp32"))
    )
    assert float((a - b).abs().mean()) < 1.0  # of 255
    again = export(str(folder), tmp_path / "again", dtype=dtype)  # an export of an export is the same
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_exports_are_not_written_over(picture_run: Run, tmp_path: Path) -> None:
    folder = export(str(picture_run.folder), tmp_path / "flat")
    before = files_below(folder)
    with pytest.raises(FileExistsError, match="--overwrite"):
        export(str(picture_run.folder), folder)
    with pytest.raises(ValueError, match="weights 'ema-0.5'.*ema-0.99"):
        export(str(picture_run.folder), folder, weights="ema-0.5", overwrite=True)
    with pytest.raises(ValueError, match="storage dtype 'int8'"):
        export(str(picture_run.folder), folder, dtype="int8", overwrite=True)
    assert files_below(folder) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="choose another --out"):
        export(str(picture_run.folder), tmp_path / "mine", overwrite=True)
    assert files_below(tmp_path / "mine") == {"letter.txt": b"dear"}
    assert export(str(picture_run.folder), folder, weights="raw", overwrite=True) == folder
    assert files_below(folder) != before and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("schema", [0, 1])
def test_frozen_models_of_every_schema_load_and_sample(schema: int) -> None:
    """Folders written when that schema was current; their samples were noted then."""
    folder = GOLDEN / f"schema{schema}"
    text = (folder / "config.yaml").read_text()
    assert ("model:" in text and "schema" not in text) if schema == 0 else "schema: 1" in text
    model = studio.load(folder, device="cpu", dtype="fp32")
    assert (
        model.config.schema == 1
        and model.config.backbone["name"] == "mlp"
        and model.config.objective["parameterization"] == "velocity"
    )
    values = model.sample(seeds=range(4)).values
    torch.testing.assert_close(
        values, torch.tensor(json.loads((folder / "samples.json").read_text())), rtol=1e-4, atol=1e-4
    )
    assert (folder / "model.safetensors").stat().st_size < 50_000


def test_schema_0_migrates_to_the_same_config_as_schema_1() -> None:
    a, b = (studio.load(GOLDEN / f"schema{s}", device="cpu").config for s in (0, 1))
    assert (a.backbone, a.objective, a.sample, a.data) == (b.backbone, b.objective, b.sample, b.data)


def test_folders_of_newer_versions_are_refused(picture_run: Run, tmp_path: Path) -> None:
    flat = export(str(picture_run.folder), tmp_path / "flat")
    config = flat / "config.yaml"
    config.write_text(config.read_text().replace("schema: 1", "schema: 2"))
    with pytest.raises(
        ValueError, match="written with schema 2, this version reads up to 1; upgrade drift-studio"
    ):
        studio.load(flat)
    config.write_text(config.read_text().replace("schema: 2", "schema: 1"))
    meta = json.loads((flat / "meta.json").read_text())
    (flat / "meta.json").write_text(json.dumps({**meta, "version": checkpoint.VERSION + 1}))
    with pytest.raises(
        ValueError,
        match=f"checkpoint version {checkpoint.VERSION + 1}, this version reads up to "
        f"{checkpoint.VERSION}; upgrade",
    ):
        studio.load(flat)
    # the picker leaves it out
    assert flat.name not in {c.folder.name for c in studio.list_models([tmp_path])}
    assert "cannot be read: " in catalogue("models", [str(tmp_path)])[str(flat)]  # the list names it
    run = shutil.copytree(picture_run.folder, tmp_path / "run")
    newest = run / "checkpoints" / "000000048" / "meta.json"
    newest.write_text(json.dumps({**json.loads(newest.read_text()), "version": 99}))
    with pytest.raises(ValueError, match="checkpoint version 99"):
        studio.load(run)
    assert studio.load(f"{run}@32", device="cpu").name.endswith("@32")


def test_names_that_lead_nowhere(picture_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = picture_run.folder
    for name, word in (
        (f"{run}@17", "no checkpoint at step 17, expected one of 3, 16, 32, 48"),
        (f"{run}@last", "expected .*@step with a whole number, not 'last'"),
        ("fashion-dot", "did you mean 'fashion-dit'"),
        (str(tmp_path), "no config.yaml"),
    ):
        with pytest.raises(ValueError, match=word):
            studio.load(name)
    monkeypatch.chdir(run.parent.parent)
    (run.parent.parent / "runs").exists() or (run.parent.parent / "runs").symlink_to(run.parent)
    assert locate(run.name)[0] == Path("runs") / run.name  # below runs/ the bare name is enough


def test_the_picker_reads_no_weights(picture_run: Run, tmp_path: Path) -> None:
    run = shutil.copytree(picture_run.folder, tmp_path / "runs" / "tiny")
    for path in run.rglob("*.safetensors"):
        path.write_bytes(b"\0" * path.stat().st_size)
    (found,) = [c for c in studio.list_models([tmp_path / "runs"]) if c.folder == run]
    assert (found.step, found.task, found.classes, name_of(found)) == (
        48,
        "image",
        ("bar", "dot", "ring", "wedge"),
        str(run),
    )
    assert set(found.weights) == {"raw", "ema-0.99", "ema-power-6"}
    assert find_by_hash(studio.load(picture_run.folder, device="cpu").hash, [found]) == found
    assert weights_hash(card(picture_run.folder)) == studio.load(picture_run.folder, device="cpu").hash


def test_the_bundled_model_is_found_by_its_name() -> None:
    shown = card("fashion-dit")
    assert (
        shown.shape == (1, 28, 28) and len(shown.classes) == 10 and weights_in(shown.folder).keys() == {"ema"}
    )
    model = studio.load("fashion-dit", device="cpu")
    assert (
        model.name == "fashion-dit"
        and sum(p.numel() for p in model.denoiser.net.parameters())
        == checkpoint.read_meta(shown.folder)["parameters"]
    )


def test_a_model_on_another_path_makes_nearly_the_same_pictures(picture_model: Model) -> None:
    """Both solve one curve: with many steps the pictures agree; the recipe names the path, and the command
    that it gives makes them again."""
    from studio.sampling.commands import command_of

    options = dict(seeds=[0, 1], labels=[0, 1], num_steps=60, sampler="heun", guidance=None)
    own, other = picture_model.sample(**options), picture_model.on_path("trig").sample(**options)
    assert float((own.values.float() - other.values.float()).abs().mean()) < 2.0
    assert (
        other.recipes[0]["path"] == "trig"
        and "--path trig" in command_of(other.recipes[0])
        and "path" not in own.recipes[0]
    )
    with pytest.raises(ValueError, match="got path 'trigg', .*did you mean 'trig'"):
        picture_model.on_path("trigg")


def test_an_attention_is_chosen_or_refused_when_the_model_is_loaded(picture_run: Run, tmp_path: Path) -> None:
    """By name; what cannot run on this device says why, and recipes say what was chosen."""
    there = studio.load(picture_run.folder, device="cpu", dtype="fp32").sample(seeds=[1], num_steps=2)
    here = studio.load(picture_run.folder, device="cpu", dtype="fp32", attention="explicit")
    samples = here.sample(seeds=[1], num_steps=2)
    assert samples.recipes[0]["attention"] == "explicit" and "attention" not in there.recipes[0]
    assert int((samples.values.int() - there.values.int()).abs().max()) <= 1
    for name, reason in (
        ("xformers", "xformers attention runs on cuda, got cpu; choose 'auto'"),
        ("flsh", "there is no attention backend 'flsh'; choose one of auto, sdpa"),
    ):
        with pytest.raises(ValueError, match=reason):
            studio.load(picture_run.folder, device="cpu", attention=name)
    line = ("sample", picture_run.folder, "--device", "cpu", "--out", tmp_path / "out")
    done = run_studio(*line, "--attention", "xformers", cwd=tmp_path)
    assert done.returncode == 2 and "error: xformers attention runs on cuda, got cpu" in done.stderr
    assert not (tmp_path / "out").exists()
    done = run_studio(*line, "--attention", "blocks", "--seeds", "0", cwd=tmp_path)
    assert done.returncode == 0 and "--attention blocks" in command_of(
        read_recipe(tmp_path / "out" / "grid.png")
    )
