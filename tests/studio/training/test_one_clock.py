"""Processes of a run go by one clock, the first one's: their weights are the same however fast each of them
is, and none waits for the other."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import warm
from safetensors.torch import load_file
from tiny import checkpoints, environment, metrics

SCRIPT = """
import os, signal, sys, time
import torch
from torch import nn
import studio
from tiny import points_config

torch.set_num_threads(1)
RANK = int(os.environ["RANK"])
MODE, OUT = sys.argv[1], sys.argv[2]

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANK)  # the first process's weights are everyone's
            self.net = nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), nn.SiLU(), nn.Linear(16, 2))
            self.spare = nn.Linear(2, 2) if "unused" in MODE else None
        self.seen = 0
    def forward(self, x, t, *rest):
        self.seen += 1
        if RANK == 1 and MODE in ("minutes", "stop"):
            time.sleep(0.01 * (self.seen % 3))  # a process of another pace
        if RANK == 0 and MODE == "nan" and self.seen > 12:
            x = x * float("nan")
        if RANK == 1 and MODE == "stop" and self.seen == 60:  # a signal to one of them, not the first
            os.kill(os.getpid(), signal.SIGINT)
        return self.net(torch.cat([x, t[:, None] / 1000], 1))

train = {"batch_size": 32, "accumulate": 2, "ema": ["0.9"], "log_every": 0, "eval_every": 0, \
"weak_snapshot": True, "warmup": 2}
train |= {"minutes": {"minutes": 1, "stop": 100}[MODE] / 60} if MODE in ("minutes", "stop") else {"steps": \
6, "log_every": 2}
train |= {"ddp": {"find_unused_parameters": True}} if MODE == "unused-allowed" else {}
tree = points_config(**train)
if MODE in ("minutes", "stop"):
    del tree["train"]["steps"]
    tree["train"]["schedule"] = "cosine"
net = Own()
try:
    run = studio.train(tree, backbone=net, out=OUT, quiet=True, device="cpu")
except ValueError as error:
    print(f"REFUSED {RANK} {error}", flush=True)
    sys.exit(3)
torch.save({"weights": net.state_dict(), "step": run.step, "interrupted": run.interrupted}, \
f"{OUT}-{RANK}.pt")
"""


def together(mode: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "own.py"
    script.write_text(SCRIPT)
    env = environment() | {"PYTHONPATH": os.pathsep.join(str(Path(__file__).parents[k]) for k in (1, 2, 3))}
    return warm.together([script, mode, tmp_path / "run"], cwd=tmp_path, env=env)


@pytest.mark.parametrize("mode", ["minutes", pytest.param("stop", marks=pytest.mark.slow)])
def test_minutes_accumulation_and_a_stop_end_with_the_same_weights(mode: str, tmp_path: Path) -> None:
    start = time.monotonic()
    done = together(mode, tmp_path)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < 60
    one, other = (torch.load(tmp_path / f"run-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert one["step"] == other["step"] > 4 and one["interrupted"] == other["interrupted"] == (mode == "stop")
    assert one["weights"].keys() == other["weights"].keys()
    assert all(torch.equal(one["weights"][k], other["weights"][k]) for k in one["weights"]), (
        "statistics among them"
    )
    steps = checkpoints(tmp_path / "run")
    assert steps[-1] == one["step"] and len(steps) == 1 + (mode == "minutes"), (
        "the end, and the weak snapshot"
    )
    kept = load_file(tmp_path / "run" / "checkpoints" / f"{steps[-1]:09d}" / "net.safetensors")
    assert all(torch.equal(kept[k], one["weights"][k]) for k in kept)


def test_parameters_without_a_gradient_are_named_on_all_processes(tmp_path: Path) -> None:
    done = together("unused", tmp_path)
    assert done.returncode != 0
    for rank in (0, 1):
        assert (
            f"REFUSED {rank} got a network that does not use its parameters spare.weight, spare.bias"
            in done.stdout
        ), done.stderr
    assert "train.ddp.find_unused_parameters=true" in done.stdout and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_parameters_without_a_gradient_may_be_allowed(tmp_path: Path) -> None:
    done = together("unused-allowed", tmp_path)
    assert done.returncode == 0, done.stderr
    one, other = (torch.load(tmp_path / f"run-{rank}.pt", weights_only=True)["weights"] for rank in (0, 1))
    assert "spare.weight" in one and all(torch.equal(one[k], other[k]) for k in one)
    assert len(metrics(tmp_path / "run")) >= 3


def test_a_loss_that_breaks_on_one_process_ends_all(tmp_path: Path) -> None:
    done = together("nan", tmp_path)
    assert done.returncode != 0 and "the loss became nan" in done.stderr
    assert signal.SIGABRT not in (-done.returncode, done.returncode - 128)
