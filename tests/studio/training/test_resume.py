"""Training that was interrupted and resumed leaves the same bytes as training that never stopped."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import checkpoint_differences, checkpoints, dit_config, last_checkpoint, metrics, points_config
from torch import Tensor, nn

import studio
from backbones import Cond

EVERYTHING = {
    "accumulate": 2,
    "workers": 2,
    "flip": True,
    "log_every": 4,
    "eval_every": 5,
    "save_every": 5,
    "steps": 12,
    "weight_decay": 0.01,
}


def stop_at(step: int) -> Any:
    """Asks for a stop, as Ctrl-C does, when the metrics of a step are logged."""

    def on_log(entry: dict[str, Any]) -> None:
        if entry["step"] == step:
            os.kill(os.getpid(), signal.SIGINT)

    return on_log


def assert_same_run(a: Path, b: Path) -> None:
    assert checkpoints(a) == checkpoints(b)
    for step in checkpoints(a):
        assert (
            checkpoint_differences(a / "checkpoints" / f"{step:09d}", b / "checkpoints" / f"{step:09d}") == []
        ), step
    assert metrics(a) == metrics(b)
    assert (a / "config.yaml").read_bytes() == (b / "config.yaml").read_bytes()


@pytest.mark.parametrize(
    "optimizer, dtype",  # muon is seen below
    [
        ("adamw", "bf16"),
        pytest.param("adamw", "fp32", marks=pytest.mark.slow),
        pytest.param("muon", "fp32", marks=pytest.mark.slow),
        pytest.param("muon", "bf16", marks=pytest.mark.slow),
    ],
)
def test_n_plus_n_steps_equal_2n(optimizer: str, dtype: str, pictures: Path, tmp_path: Path) -> None:
    config = dit_config(pictures, optimizer=optimizer, dtype=dtype, **EVERYTHING)
    whole = studio.train(config, out=tmp_path / "whole", quiet=True)
    half = studio.train(config, out=tmp_path / "halves", quiet=True, on_log=stop_at(8))
    assert (half.step, half.interrupted) == (8, True) and 8 in checkpoints(half.folder)
    rest = studio.train(config, out=tmp_path / "halves", quiet=True, resume=True)
    assert (rest.step, rest.interrupted) == (12, False)
    shutil.rmtree(half.folder / "checkpoints" / "000000008")  # the stop's own
    assert_same_run(whole.folder, rest.folder)
    assert sorted(p.name for p in last_checkpoint(whole.folder).iterdir()) == [
        "ema-0.99.safetensors",
        "ema-power-6.safetensors",
        "meta.json",
        "net.safetensors",
        "state.pt",
    ]


def test_the_middle_of_a_logging_window_is_remembered(tmp_path: Path) -> None:
    """A stop at step 5 of a window of 8 steps: the mean of that window still counts all of its losses."""
    config = points_config(steps=16, log_every=8, eval_every=5, save_every=0)
    whole = studio.train(config, out=tmp_path / "whole", quiet=True)
    studio.train(config, out=tmp_path / "parts", quiet=True, on_log=stop_at(5))
    rest = studio.train(config, out=tmp_path / "parts", quiet=True, resume=True)
    assert metrics(whole.folder) == metrics(rest.folder)
    assert [m["step"] for m in metrics(rest.folder) if "loss" in m] == [8, 16]


@pytest.mark.parametrize("optimizer", [pytest.param("adamw", marks=pytest.mark.slow), "muon"])
def test_lost_steps_are_trained_again(optimizer: str, pictures: Path, tmp_path: Path) -> None:
    """Killed between checkpoints: metrics run ahead of the newest checkpoint, their last line is torn, a
    draft lies about."""
    config = dit_config(pictures, optimizer=optimizer, **EVERYTHING)
    whole = studio.train(config, out=tmp_path / "whole", quiet=True)
    broken = shutil.copytree(whole.folder, tmp_path / "broken")
    for step in (10, 12):
        shutil.rmtree(broken / "checkpoints" / f"{step:09d}")
    draft = broken / "checkpoints" / "tmp-000000010"
    draft.mkdir()
    (draft / "net.safetensors").write_bytes(b"half")
    with open(broken / "metrics.jsonl", "a") as handle:
        handle.write('{"step": 13, "los')
    again = studio.train(config, out=broken, quiet=True, resume=True)
    assert again.step == 12 and not draft.exists()
    assert_same_run(whole.folder, broken)


def test_a_longer_run_can_follow_a_finished_one(tmp_path: Path) -> None:
    """With a constant learning rate N steps, resumed to 2N, are 2N steps."""
    options = {"schedule": "constant", "weak_snapshot": False, "save_every": 6, "log_every": 2}
    whole = studio.train(points_config(steps=12, **options), out=tmp_path / "whole", quiet=True)
    studio.train(points_config(steps=6, **options), out=tmp_path / "parts", quiet=True)
    rest = studio.train(
        points_config(steps=6, **options), ["train.steps=12"], out=tmp_path / "parts", quiet=True, resume=True
    )
    assert rest.step == 12
    assert_same_run(whole.folder, rest.folder)


@pytest.mark.parametrize("log_every", [2, 50])
def test_resuming_a_finished_run_changes_nothing(log_every: int, tmp_path: Path) -> None:
    """A run that is shorter than an interval has its one line already."""
    config = points_config(log_every=log_every)
    run = studio.train(config, out=tmp_path / "run", quiet=True)
    before = {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}
    again = studio.train(config, out=run.folder, quiet=True, resume=True)
    assert again.step == run.step == 8
    assert before == {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}


class Noisy(nn.Module):
    """A network whose layers draw from torch's global generator."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(3, 16), nn.SiLU(), nn.Dropout(0.5), nn.Linear(16, 2))

    def forward(self, x: Tensor, t: Tensor, cond: Cond, ctx: Any = None) -> Tensor:
        return self.net(torch.cat([x, t[:, None] / 1000], 1))


