"""SiT checkpoints become flows whose Euler steps are a plain loop over the original formula; what a file says
of itself is never read as something else."""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from test_convert_models import network
from tiny import tiny_vae
from torch import Tensor
from typer.testing import CliRunner

import guidance
import studio
from backbones import Cond, NoiseSource
from backbones.originals.dit import dit_to_original
from samplers.objective import build_objective
from samplers.paths import LinearPath, LipmanPath, TrigPath
from studio.checkpoints.find import choose_weights, weights_in
from studio.cli.convert import convert as command
from studio.cli.options import WIDTH
from studio.convert.convert import convert
from studio.model.export import export
from studio.model.model import Model

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS, SCALE = 7, 2.5
SEEDS, LABELS = (3, 4, 5), (1, 0, 6)
HEADS = ["num_heads=4", "codec=pixels"]


def save(path: Path, *, doubled: bool = True, **args: Any) -> Path:
    """A checkpoint as the original's script leaves it."""
    state = {
        "model": dit_to_original(network(4, learn_sigma=doubled)),
        "ema": dit_to_original(network(3, learn_sigma=doubled)),
    }
    torch.save({**state, "opt": {}, "args": argparse.Namespace(**args)} if args else state["ema"], path)
    return path


def made(path: Path, *overrides: str) -> Model:
    folder = path.with_name("made")
    return studio.load(
        convert(f"sit:{path}", folder, overrides=[*HEADS, *overrides], overwrite=True),
        device="cpu",
        dtype="fp32",
    )


def original_velocity(out: Tensor, x: Tensor, t: float, path_type: str, prediction: str) -> Tensor:
    """The field of SiT's ODE, from the drift of its path and the score (its appendix), in float64."""
    a, s, da, ds = (
        (t, 1 - t, 1.0, -1.0)
        if path_type == "Linear"
        else (
            math.sin(math.pi / 2 * t),
            math.cos(math.pi / 2 * t),
            math.pi / 2 * math.cos(math.pi / 2 * t),
            -math.pi / 2 * math.sin(math.pi / 2 * t),
        )
    )
    if prediction == "velocity":
        return out
    score = out if prediction == "score" else -out / s
    return da / a * x + (da / a * s * s - s * ds) * score


def plain_loop(
    x: Tensor, times: list[float], path_type: str, prediction: str, *, learn_sigma: bool = True
) -> Tensor:
    """Euler over the original: both halves of a doubled batch see the first half's state, the first three
    channels are guided, the first half is kept."""
    net, y = network(3, learn_sigma=learn_sigma), torch.tensor([*LABELS, 7, 7, 7])
    x = torch.cat([x, x])
    for t, s in zip(times, times[1:]):
        half = x[: len(LABELS)]
        with torch.no_grad():
            out = net(torch.cat([half, half]), torch.full((len(x),), t), Cond(label=y))[:, :4]
        first, rest = out[:, :3], out[:, 3:]
        c, u = first.chunk(2)
        guided = u + SCALE * (c - u)
        out = torch.cat([torch.cat([guided, guided]), rest], dim=1)
        x = x + (s - t) * original_velocity(out, x, t, path_type, prediction)
    return x[: len(LABELS)]


@pytest.mark.parametrize("learn_sigma", [True, False])
@pytest.mark.parametrize("path_type", ["Linear", "GVP"])
def test_euler_is_the_plain_loop(path_type: str, learn_sigma: bool, tmp_path: Path) -> None:
    path = save(
        tmp_path / "0400000.pt",
        doubled=learn_sigma,
        model="SiT-tiny",
        path_type=path_type,
        prediction="velocity",
        num_classes=7,
    )
    model = made(path)
    noise = NoiseSource(SEEDS).normal((4, 8, 8), stream="prior")
    want = plain_loop(
        noise, [i / STEPS for i in range(STEPS + 1)], path_type, "velocity", learn_sigma=learn_sigma
    )
    request = model.request(
        seeds=SEEDS,
        labels=LABELS,
        num_steps=STEPS,
        sampler="euler",
        guidance=f"cfg(scale={SCALE},channels=3)",
    )[0]
    got = list(model.stream(request))[-1].step.x
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    assert (
        float(
            (got - plain_loop(noise, [0.0, 1.0], path_type, "velocity", learn_sigma=learn_sigma)).abs().max()
        )
        > 0.01
    )


