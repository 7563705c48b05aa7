"""What a model adds to the line of a sampler, what is recorded of it, and that older records keep their
meaning."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import dit_config

import studio
from studio.checkpoints.find import card
from studio.cli.info import describe
from studio.evaluation.sweep import Axis, jobs_of
from studio.generation import generate
from studio.generation.plan import command_of_manifest, read_manifest
from studio.model import catalog
from studio.model.model import Model
from studio.runtime.recipes import read_recipe
from studio.sampling.commands import command_of
from studio.sampling.sampler_spec import Fit, as_recorded, build_sampler, parse, resolved, text
from studio.sampling.samples import save_png

NOISE, LATENT, FLOW = Fit(predicts="noise", bound=1.0), Fit(predicts="noise"), Fit(bound=1.0)
OWN = Fit(predicts="noise", bound=1.0, own="ddim(clip=1,recompute_noise=true)")


@pytest.mark.parametrize(
    "typed, fit, line",
    [
        ("ddim", NOISE, "ddim(lambda_min=-5.1,clip=1)"),
        (None, NOISE, "dpmpp_2m(lambda_min=-5.1,clip=1)"),
        ("ddim", LATENT, "ddim(lambda_min=-5.1)"),
        ("heun(clip=none)", NOISE, "heun(lambda_min=-5.1,clip=none)"),
        ("heun(lambda_min=none)", NOISE, "heun(lambda_min=none,clip=1)"),
        (
            "diffusers(scheduler=UniPCMultistepScheduler)",
            NOISE,
            "diffusers(scheduler=UniPCMultistepScheduler,lambda_min=-5.1,clip=1)",
        ),
        ("torchdiffeq(method=rk4)", NOISE, "torchdiffeq(lambda_min=-5.1,clip=1,method=rk4)"),
        ("ddim", OWN, "ddim(lambda_min=none,clip=1,recompute_noise=true)"),
        (None, OWN, "ddim(lambda_min=none,clip=1,recompute_noise=true)"),
        ("ddim(clip=2,eta=0.5)", OWN, "ddim(lambda_min=none,clip=2,eta=0.5,recompute_noise=true)"),
        ("dpmpp_2m", OWN, "dpmpp_2m(lambda_min=-5.1,clip=1)"),
        ("ab2", FLOW, "ab2"),
        (None, FLOW, "ab2"),
        ("ddim(eta=0.5)", FLOW, "ddim(eta=0.5)"),
        ("ab2(threshold=0.9)", FLOW, "ab2(clip=1,threshold=0.9)"),
        ("auto", NOISE, "dpmpp_2m(lambda_min=-5.1,clip=1)"),
        ("auto", FLOW, "ab2"),
        (None, Fit(predicts="data"), "dpmpp_2m"),
        (None, Fit("logits", usual="graph"), "graph"),
        (None, Fit("drift", starts="source"), "bridge"),
    ],
)
def test_what_is_recorded(typed: str | None, fit: Fit, line: str) -> None:
    assert resolved(typed, fit) == line and resolved(line, fit) == line
    assert as_recorded(line, fit) == line  # a line of now stays as it is


@pytest.mark.parametrize(
    "old, fit, line",
    [
        ("heun", NOISE, "heun(lambda_min=none,clip=none)"),
        ("ddim(clip=1,recompute_noise=true)", OWN, "ddim(lambda_min=none,clip=1,recompute_noise=true)"),
        ("ddim(clip=1)", OWN, "ddim(lambda_min=none,clip=1,recompute_noise=false)"),
        ("ddim", Fit(own="ddim(eta=0.5)"), "ddim(eta=0)"),
        ("ab2", FLOW, "ab2"),
        ("graph", Fit("logits", usual="graph"), "graph"),
        (
            "diffusers(scheduler=DEISMultistepScheduler)",
            NOISE,
            "diffusers(scheduler=DEISMultistepScheduler,lambda_min=none,clip=none)",
        ),
    ],
)
def test_an_older_line_means_what_it_meant(old: str, fit: Fit, line: str) -> None:
    """Replayed, it builds the sampler that the old line alone builds."""
    assert as_recorded(old, fit) == line
    again, then = build_sampler(resolved(line, fit)), build_sampler(old)
    assert vars(again) == vars(then) or {
        k: v for k, v in vars(again).items() if k != "recompute_noise"
    } == vars(then)


@pytest.mark.parametrize(
    "options",
    [
        {"respacing": "10,15"},
        {"respacing": "50", "eta": 0.25},
        {"clip": None, "recompute_noise": True},
        {"lambda_min": -5.1},
        {"shift": 3.0},
    ],
)
def test_lines_parse_back(options: dict[str, Any]) -> None:
    assert parse(text("ddim", options)) == ("ddim", options)
    build_sampler(text("ddim", options))


def test_refusals() -> None:
    for spec, message in (
        ("ddim(lamda_min=-5)", "did you mean 'lambda_min'"),
        ("ddim(lambda_min=inf)", "finite"),
        ("heun(clip=0)", "positive bound"),
        ("dmpp_2m", "did you mean 'dpmpp_2m'"),
        ("euler(threshold=1.5)", "quantile above 0"),
        ("ddim(clip=1,clip=2)", "clip twice"),
        ("ddim(clip)", "expected key=value"),
        ("ddim(clip=1", "expected name or name"),
    ):
        with pytest.raises(ValueError, match=message):
            resolved(spec, NOISE)


@pytest.fixture(scope="module")
def noise_run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny model of noise on the cosine table whose config names no sampler."""
    config = dit_config(pictures, steps=8, save_every=4, preview=True)
    config["objective"] = {
        "path": {"name": "vp", "schedule": "cosine"},
        "parameterization": "noise",
        "cond_drop": 0.3,
    }
    config["sample"] = {"num_steps": 4, "guidance": ""}
    return studio.train(config, out=tmp_path_factory.mktemp("runs") / "noise", quiet=True)


