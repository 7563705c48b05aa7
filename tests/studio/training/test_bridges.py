"""Training and translating bridges: data with sources, two networks that train each other, resume, and the
command."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_resume import assert_same_run, stop_at
from thinned import thinned
from tiny import files_below, last_checkpoint, metrics, points_config, run_studio

import studio
from backbones import Cond, RunContext
from studio.checkpoints.find import card
from studio.cli.info import describe
from studio.data import load_data
from studio.data.arrays import Arrays, Data
from studio.data.loader import Draws
from studio.model.export import export
from studio.runtime.recipes import read_recipe


def bridge_config(
    procedure: dict[str, Any] | None = None, *, sigma: float = 0.6, **objective: Any
) -> dict[str, Any]:
    """Moons from eight Gaussians."""
    config = points_config(
        "moons", steps=12, log_every=4, save_every=5, eval_every=6, eval_samples=32, keep_last=100
    )
    config["data"] |= {"source": "eight_gaussians"}
    config["objective"] = {
        "path": {"name": "brownian", "sigma": sigma},
        "parameterization": "velocity",
        "coupling": "independent",
        **objective,
    }
    config["sample"] = {"sampler": "heun", "num_steps": 4, "guidance": ""}
    return config | ({"procedure": procedure} if procedure else {})


DSBM = {"name": "dsbm", "shares": (1, 1, 1), "num_pairs": 48, "num_steps": 3, "refresh": 3}


def dsbm_config(**options: Any) -> dict[str, Any]:
    return bridge_config({**DSBM, **options}, parameterization="drift")


def paired_pictures(count: int = 24, size: int = 8) -> Data:
    """Pictures whose source is their negative."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 255, (count, 1, size, size), dtype=np.uint8)
    labels = np.arange(count) % 2
    return Data(
        "negatives",
        "image",
        (1, size, size),
        Arrays(values, labels),
        classes=("even", "odd"),
        source=Arrays(255 - values),
        source_name="negative",
        paired=True,
    )


