"""Two processes train what one does: the effective batch, its noise and its order do not depend on how it is
split."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import warm
from safetensors.torch import load_file
from tiny import checkpoints, dit_config, environment, last_checkpoint, metrics, studio_words

import studio
from studio.config import from_tree

Launch = Callable[..., "subprocess.CompletedProcess[str]"]


def torchrun(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "studio",
        *map(str, arguments),
    ]
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment() | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def together(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Two processes with the variables that a launcher sets."""
    return warm.together(studio_words(*arguments), cwd=cwd, env=environment())


def losses(run: Path) -> torch.Tensor:
    return torch.tensor([m["loss"] for m in metrics(run) if "loss" in m], dtype=torch.float64)


@pytest.mark.parametrize(
    "optimizer, launch",
    [
        ("adamw", together),
        pytest.param("adamw", torchrun, marks=pytest.mark.slow),
        pytest.param("muon", torchrun, marks=pytest.mark.slow),
    ],
)
def test_two_processes_train_what_one_does(
    optimizer: str, launch: Launch, pictures: Path, tmp_path: Path
) -> None:
    tree = dit_config(
        pictures,
        optimizer=optimizer,
        steps=10,
        log_every=1,
        accumulate=2,
        flip=True,
        save_every=5,
        eval_every=5,
    )
    one = studio.train(tree, out=tmp_path / "one", quiet=True)
    config = tmp_path / "tiny.yaml"
    config.write_text(from_tree(tree).yaml())
    done = launch(
        "train",
        config,
        "--out",
        tmp_path / "two",
        "--threads",
        "1",
        "--device",
        "cpu",
        "--json",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"step": 10') == 1, "one process tells, not both"

    a, b = losses(one.folder), losses(tmp_path / "two")
    assert len(a) == len(b) == 10
    assert ((a - b).abs() / a).max() <= 1e-5
    assert checkpoints(one.folder) == checkpoints(tmp_path / "two")
    # Muon's products in bf16 turn roundings of a gradient near zero into steps of full length
    if optimizer == "adamw":
        mine, theirs = (
            load_file(last_checkpoint(run) / "ema-0.99.safetensors") for run in (one.folder, tmp_path / "two")
        )
        assert mine.keys() == theirs.keys()
        assert max(float((mine[k] - theirs[k]).abs().max()) for k in mine) < 1e-4


@pytest.mark.slow
def test_a_run_moves_between_one_process_and_two(pictures: Path, tmp_path: Path) -> None:
    tree = dit_config(pictures, steps=20, log_every=1, save_every=10, schedule="constant")
    whole = studio.train(tree, out=tmp_path / "whole", quiet=True)
    config = tmp_path / "tiny.yaml"
    config.write_text(from_tree(tree).yaml())
    first = torchrun(
        "train", config, "train.steps=10", "--out", tmp_path / "run", "--threads", "1", cwd=tmp_path
    )
    assert first.returncode == 0, first.stderr
    studio.train(tree, ["train.steps=20"], out=tmp_path / "run", resume=True, quiet=True)
    a, b = losses(whole.folder), losses(tmp_path / "run")
    assert len(a) == len(b) == 20 and ((a - b).abs() / a).max() <= 1e-5


SLOW_DISK = """
import sys, time
import studio
from studio.checkpoints import checkpoint

save = checkpoint.save
def late(*args, **options):
    time.sleep(1)
    return save(*args, **options)
checkpoint.save = late  # only the first process writes
run = studio.train(sys.argv[1], ["train.steps=2", "train.save_every=0"], out=sys.argv[2], device="cpu", \
quiet=True)
assert studio.load(run.folder, device="cpu").info.shape == (1, 8, 8)
"""


def test_every_process_finds_the_last_checkpoint(pictures: Path, tmp_path: Path) -> None:
    """Training ends for all of them when it is written, however long the first process takes for it."""
    config, script = tmp_path / "tiny.yaml", tmp_path / "script.py"
    config.write_text(from_tree(dit_config(pictures)).yaml())
    script.write_text(SLOW_DISK)
    done = warm.together([script, config, tmp_path / "run"], cwd=tmp_path, env=environment())
    assert done.returncode == 0, done.stderr


def test_overwriting_with_two_processes(pictures: Path, tmp_path: Path) -> None:
    """One process clears, both train: nothing races."""
    config = tmp_path / "tiny.yaml"
    config.write_text(from_tree(dit_config(pictures, steps=4, save_every=2)).yaml())
    studio.train(config, ["train.steps=3", "train.save_every=1"], out=tmp_path / "run", quiet=True)
    words = ("train", config, "--out", tmp_path / "run", "--threads", "1")
    done = warm.together(studio_words(*words, "--overwrite"), cwd=tmp_path, env=environment())
    assert done.returncode == 0, done.stderr
    assert checkpoints(tmp_path / "run") == [2, 4]
    refused = warm.together(studio_words(*words), cwd=tmp_path, env=environment())
    assert refused.returncode != 0 and "--resume" in refused.stderr


def test_a_batch_that_does_not_divide_is_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not divisible by accumulate=3"):
        studio.train(dit_config(pictures, accumulate=3), out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