@pytest.fixture(scope="module")
def noise_model(noise_run: Any) -> Model:
    return studio.load(noise_run.folder, dtype="fp32", device="cpu")


def test_a_run_records_the_default_that_fits(noise_run: Any, noise_model: Model, picture_run: Any) -> None:
    assert noise_model.config.sample.sampler == "dpmpp_2m(lambda_min=-5.1,clip=1)"
    assert (
        catalog.defaults_of(card(str(noise_run.folder))).sampler
        == describe(str(noise_run.folder))["sample"]["sampler"]
        == noise_model.config.sample.sampler
    )
    assert catalog.defaults_of(card(str(picture_run.folder))).sampler == "ab2"
    assert (noise_run.folder / "checkpoints" / "000000008" / "preview.png").is_file()


def test_samples_start_there_and_say_so(noise_model: Model) -> None:
    seen: list[float] = []
    samples = noise_model.sample(
        seeds=[0, 1], sampler="ddim", num_steps=6, on_step=lambda p: seen.append(p.step.t) and None
    )
    assert {r["sampler"] for r in samples.recipes} == {"ddim(lambda_min=-5.1,clip=1)"} and len(seen) == 6
    path = noise_model.denoiser.path
    assert -5.1 <= float(path.log_snr(seen[0])) / 2 < -5.0 and float(path.log_snr(path.grid(6)[0])) / 2 < -9
    assert (
        noise_model.request(sampler="ddim(lambda_min=none,clip=none)")[0].sampler
        == "ddim(lambda_min=none,clip=none)"
    )
    assert noise_model.on_path("trig").request(sampler="euler")[0].sampler == "euler(lambda_min=-5.1,clip=1)"


def test_an_older_picture_is_made_again_by_its_command(noise_model: Model, tmp_path: Path) -> None:
    """Written by hand as it was before: a raw line, sampled raw."""
    from studio import sampling

    request = sampling.Request((3,), (1,), None, 25, "dpmpp_2m", "")
    values = sampling.run(noise_model.stream(request), noise_model.codec, 1)
    recipe = {**noise_model.recipes(request)[0], "sampler": "dpmpp_2m"}
    picture = noise_model.task.pictures(values)[0]
    save_png(tmp_path / "old.png", picture, recipe)
    words = shlex.split(describe(str(tmp_path / "old.png"))["command"])
    spec = words[words.index("--sampler") + 1]
    assert spec == "dpmpp_2m(lambda_min=none,clip=none)"
    again = noise_model.sample(seeds=[3], labels=[1], num_steps=25, guidance=None, sampler=spec).values
    assert torch.equal(again, values) and not torch.equal(
        noise_model.sample(seeds=[3], labels=[1], num_steps=25, guidance=None).values, values
    )
    fresh = noise_model.sample(seeds=[3], num_steps=5, sampler="euler").recipes[0]
    assert "--sampler 'euler(lambda_min=-5.1,clip=1)'" in command_of(fresh)
    assert "lambda_min=none" in command_of({**recipe, "model": "not here"})