@pytest.mark.parametrize("prediction", ["noise", "score"])
@pytest.mark.parametrize("path_type", ["Linear", "GVP"])
def test_noise_and_scores_give_the_same_field(path_type: str, prediction: str, tmp_path: Path) -> None:
    """At each time between the ends, guided in the original's way."""
    model = made(save(tmp_path / "x.pt", path_type=path_type, prediction=prediction))
    denoiser = guidance.Guided(model.denoiser, guidance.parse(f"cfg(scale={SCALE},channels=3)"))
    x = NoiseSource(SEEDS).normal((4, 8, 8), stream="prior")
    times = [0.125, 0.25, 0.5, 0.9375]
    for t, s in zip(times, times[1:]):
        velocity = denoiser.predict(x, t, Cond(label=torch.tensor(LABELS))).to("velocity")
        want = plain_loop(x, [t, s], path_type, prediction)
        torch.testing.assert_close(x + (s - t) * velocity, want, rtol=1e-4, atol=1e-4)
    assert bool(
        list(model.stream(model.request(seeds=[1], labels=[2], num_steps=3)[0]))[-1].step.x.isfinite().all()
    )


def test_what_is_recorded(tmp_path: Path) -> None:
    path = save(tmp_path / "SiT-tiny.pt")
    model = made(path)
    assert (
        isinstance(model.denoiser.path, LinearPath) and float(model.denoiser.path.network_time(0.25)) == 0.25
    )
    assert model.config.objective["path"] == {"name": "linear", "time_scale": 1.0} and model.config.objective[
        "parameterization"
    ] == {"name": "velocity"}
    assert (model.config.sample.sampler, model.config.sample.guidance) == (
        "euler",
        "cfg(scale=4.0,channels=3)",
    )
    assert model.denoiser.net.out_channels == 4 and model.config.backbone["learn_sigma"] is False
    meta = json.loads((model.folder / "meta.json").read_text())
    assert meta["weights"] == "state-dict" and meta["read_as"].startswith(
        "a flow (SiT) that predicts velocity on the Linear path"
    )
    assert (
        "second half" in meta["read_as"]
        and "nothing in the file says path_type or prediction" in meta["read_as"]
    )
    gvp = made(path, "path_type=gvp", "prediction=score", "weights=auto")
    assert isinstance(gvp.denoiser.path, TrigPath) and gvp.denoiser.parameterization.space == "score"


