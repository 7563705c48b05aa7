"""The command line as a user types it, and the Python API beside it."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import torch
import warm
from PIL import Image
from tiny import ROOT, environment, run_studio

import studio
import studio.sampling
from studio.model.export import export
from studio.model.model import Model
from studio.runtime.recipes import read_recipe
from studio.sampling.commands import command_of
from studio.training.run import Run


def run(*words: object, cwd: Path = ROOT, process: bool = False) -> "subprocess.CompletedProcess[str]":
    return run_studio(*words, cwd=cwd, process=process)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom studio.cli import main\ntry: main(['--help'])\nexcept SystemExit: "
        "pass\nprint([m for m in ('torch', 'numpy', 'gradio', 'diffusers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"


def test_errors_are_one_line_and_exit_code_2(tmp_path: Path) -> None:
    for words in (
        ("sample", "fashion-dlt", "--out", tmp_path / "x"),
        ("train", "demo", "train.stepz=1"),
        ("sample", "fashion-dit", "--out", tmp_path / "x", "--labels", "Hat"),
    ):
        done = run(*words, process=words[0] == "train")
        assert (
            done.returncode == 2
            and done.stdout == ""
            and done.stderr.startswith("error: ")
            and done.stderr.count("\n") == 1
        )
    assert not (tmp_path / "x").exists()


def test_the_bundled_model_gives_eight_pictures_with_recipes(tmp_path: Path) -> None:
    done = run(
        "sample",
        "fashion-dit",
        "--out",
        tmp_path / "a",
        "--seeds",
        "0-7",
        "--num_steps",
        4,
        "--dtype",
        "fp32",
        "--threads",
        1,
        "--json",
    )
    result = json.loads(done.stdout)
    assert len(result["files"]) == 8 and Path(result["grid"]).is_file()
    recipe = read_recipe(result["files"][3])
    assert (recipe["seed"], recipe["class"], recipe["num_steps"], recipe["model"]) == (
        3,
        "Dress",
        4,
        "fashion-dit",
    )
    shown = run("info", result["files"][3])
    assert command_of(recipe) in shown.stdout
    again = shlex.split(command_of(recipe).replace("--out again", f"--out {tmp_path / 'again'} --threads 1"))
    assert run(*again[1:]).returncode == 0  # the command in the recipe makes the same picture
    first, second = (
        torch.tensor(list(Image.open(p).tobytes()))
        for p in (result["files"][3], tmp_path / "again" / "seed-000003.png")
    )
    assert int((first - second).abs().max()) <= 1


def test_train_export_and_list(pictures: Path, tmp_path: Path) -> None:
    small = [
        "backbone.hidden_size=32",
        "backbone.depth=1",
        "backbone.num_heads=2",
        "backbone.patch_size=2",
        "backbone.size=null",
    ]
    dry = run("train", f"npz:{pictures}", *small, "--dry-run", cwd=tmp_path)
    assert dry.returncode == 0 and "parameters:" in dry.stdout and list(tmp_path.iterdir()) == []
    done = run(
        "train",
        f"npz:{pictures}",
        *small,
        "train.steps=3",
        "train.preview=false",
        "--out",
        "r",
        "--json",
        "--threads",
        1,
        cwd=tmp_path,
    )
    assert json.loads(done.stdout)["step"] == 3, done.stderr
    assert run("export", "r", "--out", "flat", "--dtype", "fp16", cwd=tmp_path).returncode == 0
    assert sorted(p.name for p in (tmp_path / "flat").iterdir()) == [
        "config.yaml",
        "meta.json",
        "model.safetensors",
    ]
    assert (
        "pictures" in run("info", "flat", cwd=tmp_path).stdout
        and "fashion-dit" in run("list", cwd=tmp_path).stdout
    )


def test_flops_of_the_paper() -> None:
    result = json.loads(run("flops", "dit:XL/2", "--json").stdout)
    assert abs(result["gmacs"] - 118.64) < 0.05 and result["tokens"] == 256
    wide = json.loads(run("flops", "dit:S/2", "input_size=[32,48]", "--json").stdout)
    assert wide["tokens"] == 16 * 24 and wide["shape"] == [4, 32, 48]


def test_an_export_samples_as_its_run(picture_run: Run, picture_model: Model, tmp_path: Path) -> None:
    flat = studio.load(export(str(picture_run.folder), tmp_path / "flat"), dtype="fp32", device="cpu")
    a, b = (m.sample(seeds=range(4), num_steps=5) for m in (picture_model, flat))
    assert torch.equal(a.values, b.values) and flat.hash != ""
    raw, step = (
        studio.load(f"{picture_run.folder}@16", weights="raw", dtype="fp32"),
        studio.load(picture_run.folder, weights="ema-power-6"),
    )
    assert raw.name.endswith("@16") and step.weights == "ema-power-6"


def test_a_sample_depends_on_its_seed_alone(picture_model: Model) -> None:
    for sampler in ("ab2", "ddpm"):
        options = {"num_steps": 8, "sampler": sampler}
        many, _ = picture_model.request(seeds=range(8), **options)
        one, _ = picture_model.request(seeds=[5], **options)
        states = [list(picture_model.stream(r))[-1].step.x for r in (many, one)]
        assert float((states[0][5] - states[1][0]).abs().max()) < 1e-4
        exact = [
            picture_model.sample(seeds=s, labels=y, deterministic=True, **options).values
            for s, y in ((range(8), [0, 1, 2, 3] * 2), ([5], [1]))
        ]
        assert torch.equal(exact[0][5], exact[1][0])


def test_kept_pixels_come_back(picture_model: Model) -> None:
    init = torch.randint(0, 256, (1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:, 4:] = True
    values = picture_model.sample(seeds=range(3), num_steps=6, init=init, mask=mask).values
    assert torch.equal(values[:, :, :, :4], init[None, :, :, :4].expand(3, 1, 8, 4)) and not torch.equal(
        values[0], values[1]
    )
    near, far = (
        picture_model.sample(seeds=[0], num_steps=20, init=init, strength=s).values[0].float() - init.float()
        for s in (0.1, 0.9)
    )
    assert near.abs().mean() < far.abs().mean()


def test_on_step_stops(picture_model: Model) -> None:
    seen: list[int] = []

    def watch(progress: object) -> bool:
        seen.append(1)
        return len(seen) < 3

    try:
        picture_model.sample(seeds=[0], num_steps=9, on_step=watch)
    except studio.runtime.signals.Stopped:
        pass
    assert len(seen) == 3


def test_the_example_of_own_network_and_data() -> None:
    done = warm.run(["examples/own_network_and_data.py"], cwd=ROOT, env=environment())
    assert done.returncode == 0 and "torch.Size([4, 1, 8, 8])" in done.stdout, done.stderr