def test_the_bundled_model_keeps_its_bytes() -> None:
    """Its own recipe is its config's line with nothing added."""
    from studio import sampling

    model = studio.load("fashion-ddpm", dtype="fp32", device="cpu")
    raw = sampling.Request(
        (0,), (0,), None, 3, "ddim(clip=1,recompute_noise=true)", model.config.sample.guidance
    )
    before = sampling.run(model.stream(raw), model.codec, 1)
    assert torch.equal(model.sample(seeds=[0], labels=[0], num_steps=3).values, before)
    assert torch.equal(model.sample(seeds=[0], labels=[0], num_steps=3, sampler="ddim").values, before)


def test_a_set_that_was_begun_before_is_completed(noise_run: Any, noise_model: Model, tmp_path: Path) -> None:
    """Its manifest and pictures say ``euler`` alone; the same call goes on with it, as it was, and its
    command says what that means."""
    options: dict[str, Any] = dict(
        num=6, num_steps=3, guidance=None, deterministic=True, workers=1, quiet=True, dtype="fp32"
    )
    made = generate(
        str(noise_run.folder), tmp_path / "set", sampler="euler(lambda_min=none,clip=none)", **options
    )
    assert made.written == 6
    manifest = tmp_path / "set" / "manifest.json"
    tree = json.loads(manifest.read_text())
    tree["pinned"]["sampler"] = "euler"
    del tree["sealed"]  # nor did its pictures bear digests
    manifest.write_text(json.dumps(tree))
    kept = {}
    for path in sorted((tmp_path / "set" / "000").glob("*.png")):
        from PIL import Image

        recipe = {**read_recipe(path), "sampler": "euler"}
        with Image.open(path) as picture:
            picture.load()
            save_png(path, picture, recipe)
        kept[path.name] = np.asarray(Image.open(path))
    lost = tmp_path / "set" / "000" / "000002.png"
    lost.unlink()
    again = generate(str(noise_run.folder), tmp_path / "set", sampler="euler", **options)
    assert again.written == 1 and again.foreign == 0 and read_recipe(lost)["sampler"] == "euler"
    assert np.array_equal(np.asarray(Image.open(lost)), kept[lost.name])
    assert "euler(lambda_min=none,clip=none)" in command_of_manifest(
        read_manifest(tmp_path / "set"), tmp_path / "set"
    )
    with pytest.raises(ValueError, match="sampler: it has 'euler'"):
        generate(str(noise_run.folder), tmp_path / "set", sampler="euler(clip=1)", **options)


def test_a_sweep_is_told_by_the_completed_line(noise_model: Model) -> None:
    jobs = jobs_of(
        noise_model,
        [Axis("sampler", ("euler", "dpmpp_2m")), Axis("sampler.clip", ("none", "1"))],
        num_steps=2,
    )
    assert [j.options["sampler"] for j in jobs] == [
        "euler(lambda_min=-5.1,clip=none)",
        "euler(lambda_min=-5.1,clip=1)",
        "dpmpp_2m(lambda_min=-5.1,clip=none)",
        "dpmpp_2m(lambda_min=-5.1,clip=1)",
    ]


def test_what_a_run_has_recorded_is_not_completed_on_resume(pictures: Path, tmp_path: Path) -> None:
    config = dit_config(pictures, steps=2, save_every=2)
    config["objective"] = {"path": {"name": "vp", "schedule": "cosine"}, "parameterization": "noise"}
    config["sample"] = {"sampler": "ddim", "num_steps": 4}
    run = studio.train(config, out=tmp_path / "run", quiet=True)
    assert run.config.sample.sampler == "ddim(lambda_min=-5.1,clip=1)"
    path = run.folder / "config.yaml"
    path.write_text(path.read_text().replace("ddim(lambda_min=-5.1,clip=1)", "ddim"))
    more = studio.train(config, ["train.steps=4"], out=tmp_path / "run", resume=True, quiet=True)
    assert more.config.sample.sampler == "ddim"
    assert studio.load(run.folder).request()[0].sampler == "ddim(lambda_min=none,clip=none)"