def test_arguments_may_lie_anywhere_in_the_file(tmp_path: Path) -> None:
    state = dit_to_original(network(3))
    for n, extra in enumerate(
        [
            {"args": {"path-type": "GVP", "prediction": "noise"}},
            {"path_type": "GVP", "prediction": "noise", "epoch": 3},
            {"config": {"transport": {"path_type": "gvp", "prediction": "noise"}, "model": {"num_heads": 4}}},
        ]
    ):
        torch.save({"ema": state, **extra}, tmp_path / f"{n}.pt")
        model = made(tmp_path / f"{n}.pt")
        assert isinstance(model.denoiser.path, TrigPath) and model.config.objective["parameterization"] == {
            "name": "noise"
        }
        with pytest.raises(ValueError, match=f"read it as sit:{tmp_path}/{n}.pt"):
            convert(f"dit:{tmp_path}/{n}.pt", tmp_path / "out", overrides=HEADS)
    assert model.config.backbone["num_heads"] == 4
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name, args, words",
    [
        ("a.pt", {"path_type": "Linear"}, "path_type=Linear"),
        ("a.pt", {"prediction": "velocity"}, "prediction=velocity"),
        ("a.pt", {"sample_eps": 1e-3}, "sample_eps"),
        ("a.pt", {"model": "SiT-XL/2"}, "model=SiT-XL/2"),
        ("SiT-XL-2-256x256.pt", {}, "its name does"),
        ("my_sit_7.pt", {}, "its name does"),
    ],
)
def test_a_flow_is_not_read_as_a_noise_model(
    name: str, args: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = save(tmp_path / name, **args)
    with pytest.raises(ValueError, match=f"it is a flow .*{words}.*read it as sit:"):
        convert(f"dit:{path}", tmp_path / "out", overrides=HEADS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "args, overrides, words",
    [
        ({"path_type": "VP"}, (), "path_type=VP, expected Linear or GVP"),
        ({"path_type": "cosine"}, (), "got path_type=cosine, expected one of Linear, GVP"),
        ({"path_type": "linear", "prediction": "v"}, (), "got prediction=v.*data to noise"),
        ({"path_type": "Linear"}, ("path_type=GVP",), "say path_type=Linear; expected them to agree"),
        ({"prediction": "noise"}, ("prediction=score",), "say prediction=noise"),
        ({"model": "DiT-XL/2"}, (), "says that it is a DiT .*read it as dit:"),
        ({"path_type": "Linear", "num_classes": 12}, (), "say num_classes=12, the label table has 8 rows"),
        ({"path_type": "Linear", "hidden_size": 48}, (), "hidden_size=48, its weights have hidden_size 32"),
        (
            {"path_type": "Linear", "learn_sigma": False},
            (),
            "learn_sigma=False, its weights have learn_sigma True",
        ),
        (
            {"path_type": "Linear", "image_size": 256},
            (),
            "image_size=256, its weights have a side of 8 in pixels",
        ),
        ({"model": "SiT-S/2"}, (), r"model=SiT-S/2 \(hidden_size 384\)"),
        ({"model": "SiT-tiny", "num_heads": 2}, (), "num_heads=2, its weights have num_heads 4"),
        ({"model": "SiT-tiny", "depth": 3}, (), "depth=3"),
        ({"model": "SiT-tiny", "num_classes": 7}, ("num_classes=8",), "say 7; expected them to agree"),
        (
            {"model": "SiT-tiny", "num_classes": 7, "class_dropout_prob": 0.0},
            (),
            "class_dropout_prob=0.0, its weights have null_class True",
        ),
    ],
)
def test_arguments_that_contradict_are_refused(
    args: dict[str, Any], overrides: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    path = save(tmp_path / "x.pt", **args)
    with pytest.raises(ValueError, match=words):
        convert(f"sit:{path}", tmp_path / "out", overrides=[*HEADS, *overrides])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "args, words",
    [
        ({"noise_schedule": "cosine"}, "noise_schedule=cosine"),
        ({"predict_xstart": True}, "predict_xstart=True"),
        ({"diffusion_steps": 4000}, "diffusion_steps=4000"),
        ({"prediction_type": "v_prediction"}, "prediction_type=v_prediction"),
        ({"prediction": "x0"}, "prediction=x0"),
        ({"num_classes": 3}, "num_classes=3, the label table has 8"),
        ({"model": "DiT-B/4"}, r"model=DiT-B/4 \(hidden_size 768\)"),
        ({"patch_size": 4}, "patch_size=4"),
        ({"image_size": 512}, "image_size=512"),
        ({"learn_sigma": False}, "learn_sigma=False"),
    ],
)
def test_a_dit_that_contradicts_is_refused(args: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        convert(f"dit:{save(tmp_path / 'x.pt', **args)}", tmp_path / "out", overrides=["num_heads=4"])
    agreeing = dict(
        noise_schedule="linear",
        diffusion_steps=1000,
        num_classes=7,
        learn_sigma=True,
        image_size=64,
        input_size=8,
        num_heads=4,
        predict_xstart=False,
    )
    convert(f"dit:{save(tmp_path / 'y.pt', **agreeing)}", tmp_path / "y")
    assert not (tmp_path / "out").exists()


def test_the_picture_size_is_that_of_the_vae(tmp_path: Path) -> None:
    vae = str(tiny_vae(tmp_path / "vae"))
    convert(
        f"dit:{save(tmp_path / 'x.pt', image_size=16)}", tmp_path / "out", overrides=["num_heads=4"], vae=vae
    )
    with pytest.raises(
        ValueError,
        match="image_size=64, its weights have a side of 8 in latents of a VAE that takes 2 pixels a side",
    ):
        convert(
            f"dit:{save(tmp_path / 'y.pt', image_size=64)}",
            tmp_path / "no",
            overrides=["num_heads=4"],
            vae=vae,
        )


def test_the_command_says_what_was_read(tmp_path: Path) -> None:
    app = typer.Typer(context_settings=WIDTH)
    app.command()(command)
    bare, told = save(tmp_path / "bare.pt"), save(tmp_path / "told.pt", model="DiT-tiny")
    say = [*("--config", "num_heads=4"), *("--config", "codec=pixels")]
    result = CliRunner().invoke(app, [f"dit:{bare}", "--out", str(tmp_path / "a"), *say])
    assert (
        "read as a DDPM noise predictor with learned variance on the linear table of 1000 steps"
        in result.output
    ), result.output
    assert "if it is a flow (SiT), use sit: (weights: state-dict)" in result.output
    result = CliRunner().invoke(
        app, [f"dit:{told}", "--out", str(tmp_path / "b"), *say, "--config", "weights=raw", "--json"]
    )
    tree = json.loads(result.output)
    assert tree["read_as"].endswith("1000 steps") and tree["weights"] == "model"
    result = CliRunner().invoke(
        app, [f"sit:{bare}", "--out", str(tmp_path / "c"), *say, "--config", "objective.path.time_scale=1000"]
    )
    assert "but objective.path.time_scale=1000 as asked" in result.output


# ---- which weights -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["dit", "sit"])
@pytest.mark.parametrize("there, asked", [(("model",), "ema"), (("ema",), "raw"), ((), "ema"), ((), "raw")])
def test_weights_that_are_not_there_are_refused(
    family: str, there: tuple[str, ...], asked: str, tmp_path: Path
) -> None:
    state = dit_to_original(network(3))
    torch.save(
        {k: state for k in there} | {"ema": None} | {k: state for k in there} if there else state,
        tmp_path / "x.pt",
    )
    words = (
        f"got weights={asked}, .*has {there[0]} only" if there else f"got weights={asked}, .*bare state-dict"
    )
    with pytest.raises(ValueError, match=words):
        convert(f"{family}:{tmp_path / 'x.pt'}", tmp_path / "out", overrides=[*HEADS, f"weights={asked}"])
    folder = convert(f"{family}:{tmp_path / 'x.pt'}", tmp_path / "out", overrides=HEADS)
    assert json.loads((folder / "meta.json").read_text())["weights"] == (there[0] if there else "state-dict")


def test_a_model_says_which_weights_it_has(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pt", model="SiT-tiny")
    raw, ema = (
        convert(f"sit:{path}", tmp_path / w, overrides=[*HEADS, f"weights={w}"]) for w in ("raw", "ema")
    )
    assert list(weights_in(raw)) == ["raw"] and list(weights_in(ema)) == ["ema"]
    assert (
        studio.load(raw).weights == "raw"
        and studio.load(raw, weights="raw").weights == "raw"
        and studio.load(ema, weights="ema").weights == "ema"
    )
    for folder, other in ((raw, "ema"), (ema, "raw")):
        with pytest.raises(ValueError, match=f"got weights '{other}', expected one of {folder.name}, which"):
            studio.load(folder, weights=other)
    exported = export(str(raw), tmp_path / "exported")
    assert choose_weights(exported)[0] == "raw" and studio.load(exported).weights == "raw"


def test_a_run_without_an_average_is_refused_one(tmp_path: Path) -> None:
    tree = {
        "data": {"name": "points"},
        "backbone": {"name": "mlp", "width": 8, "depth": 1},
        "train": {"steps": 2, "batch_size": 8, "ema": [], "eval_every": 0},
    }
    run = studio.train(tree, out=str(tmp_path / "run"))
    assert run is not None and studio.load(tmp_path / "run").weights == "raw"
    for call in (
        lambda: studio.load(tmp_path / "run", weights="ema"),
        lambda: export(str(tmp_path / "run"), tmp_path / "out", weights="ema"),
    ):
        with pytest.raises(ValueError, match="got weights 'ema', expected one of raw"):
            call()
    assert not (tmp_path / "out").exists()


# ---- the parts -----------------------------------------------------------------------------------


def test_a_flow_has_the_clock_that_it_is_given() -> None:
    for kind in (LinearPath, LipmanPath, TrigPath):
        assert (
            float(kind().network_time(0.25)) == 250 and float(kind(time_scale=1.0).network_time(0.25)) == 0.25
        )
        with pytest.raises(ValueError, match="got time_scale=0"):
            kind(time_scale=0.0)


def test_a_score_is_learned_as_noise_is() -> None:
    """The exact score of x has no more error than the exact noise of the pair, and both read as the same
    data."""
    objective, noisy = build_objective(parameterization="score"), build_objective(parameterization="noise")
    g = torch.Generator().manual_seed(0)
    data, noise, t = (
        torch.randn(4, 2, generator=g),
        torch.randn(4, 2, generator=g),
        torch.tensor([0.1, 0.4, 0.6, 0.9]),
    )
    c = objective.path.coefficients(t)
    alpha, sigma = (v.float()[:, None] for v in (c.alpha, c.sigma))
    x = alpha * data + sigma * noise

    def predicted(which: Any, value: Tensor) -> Any:
        return which.parameterization.predict(lambda x, t, cond, ctx: value, x, t, Cond(), which.path)

    right, wrong = predicted(objective, -noise / sigma), predicted(objective, -(noise + 0.5) / sigma)
    torch.testing.assert_close(right.to("data"), data, rtol=1e-4, atol=1e-4)
    assert float(objective.parameterization.error(right, data, noise).abs().max()) < 1e-5
    torch.testing.assert_close(
        objective.parameterization.error(wrong, data, noise).abs(),
        torch.full((4, 2), 0.5),
        rtol=1e-4,
        atol=1e-5,
    )
    torch.testing.assert_close(objective.parameterization.factor(c), noisy.parameterization.factor(c))
