"""What goes with weights: running statistics beside averages, clocks and moments of each network's own;
numbers of training that cannot be."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import checkpoint_differences, last_checkpoint, metrics, points_config
from torch import Tensor, nn

import studio
from studio.checkpoints import checkpoint
from studio.config import from_tree
from studio.config.decay import decay_at
from studio.model.export import export
from studio.runtime.files import sha256
from studio.training.ema import EMA
from studio.training.optim import Muon, forget

pytestmark = pytest.mark.usefixtures("one_thread")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Own(nn.Module):
    """A network whose statistics matter."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(
                nn.Linear(3, 16), nn.BatchNorm1d(16), nn.SiLU(), nn.Dropout(0.1), nn.Linear(16, 2)
            )
        self.register_buffer("passing", torch.zeros(3), persistent=False)

    def forward(self, x: Tensor, t: Tensor, *rest: Any) -> Tensor:
        return self.net(torch.cat([x * 50, t[:, None] / 1000], 1)) + self.passing.sum()


def tree(**train: Any) -> dict[str, Any]:
    return points_config(
        **{
            "steps": 12,
            "ema": ["0.9", "power-6"],
            "eval_every": 6,
            "schedule": "constant",
            "weak_snapshot": False,
            **train,
        }
    )


def moved(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.rpartition(".")[2] in STATISTICS}


def test_averages_carry_the_statistics_of_the_live_network(tmp_path: Path) -> None:
    net = Own()
    run = studio.train(tree(), backbone=net, out=tmp_path / "run", quiet=True)
    live = moved(dict(net.state_dict()), "")
    assert (
        len(live) == 3
        and int(live["net.1.num_batches_tracked"]) == 12
        and float(live["net.1.running_var"].max()) > 1.5
    )
    folder = last_checkpoint(run.folder)
    for profile in ("0.9", "power-6"):
        kept = moved(load_file(folder / f"ema-{profile}.safetensors"), "net.")
        assert kept.keys() == live.keys() and all(torch.equal(kept[k], live[k]) for k in live)
    for model in (run.folder, export(str(run.folder), tmp_path / "flat")):
        loaded = studio.load(model, backbone=Own()).denoiser.net.state_dict()
        assert all(torch.equal(loaded[k], live[k]) for k in live)
    entries = [m for m in metrics(run.folder) if "held_out" in m]
    for m in entries:  # a network whose statistics are those of its beginning is far off
        assert m["held_out_ema_0.9"] < 3 * m["held_out"]