def picture_config(**objective: Any) -> dict[str, Any]:
    return {
        "name": "negatives",
        "seed": 1,
        "data": {},
        "backbone": {"name": "dit", "hidden_size": 32, "depth": 1, "num_heads": 2, "patch_size": 2},
        "objective": {
            "path": "i2sb",
            "parameterization": {"name": "displacement", "cond_source": True},
            "coupling": "paired",
            **objective,
        },
        "train": {
            "steps": 6,
            "batch_size": 8,
            "warmup": 2,
            "ema": ["0.9"],
            "dtype": "fp32",
            "log_every": 3,
            "eval_every": 3,
            "eval_samples": 8,
            "save_every": 0,
            "preview": True,
        },
        "sample": {"sampler": "bridge", "num_steps": 3, "guidance": ""},
    }


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained paired bridge on 8×8 pictures."""
    return studio.train(
        picture_config(),
        out=tmp_path_factory.mktemp("bridge") / "negatives",
        data=paired_pictures(),
        quiet=True,
    ).folder


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for name in ("a.png", "b.png", "more/c.png"):
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(folder / name)
    return folder


# ---- data ----------------------------------------------------------------------------------------


def test_paired_sources_travel_with_their_data() -> None:
    for draw in Draws(paired_pictures(), 8, seed=3).along(range(5, 11)):
        assert torch.equal(draw.source, 255 - draw.values) and draw.cond.label is not None


def test_unpaired_sources_have_an_order_of_their_own() -> None:
    data = load_data({"name": "points", "kind": "moons", "source": "eight_gaussians", "count": 200})
    first = Draws(data, 16, seed=3).at(0)
    assert first.source is not None and float(first.source.norm(dim=1).mean()) == pytest.approx(5, abs=0.6)
    swapped = Draws(data, 16, seed=3, swap=True).at(0)
    assert torch.equal(swapped.values, first.source) and torch.equal(swapped.source, first.values)
    ahead = next(Draws(data, 16, seed=3, workers=2).along([7, 8]))
    again = list(Draws(data, 16, seed=3).along(range(8)))[7]
    assert torch.equal(ahead.values, again.values) and torch.equal(ahead.source, again.source)


# ---- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "objective",
    [
        pytest.param({"coupling": "ot"}, marks=pytest.mark.slow),
        {"coupling": "sinkhorn", "parameterization": "flow_score"},
        {"coupling": {"name": "gibbs", "eps": 3.0, "normalise": "running"}},
    ],
)
def test_diagnostics_are_logged_and_a_resumed_run_is_the_same(
    objective: dict[str, Any], tmp_path: Path
) -> None:
    """Pairs found ahead in a thread, and what a coupling remembers, change nothing on resume; the middle of a
    logging window neither."""
    config = bridge_config(**objective)
    if "eps" in str(objective):
        config["objective"]["path"] = {"name": "brownian", "sigma": 0.0}
    whole = studio.train(config, out=tmp_path / "whole", quiet=True)
    studio.train(config, out=tmp_path / "parts", quiet=True, on_log=stop_at(6))
    rest = studio.train(config, out=tmp_path / "parts", quiet=True, resume=True)
    shutil.rmtree(rest.folder / "checkpoints" / "000000006")
    assert_same_run(whole.folder, rest.folder)
    logged = [m for m in metrics(whole.folder) if "loss" in m]
    assert len(logged) == 3 and all(m["mean_cost"] > 0 and m["path_energy"] > 0 for m in logged)
    if "eps" in str(objective):
        assert all(0 < m["ess"] <= 1 and m["tilt_source"] >= 0 for m in logged)


@pytest.mark.parametrize("stop, options", thinned(2, [2, 6, 10], [{}, {"start": "ipf", "warm_start": False}]))
def test_dsbm_stops_and_resumes_inside_any_phase(stop: int, options: dict[str, Any], tmp_path: Path) -> None:
    config = dsbm_config(**options)
    config["train"] |= {"log_every": 2, "save_every": 4}
    whole = studio.train(config, out=tmp_path / "whole", quiet=True)
    studio.train(config, out=tmp_path / "parts", quiet=True, on_log=stop_at(stop))
    rest = studio.train(config, out=tmp_path / "parts", quiet=True, resume=True)
    if stop % 4:
        shutil.rmtree(rest.folder / "checkpoints" / f"{stop:09d}")
    assert_same_run(whole.folder, rest.folder)
    assert {"to_data.safetensors", "to_source.safetensors"} <= {
        p.name for p in last_checkpoint(whole.folder).iterdir()
    }


def test_a_phase_of_dsbm_trains_one_network(tmp_path: Path) -> None:
    """12 steps in three phases: the last checkpoint inside each phase differs from the one before in one
    network only."""
    from safetensors.torch import load_file

    config = dsbm_config()
    config["train"] |= {"save_every": 1}
    run = studio.train(config, out=tmp_path / "run", quiet=True).folder

    def weights(step: int, side: str) -> dict[str, torch.Tensor]:
        return load_file(run / "checkpoints" / f"{step:09d}" / f"{side}.safetensors")

    for early, late, trained in ((1, 4, "to_source"), (5, 8, "to_data"), (9, 12, "to_source")):
        for side in ("to_data", "to_source"):
            same = all(torch.equal(v, weights(late, side)[k]) for k, v in weights(early, side).items())
            assert same == (side != trained)


def test_the_two_networks_of_dsbm_translate_both_ways(tmp_path: Path) -> None:
    run = studio.train(dsbm_config(), out=tmp_path / "run", quiet=True).folder
    source = load_data({"name": "points", "kind": "eight_gaussians", "count": 32}).train.values[:8]
    for folder, weights in ((run, "ema"), (run, "raw"), (export(run, tmp_path / "flat"), "ema")):
        model = studio.load(folder, weights=weights)
        for sampler in ("bridge_sde", "bridge", "heun"):
            for direction in ("forward", "backward"):
                out = model.translate(source, sampler=sampler, direction=direction, num_steps=3)
                again = model.translate(
                    source[3:4], seeds=[3], sampler=sampler, direction=direction, num_steps=3
                )
                assert bool(torch.isfinite(out.values).all())
                torch.testing.assert_close(again.values[0], out.values[3], rtol=1e-4, atol=1e-4)
    assert describe(str(run))["parameters"] == 2 * sum(
        p.numel() for p in model.denoiser.net["to_data"].parameters()
    )
    assert card(run).task == "points"


def test_simulated_pairs_are_shared_out_between_processes(tmp_path: Path) -> None:
    """Two processes take the two halves of the batch that one would have."""
    from studio.checkpoints.build import objective_of
    from studio.checkpoints.networks import build_networks, procedure_of
    from studio.codecs.codec import build_codec
    from studio.config import from_tree
    from studio.training.procedure import Setting, Step

    config, data = (
        from_tree(dsbm_config(start="ipf") | {"backbone": {"name": "mlp", "width": 8, "depth": 1}}),
        load_data(dsbm_config()["data"]),
    )
    procedure = procedure_of(config)
    networks = build_networks(config, procedure)
    setting = Setting(
        networks,
        networks.__getitem__,
        objective_of(config),
        data,
        build_codec(data.codec),
        32,
        0,
        torch.device("cpu"),
        torch.float32,
        lambda text: None,
    )
    batches = []
    for places in (slice(0, 32), slice(0, 16), slice(16, 32)):
        sources = [phase.updates[0].source for phase in procedure.phases(setting)]
        batches.append([source.at(Step(4, 4), places, RunContext()) for source in sources])
    for whole, first, second in zip(*batches):
        assert len(whole.values) == 32 and whole.source is not None
        assert torch.equal(whole.values, torch.cat([first.values, second.values])) and torch.equal(
            whole.source, torch.cat([first.source, second.source])
        )


def test_networks_that_are_not_told_t_stay_so_when_asked_together(tmp_path: Path) -> None:
    """DSBM without t: the joint model asks both networks at clock 0, as they were trained."""
    config = bridge_config(DSBM, parameterization={"name": "drift", "conditioning": "none"})
    model = studio.train(config, out=tmp_path / "run", quiet=True).load()
    x = torch.randn(4, 2)
    at = [model.denoiser.predict(x, t, Cond()).to("velocity") for t in (0.2, 0.8)]
    torch.testing.assert_close(*at)


@pytest.mark.slow
def test_a_paired_bridge_learns(tmp_path: Path) -> None:
    """Straight lines from a shifted copy: the velocity is the shift, and one step goes all the way."""
    x = np.random.default_rng(0).normal(size=(512, 2)).astype(np.float32)
    shift = np.array([3.0, -1.0], dtype=np.float32)
    data = Data(
        "shift",
        "points",
        (2,),
        Arrays(x + shift),
        source=Arrays(x),
        source_name="start",
        paired=True,
        codec={"name": "scale", "std": 1.0},
    )
    config = bridge_config(sigma=0.0, coupling="paired")
    config["train"] |= {
        "steps": 400,
        "lr": 5e-3,
        "batch_size": 128,
        "eval_every": 0,
        "save_every": 0,
        "log_every": 0,
    }
    model = studio.train(config, out=tmp_path / "run", data=data, quiet=True).load()
    moved = model.translate(x[:64], num_steps=1, sampler="euler").values - torch.from_numpy(x[:64])
    assert float((moved - torch.from_numpy(shift)).abs().mean()) < 0.15


# ---- translating ---------------------------------------------------------------------------------


def test_translate_writes_resumes_and_tells(restored: Path, inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run_studio("translate", restored, inputs, "--out", out, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert sorted(Path(p).relative_to(out).as_posix() for p in result["written"]) == [
        "a.png",
        "b.png",
        "more/c.png",
    ]
    before = files_below(out)
    assert "before-after.png" in before
    recipe = read_recipe(out / "more/c.png")
    assert (
        recipe["direction"] == "forward" and recipe["num_steps"] == 3 and recipe["source"].endswith("c.png")
    )
    (out / "b.png").unlink()
    again = run_studio("translate", restored, inputs, "--out", out, "--json", cwd=tmp_path)
    assert [Path(p).name for p in json.loads(again.stdout)["written"]] == ["b.png"] and files_below(
        out
    ) == before
    alone = run_studio("translate", restored, inputs / "a.png", "--out", tmp_path / "alone", cwd=tmp_path)
    assert alone.returncode == 0
    one, other = (np.asarray(Image.open(p), dtype=int) for p in (out / "a.png", tmp_path / "alone" / "a.png"))
    assert np.abs(one - other).max() <= 1
    refused = run_studio("translate", restored, inputs, "--out", out, "--num-steps", 2, cwd=tmp_path)
    assert (
        refused.returncode == 2
        and "was not made by this call" in refused.stderr
        and files_below(out) == before
    )


def test_translate_does_the_rest_when_a_file_is_bad(restored: Path, inputs: Path, tmp_path: Path) -> None:
    (inputs / "bad.png").write_bytes(b"not a picture")
    Image.new("RGB", (8, 8)).save(inputs / "colour.png")
    Image.new("L", (9, 8)).save(inputs / "wide.png")
    done = run_studio("translate", restored, inputs, "--out", tmp_path / "out", "--json", cwd=tmp_path)
    result = json.loads(done.stdout)
    assert done.returncode == 1 and len(result["written"]) == 3
    reasons = {Path(k).name: v for k, v in result["failed"].items()}
    assert set(reasons) == {"bad.png", "colour.png", "wide.png"}
    assert (
        "got 9×8 with 1 channels, expected 8×8 with 1" in reasons["wide.png"]
        and "does not decode" in reasons["bad.png"]
    )
    done = run_studio(
        "translate", restored, inputs, "--out", tmp_path / "fitted", "--resize", "--json", cwd=tmp_path
    )
    assert done.returncode == 1 and len(json.loads(done.stdout)["written"]) == 5


def test_a_mask_keeps_the_rest_of_every_source(restored: Path, inputs: Path, tmp_path: Path) -> None:
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[2:6, 2:6] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    done = run_studio(
        "translate",
        restored,
        inputs,
        "--out",
        tmp_path / "out",
        "--mask",
        tmp_path / "mask.png",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    before, after = (np.asarray(Image.open(folder / "a.png")) for folder in (inputs, tmp_path / "out"))
    assert np.array_equal(before[mask == 0], after[mask == 0]) and not np.array_equal(
        before[mask > 0], after[mask > 0]
    )
    assert "--mask" in describe(str(tmp_path / "out" / "a.png"))["command"]


def test_refusals(restored: Path, inputs: Path, tmp_path: Path) -> None:
    model = studio.load(restored)
    noise = studio.train(points_config(), out=tmp_path / "noise", quiet=True).load()
    pictures = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    for call, message in (
        (lambda: model.sample(), "starts from negative, not from noise; use `studio translate"),
        (
            lambda: model.translate(torch.zeros(2, 1, 9, 8, dtype=torch.uint8)),
            r"got sources of shape \(2, 1, 9, 8\) for 2 seeds, expected \(2, 1, 8, 8\)",
        ),
        (lambda: model.translate(pictures, direction="backward"), "trained towards its data only"),
        (
            lambda: model.translate(pictures, sampler="heun"),
            "predicts data only, from which velocity does not follow",
        ),
        (
            lambda: model.translate(pictures, sampler="ddpm"),
            "DDPM is for models that start from noise",
        ),
        (
            lambda: model.translate(pictures, direction="sideways"),
            "got direction 'sideways', expected forward",
        ),
        (lambda: noise.translate(torch.zeros(2, 2)), "starts from noise and translates nothing"),
        (
            lambda: studio.train(
                picture_config(coupling="paired"),
                out=tmp_path / "x",
                data=Data("plain", "image", (1, 8, 8), paired_pictures().train),
                quiet=True,
            ),
            "objective.coupling is paired, but this data brings no sources",
        ),
        (
            lambda: studio.train(
                points_config() | {"procedure": {"name": "dsbm"}}, out=tmp_path / "y", quiet=True
            ),
            "procedure dsbm trains drifts of a bridge",
        ),
        (
            lambda: studio.train(dsbm_config(shares=(1.0,)), out=tmp_path / "y", quiet=True),
            "expected at least two positive lengths",
        ),
        (
            lambda: studio.train(
                bridge_config(DSBM, parameterization={"name": "drift", "cond_source": True}),
                out=tmp_path / "y",
                quiet=True,
            ),
            "cond_source=true",
        ),
        (
            lambda: studio.train(bridge_config(bound_weight=2.0), out=tmp_path / "y", quiet=True),
            "on the path brownian, which has no such choice",
        ),
        (
            lambda: studio.train(dsbm_config(strat="ipf"), out=tmp_path / "y", quiet=True),
            "did you mean 'start'",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert not (tmp_path / "y").exists()
    for arguments, text in (
        ((restored, tmp_path / "nothing"), "does not exist"),
        ((tmp_path / "noise", inputs), "translates nothing"),
    ):
        done = run_studio("translate", *arguments, "--out", tmp_path / "out", cwd=tmp_path)
        assert done.returncode == 2 and text in done.stderr and not (tmp_path / "out").exists()


def test_info_and_flops_know_bridges(restored: Path, tmp_path: Path) -> None:
    from studio.cli.info import count_flops

    told = describe(str(restored))
    assert told["starts_from"] == "negative" and told["command"].startswith("studio translate")
    assert count_flops(str(restored), [])["parameters"] == told["parameters"]
    two = studio.train(dsbm_config(), out=tmp_path / "two", quiet=True).folder
    assert 2 * count_flops(str(two), [])["parameters"] == describe(str(two))["parameters"]
