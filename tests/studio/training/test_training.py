"""What a run leaves behind: checkpoints kept and pruned, losses logged, previews; and how it stops when the
loss breaks."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import checkpoints, differences, files_below, metrics, points_config

import studio
from backbones import NoiseSource
from samplers.objective import Batch
from studio.checkpoints.build import objective_of
from studio.codecs.codec import build_codec
from studio.config import from_tree
from studio.config.decay import decay_at
from studio.data import load_data
from studio.data.loader import fetch, held_out
from studio.training.held_out import held_out_loss
from studio.training.run import Diverged, Run


def test_the_folder_of_a_run(picture_run: Run) -> None:
    run = picture_run.folder
    assert sorted(p.name for p in run.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "curve.png",
        "meta.json",
        "metrics.jsonl",
    ]
    assert checkpoints(run) == [3, 16, 32, 48]  # the weak snapshot at 1/16 of the run, then every 16
    last = run / "checkpoints" / "000000048"
    meta = json.loads((last / "meta.json").read_text())
    assert sorted([*meta["files"], "meta.json"]) == sorted(p.name for p in last.iterdir())
    for name, entry in meta["files"].items():
        from studio.runtime.files import sha256

        assert entry == {"bytes": (last / name).stat().st_size, "sha256": sha256(last / name)}
    flags = {
        s: json.loads((run / "checkpoints" / f"{s:09d}" / "meta.json").read_text())["keep"]
        for s in checkpoints(run)
    }
    assert flags == {3: True, 16: False, 32: False, 48: False}
    from PIL import Image

    with Image.open(last / "preview.png") as preview:
        assert preview.width > 300 and len(set(preview.convert("L").getdata())) > 20


@pytest.mark.parametrize(
    "options, want",
    [
        ({"keep_last": 2}, [2, 28, 32]),
        ({"keep_last": 1, "keep_every": 12}, [2, 12, 24, 32]),
        ({"keep_last": 1, "weak_snapshot": False}, [32]),
        ({"keep_last": 9, "save_every": 0}, [2, 32]),
    ],
)
def test_what_is_kept(options: dict[str, Any], want: list[int], tmp_path: Path) -> None:
    run = studio.train(
        points_config(**{"steps": 32, "save_every": 4, **options}), out=tmp_path / "run", quiet=True
    )
    assert checkpoints(run.folder) == want


def test_the_averages_follow_the_network_by_their_formula(tmp_path: Path) -> None:
    """One optimiser step per checkpoint: average_n = d·average_(n−1) + (1 − d)·weights_n."""
    config = points_config(steps=5, save_every=1, keep_last=9, ema=["0.9", "power-6"], warmup=0)
    run = studio.train(config, out=tmp_path / "run", quiet=True)
    for profile in ("0.9", "power-6"):
        for n in range(2, 6):
            before, now = (run.folder / "checkpoints" / f"{k:09d}" for k in (n - 1, n))
            net, old, new = (
                load_file(now / "net.safetensors"),
                load_file(before / f"ema-{profile}.safetensors"),
                load_file(now / f"ema-{profile}.safetensors"),
            )
            d = decay_at(profile, n)
            for key, value in net.items():
                torch.testing.assert_close(
                    new[f"net.{key}"], d * old[f"net.{key}"] + (1 - d) * value, rtol=1e-6, atol=1e-7
                )


def test_logged_losses_are_the_means_of_their_windows(tmp_path: Path) -> None:
    every = studio.train(points_config(steps=8, log_every=1), out=tmp_path / "every", quiet=True)
    fourth = studio.train(points_config(steps=8, log_every=4), out=tmp_path / "fourth", quiet=True)
    single = [m["loss"] for m in metrics(every.folder)]
    assert [m["loss"] for m in metrics(fourth.folder)] == pytest.approx(
        [sum(single[:4]) / 4, sum(single[4:]) / 4], rel=1e-12
    )
    assert fourth.metrics["loss"] == metrics(fourth.folder)[-1]["loss"]


def test_held_out_losses_are_logged_for_every_bin_live_and_averaged(picture_run: Run) -> None:
    logged = [m for m in metrics(picture_run.folder) if "held_out" in m]
    assert [m["step"] for m in logged] == [16, 32, 48]
    assert set(logged[0]) - {"step"} == {
        f"{k}{s}" for k in ("held_out", "held_out_ema_0.99", "held_out_ema_power-6") for s in ("", "_bins")
    }
    last = logged[-1]
    data, objective = load_data(picture_run.config.data), objective_of(picture_run.config)
    kept = held_out(data, 16)
    assert kept is not None
    values, cond = kept.values, kept.cond
    for key, weights in (
        ("held_out", "raw"),
        ("held_out_ema_0.99", "ema-0.99"),
        ("held_out_ema_power-6", "ema-power-6"),
    ):
        net = studio.load(picture_run.folder, weights=weights, dtype="fp32", device="cpu").denoiser.net
        options = dict(seed=picture_run.config.seed + 1, device=torch.device("cpu"), dtype=torch.float32)
        again = held_out_loss(net, objective, build_codec(data.codec), values, cond, **options)
        assert last[f"{key}_bins"] == pytest.approx(again, abs=1e-5) and len(again) == 10
        assert last[key] == pytest.approx(sum(again) / 10, rel=1e-6)


def test_the_held_out_loss_of_a_network_that_says_zero() -> None:
    """Velocity data − noise: a zero network has the loss mean(data²) + 1 at every t, and noise that is the
    same every time."""
    data = load_data({"name": "points", "kind": "mixture", "count": 4000})
    objective = objective_of(from_tree({"objective": {"path": "linear", "parameterization": "velocity"}}))
    values, cond = fetch(data.train, [(0, i) for i in range(len(data.train))])
    codec = build_codec(data.codec)

    class Zero(torch.nn.Module):
        def forward(self, x: torch.Tensor, *rest: Any) -> torch.Tensor:
            return torch.zeros_like(x)

    options = dict(seed=1, device=torch.device("cpu"), dtype=torch.float32)
    bins = held_out_loss(Zero(), objective, codec, values, cond, **options)  # type: ignore[arg-type]
    assert bins == held_out_loss(Zero(), objective, codec, values, cond, **options)  # type: ignore[arg-type]
    want = float(codec.encode(values).square().mean()) + 1
    assert bins == pytest.approx([want] * 10, rel=0.08)
    per_sample = objective.loss(
        Zero(), Batch(codec.encode(values), cond), NoiseSource([0] * len(values), index=range(len(values)))
    ).per_sample
    assert float(per_sample.mean()) == pytest.approx(want, rel=0.08)


@pytest.mark.parametrize("cause", ["weights", "loss"])
def test_a_run_that_diverges_names_the_last_good_checkpoint(cause: str, tmp_path: Path) -> None:
    good = studio.train(points_config(steps=6, save_every=2, log_every=1), out=tmp_path / "run", quiet=True)
    before = files_below(good.folder)
    wild = ["train.steps=60", "train.schedule=constant"] + (
        ["train.lr=1e30", "train.clip=null"] if cause == "weights" else ["train.lr=1e18"]
    )
    with pytest.raises(
        Diverged, match=r"the last good checkpoint is .*run@6\. Nothing was overwritten; try a lower train.lr"
    ) as error:
        studio.train(
            points_config(steps=6, save_every=2, log_every=1), wild, out=good.folder, resume=True, quiet=True
        )
    after = files_below(good.folder)
    kept = [k for k in before if k.startswith("checkpoints/")]
    assert all(after[k] == before[k] for k in kept) and sorted(
        k for k in after if k.startswith("checkpoints/")
    ) == sorted(kept)
    assert "inf" in str(error.value) or "nan" in str(error.value)
    for step in checkpoints(good.folder):
        weights = load_file(good.folder / "checkpoints" / f"{step:09d}" / "net.safetensors")
        assert all(bool(torch.isfinite(v).all()) for v in weights.values())
    assert (
        studio.train(
            points_config(steps=6),
            ["train.steps=8", "train.lr=0.002"],
            out=good.folder,
            resume=True,
            quiet=True,
        ).step
        == 8
    )


def test_data_that_is_not_finite(tmp_path: Path) -> None:
    class Broken(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 40

        def __getitem__(self, i: int) -> torch.Tensor:
            return torch.tensor([0.1, math.inf if i == 17 else 0.2])

    with pytest.raises(ValueError, match="got inf in item 17"):
        studio.train(points_config(), data=Broken(), out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_start_from_another_model(points_run: Run, tmp_path: Path) -> None:
    run = studio.train(
        points_config(steps=1, lr=1e-30, ema=[]),
        start_from=str(points_run.folder),
        out=tmp_path / "run",
        quiet=True,
    )
    got = load_file(run.folder / "checkpoints" / "000000001" / "net.safetensors")
    want = {
        k.removeprefix("net."): v
        for k, v in load_file(points_run.folder / "checkpoints" / "000000040" / "ema-0.9.safetensors").items()
    }
    assert differences(got, want) == []
    with pytest.raises(ValueError, match="has shape .* use the same backbone section"):
        studio.train(
            points_config(),
            ["backbone.width=16"],
            start_from=str(points_run.folder),
            out=tmp_path / "other",
            quiet=True,
        )
    assert not (tmp_path / "other").exists()


def test_overwriting_loses_nothing_before_the_new_run_is_sure(points_run: Run, tmp_path: Path) -> None:
    run = shutil.copytree(points_run.folder, tmp_path / "run")
    before = files_below(run)
    for wrong in (
        "data.kind=squares",
        "backbone.wdth=3",
        "sample.sampler=ddim(eta=7)",
        "train.batch_size=33",
        "objective.path=curly",
    ):
        changes = [wrong] + (["train.accumulate=2"] if "batch" in wrong else [])
        with pytest.raises(ValueError):
            studio.train(points_config(), changes, out=run, overwrite=True, quiet=True)
        assert files_below(run) == before, wrong
    assert studio.train(points_config(), out=run, overwrite=True, quiet=True).step == 8 and checkpoints(
        run
    ) == [8]