def test_checkpoints_whose_averages_lack_statistics_load_and_resume(tmp_path: Path) -> None:
    whole = studio.train(tree(), backbone=Own(), out=tmp_path / "whole", quiet=True)
    run = studio.train(tree(steps=6, save_every=6), backbone=Own(), out=tmp_path / "run", quiet=True).folder
    folder = last_checkpoint(run)
    live = moved(load_file(folder / "net.safetensors"), "")
    meta = json.loads((folder / "meta.json").read_text())
    for name in ("ema-0.9.safetensors", "ema-power-6.safetensors"):  # as an earlier version wrote them
        save_file(
            {k: v for k, v in load_file(folder / name).items() if k.rpartition(".")[2] not in STATISTICS},
            folder / name,
            {"format": "pt"},
        )
        meta["files"][name] = {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
    (folder / "meta.json").write_text(json.dumps(meta))
    state = torch.load(folder / "state.pt", weights_only=True)
    torch.save({k: v for k, v in state.items() if k not in ("updates", "one_count")}, folder / "state.pt")
    meta["files"]["state.pt"] = {
        "bytes": (folder / "state.pt").stat().st_size,
        "sha256": sha256(folder / "state.pt"),
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    for model in (run, export(str(run), tmp_path / "flat")):
        loaded = studio.load(model, backbone=Own()).denoiser.net.state_dict()
        assert all(torch.equal(loaded[k], live[k]) for k in live)
    rest = studio.train(tree(), backbone=Own(), out=run, resume=True, quiet=True)
    assert checkpoint_differences(last_checkpoint(whole.folder), last_checkpoint(rest.folder)) == []


def test_buffers_that_never_change_are_not_stored_beside_averages(tmp_path: Path) -> None:
    fixed, live = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    ema = EMA({"net": live}, ["0.9"], known={f"net.{k}": v for k, v in fixed.named_buffers()})
    assert set(ema.tensors("0.9")) == {"net.weight", "net.bias"}
    live(torch.randn(8, 2, generator=torch.Generator().manual_seed(0)))
    assert set(ema.tensors("0.9")) == {f"net.{k}" for k in ("weight", "bias", *STATISTICS)}
    ema.copy_to("0.9", {"net": fixed})
    assert torch.equal(fixed.running_mean, live.running_mean) and int(fixed.num_batches_tracked) == 1


def dsbm(**options: Any) -> dict[str, Any]:
    config = points_config(
        "moons",
        steps=12,
        save_every=1,
        keep_last=100,
        eval_every=0,
        ema=["0.9"],
        warmup=1,
        weak_snapshot=False,
    )
    config["data"] |= {"source": "eight_gaussians"}
    config["objective"] = {
        "path": {"name": "brownian", "sigma": 0.6},
        "parameterization": "drift",
        "coupling": "independent",
    }
    procedure = {
        "name": "dsbm",
        "shares": [1, 1, 1, 1],
        "num_pairs": 48,
        "num_steps": 3,
        "refresh": 3,
        **options,
    }
    return config | {"procedure": procedure}


def at(run: Path, step: int, side: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    folder = run / "checkpoints" / f"{step:09d}"
    average = {
        k.removeprefix(f"{side}."): v
        for k, v in load_file(folder / "ema-0.9.safetensors").items()
        if k.startswith(f"{side}.")
    }
    return load_file(folder / f"{side}.safetensors"), average


def test_the_clock_of_an_average_is_its_own_networks_updates(tmp_path: Path) -> None:
    run = studio.train(dsbm(), out=tmp_path / "run", quiet=True).folder
    for side, start, first in (
        ("to_source", 0, 0),
        ("to_data", 3, 0),
        ("to_source", 6, 3),
        ("to_data", 9, 3),
    ):
        for k in (1, 2, 3):
            if start + k == 1:
                continue
            _, before = at(run, start + k - 1, side)
            weights, after = at(run, start + k, side)
            decay = decay_at("0.9", first + k)
            for name, value in after.items():
                torch.testing.assert_close(
                    value, before[name] + (1 - decay) * (weights[name] - before[name]), rtol=1e-5, atol=1e-6
                )


@pytest.fixture(scope="module")
def restarted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("restarted") / "run"
    return studio.train(dsbm(warm_start=False), out=out, quiet=True).folder


def test_a_phase_that_restarts_weights_restarts_their_average_and_moments(
    restarted: Path, tmp_path: Path
) -> None:
    run = restarted
    zero = studio.train(dsbm(warm_start=False), ["train.steps=1"], out=tmp_path / "zero", quiet=True).folder
    before, _ = at(zero, 1, "to_data")  # not trained yet: its first weights
    weights, average = at(run, 10, "to_data")  # one step into its second phase
    decay = decay_at("0.9", 1)
    for name, value in average.items():
        torch.testing.assert_close(
            value, before[name] + (1 - decay) * (weights[name] - before[name]), rtol=1e-5, atol=1e-6
        )
    state = torch.load(run / "checkpoints" / f"{10:09d}" / "state.pt", weights_only=True)
    assert state["updates"] == {"to_data": 1, "to_source": 3}
    steps = {
        (name.partition(".")[0], float(entry["step"]))
        for name, entry in state["optimizers"]["parameters"].items()
    }
    assert steps == {("to_data", 1.0), ("to_source", 3.0)}


@pytest.mark.parametrize("cut", [3, 4, 6, 10])
def test_restarts_resume_to_the_same_bytes(cut: int, restarted: Path, tmp_path: Path) -> None:
    """Also from the last step of a phase, where the next one begins anew."""
    whole, run = restarted, shutil.copytree(restarted, tmp_path / "run")
    for folder in checkpoint.listing(run):
        if int(folder.name) > cut:
            shutil.rmtree(folder)
    studio.train(run, resume=True, quiet=True)
    assert checkpoint_differences(last_checkpoint(whole), last_checkpoint(run)) == []


def test_muon_forgets_some(tmp_path: Path) -> None:
    one, other = (nn.Parameter(torch.ones(3, 3)) for _ in range(2))
    muon = Muon([one, other], lr=0.1)
    one.grad, other.grad = torch.eye(3), torch.eye(3)
    muon.step()
    forget([muon], [one])
    assert float(muon.buffers[3, 3][0].abs().sum()) == 0 and float(muon.buffers[3, 3][1].abs().sum()) > 0


# ---- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("clip", -1.0),
        ("clip", math.nan),
        ("clip", math.inf),
        ("lr", math.nan),
        ("lr", math.inf),
        ("lr", 0.0),
        ("lr", -1e-3),
        ("muon_lr", math.nan),
        ("minutes", math.inf),
        ("minutes", math.nan),
        ("weight_decay", math.nan),
        ("weight_decay", -1.0),
        ("weight_decay", math.inf),
        ("final_lr", -0.1),
        ("final_lr", math.nan),
        ("final_lr", 1.5),
        ("betas", [0.9, 1.0]),
        ("betas", [-0.1, 0.9]),
        ("betas", [math.nan, 0.9]),
        ("warmup", -1),
        ("ema", ["nan"]),
        ("ema", ["inf"]),
        ("ema", ["1"]),
        ("ema", ["-0.5"]),
        ("ema", ["power-nan"]),
        ("ema", ["power-inf"]),
        ("ema", ["power--3"]),
        ("ema", ["0.9", "0.9"]),
        ("ema", ["0.9 "]),
        ("ddp", {"bucket_cap_mb": 0}),
    ],
)
def test_numbers_of_training_that_cannot_be_are_refused(key: str, value: Any, tmp_path: Path) -> None:
    config = points_config(steps=2)
    config["train"][key] = value
    if key == "minutes":
        del config["train"]["steps"]
    with pytest.raises(ValueError, match="expected") as error:
        studio.train(config, out=tmp_path / "run", quiet=True)
    assert key.split(".")[0] in str(error.value).lower() and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "key", ["train.clip=-1", "train.clip=nan", "train.lr=nan", "train.lr=.inf", "train.weight_decay=nan"]
)
def test_numbers_are_refused_from_the_command_line_too(key: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{key.partition('=')[0]} got .*expected"):
        studio.train(points_config(steps=2), [key], out=tmp_path / "run", quiet=True)


def test_a_clip_of_zero_or_none_is_off(tmp_path: Path) -> None:
    """As other keys that 0 switches off."""
    ends = []
    for clip in (0.0, None, 1e9, 1e-3):
        run = studio.train(points_config(steps=4, clip=clip), out=tmp_path / str(clip), quiet=True).folder
        ends.append(load_file(last_checkpoint(run) / "net.safetensors"))
    off, none, wide, tight = ends
    assert all(torch.equal(off[k], none[k]) and torch.equal(off[k], wide[k]) for k in off)
    assert any(not torch.equal(off[k], tight[k]) for k in off)
    assert from_tree(points_config(clip=0)).train.clip == 0