def test_dropout_inside_a_network_resumes_too(tmp_path: Path) -> None:
    config = points_config(steps=8, log_every=4)
    torch.manual_seed(11)
    whole = studio.train(config, out=tmp_path / "whole", backbone=Noisy(), quiet=True)
    torch.manual_seed(5)  # what the caller does with torch's generator is no part of a run
    before = torch.get_rng_state()
    studio.train(config, out=tmp_path / "parts", backbone=Noisy(), quiet=True, on_log=stop_at(4))
    assert torch.equal(before, torch.get_rng_state())
    rest = studio.train(config, out=tmp_path / "parts", backbone=Noisy(), quiet=True, resume=True)
    assert checkpoint_differences(last_checkpoint(whole.folder), last_checkpoint(rest.folder)) == []


def test_masks_of_dropout_differ_between_steps(tmp_path: Path) -> None:
    """With a learning rate of nearly nothing and one repeated sample, only the masks and the noise move the
    loss: no two steps are alike."""
    run = studio.train(
        points_config(steps=6, log_every=1, lr=1e-12), out=tmp_path / "run", backbone=Noisy(), quiet=True
    )
    assert len({m["loss"] for m in metrics(run.folder)}) == 6


def test_a_draft_of_the_config_alone_is_no_obstacle(tmp_path: Path) -> None:
    """Killed while the very first file was being written."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".config.yaml.x1y2z3").write_text("name: do")
    assert studio.train(points_config(), out=folder, quiet=True, resume=True).step == 8
    assert not list(folder.glob(".config.yaml.*"))


def test_another_model_is_not_resumed(tmp_path: Path) -> None:
    run = studio.train(points_config(), out=tmp_path / "run", quiet=True)
    for change, word in (("backbone.width=64", "backbone"), ("seed=9", "seed"), ("data.kind=moons", "data")):
        with pytest.raises(ValueError, match=f"{word} differs from the run being resumed.*--from"):
            studio.train(points_config(), [change], out=run.folder, quiet=True, resume=True)
    with pytest.raises(ValueError, match="no average 'power-3'.*train.ema"):
        studio.train(points_config(), ["train.ema=[power-3]"], out=run.folder, quiet=True, resume=True)
    with pytest.raises(ValueError, match="another optimizer"):
        studio.train(points_config(), ["train.optimizer=muon"], out=run.folder, quiet=True, resume=True)


def test_other_data_is_not_resumed(pictures: Path, tmp_path: Path) -> None:
    mine = tmp_path / "pictures.npz"
    shutil.copy(pictures, mine)
    run = studio.train(
        dit_config(mine, steps=2, eval_every=0, save_every=0), out=tmp_path / "run", quiet=True
    )
    arrays = dict(np.load(mine))
    name = max(arrays, key=lambda k: arrays[k].size)
    np.savez(mine, **{**arrays, name: 255 - arrays[name]})
    with pytest.raises(ValueError, match="data differs from that of the run being resumed"):
        studio.train(run.folder / "config.yaml", ["train.steps=4"], out=run.folder, quiet=True, resume=True)
    assert checkpoints(run.folder) == [2]
