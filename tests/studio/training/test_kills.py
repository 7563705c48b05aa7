"""A real ``python -m studio train`` that is killed, interrupted or terminated, and resumed, against one that
was left alone."""

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import (
    checkpoint_differences,
    checkpoints,
    dit_config,
    kill_until_done,
    last_checkpoint,
    metrics,
    run_studio,
    start_studio,
)
from warm import Process

from studio.config import from_tree


def config_file(pictures: Path, where: Path, **train: object) -> Path:
    path = where / "tiny.yaml"
    path.write_text(from_tree(dit_config(pictures, **train)).yaml())
    return path


def start(config: Path, out: Path) -> Process:
    """Begin a run, or go on with it."""
    resume = ("--resume",) if (out / "config.yaml").is_file() else ()
    return start_studio("train", config, "--out", out, *resume, "--threads", "1", "--device", "cpu")


def steps_logged(out: Path) -> int:
    path = out / "metrics.jsonl"
    return path.read_text().count("\n") if path.is_file() else 0


def wait_until(condition: Callable[[], bool], process: Process, limit: float = 120) -> None:
    """Until the condition holds or the process has ended."""
    end = time.monotonic() + limit
    while not condition() and process.poll() is None:
        assert time.monotonic() < end, "the process makes no progress"
        time.sleep(0.01)


def kept(out: Path) -> list[int]:
    """The checkpoints so far."""
    return checkpoints(out) if (out / "checkpoints").is_dir() else []


def killed(
    config: Path, out: Path, rng: random.Random, most: int, trace: Callable[[Path], object] = steps_logged
) -> int:
    """Resume and kill a random while after ``trace`` changed, then to the end; the number of kills."""
    return kill_until_done(lambda: start(config, out), lambda: trace(out), rng, most, 0.4)


def assert_as_if_undisturbed(whole: Path, killed: Path) -> None:
    assert checkpoints(whole) == checkpoints(killed)
    assert checkpoint_differences(last_checkpoint(whole), last_checkpoint(killed)) == []
    assert metrics(whole) == metrics(killed)
    assert not list((killed / "checkpoints").glob("tmp-*"))


def test_two_kills_leave_no_trace(pictures: Path, tmp_path: Path) -> None:
    config = config_file(
        pictures,
        tmp_path,
        steps=24,
        workers=1,
        log_every=1,
        save_every=3,
        eval_every=7,
        eval_samples=4,
        flip=True,
        accumulate=2,
    )
    done = run_studio(
        "train", config, "--out", tmp_path / "whole", "--threads", "1", "--device", "cpu", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    killed(config, tmp_path / "killed", random.Random(1), 2, kept)  # with something to resume from
    assert_as_if_undisturbed(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_twenty_kills_leave_no_trace(pictures: Path, tmp_path: Path) -> None:
    """Several runs where one is over before it was killed often enough; each is compared with the undisturbed
    one."""
    config = config_file(
        pictures,
        tmp_path,
        steps=400,
        optimizer="muon",
        workers=2,
        log_every=1,
        save_every=3,
        eval_every=50,
        flip=True,
        accumulate=2,
        keep_last=3,
    )
    done = run_studio(
        "train", config, "--out", tmp_path / "whole", "--threads", "1", "--device", "cpu", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    rng, kills, rounds = random.Random(20), 0, 0
    while kills < 20:
        out = tmp_path / f"killed-{rounds}"
        kills += killed(config, out, rng, 20 - kills)
        assert_as_if_undisturbed(tmp_path / "whole", out)
        rounds += 1
        assert rounds < 20, "runs end before they can be killed"
    assert kills == 20


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_polite_stop_checkpoints_and_resumes(
    number: signal.Signals, pictures: Path, tmp_path: Path
) -> None:
    config = config_file(
        pictures, tmp_path, steps=100000, schedule="constant", log_every=1, save_every=0, weak_snapshot=False
    )
    process = start(config, tmp_path / "run")
    wait_until(lambda: steps_logged(tmp_path / "run") >= 3, process)
    process.send_signal(number)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    stopped = checkpoints(tmp_path / "run")[-1]
    assert checkpoints(tmp_path / "run") == [stopped] and stopped >= 3
    assert f"step {stopped}" in out and "--resume" in out and "Traceback" not in error
    assert steps_logged(tmp_path / "run") == stopped  # every step that was trained is in the checkpoint

    total = stopped + 5
    whole = run_studio(
        "train",
        config,
        f"train.steps={total}",
        "--out",
        tmp_path / "whole",
        "--threads",
        "1",
        "--device",
        "cpu",
        cwd=tmp_path,
    )
    rest = run_studio(
        "train",
        config,
        f"train.steps={total}",
        "--out",
        tmp_path / "run",
        "--resume",
        "--threads",
        "1",
        "--json",
        cwd=tmp_path,
    )
    assert (whole.returncode, rest.returncode) == (0, 0), rest.stderr
    result = json.loads(rest.stdout)
    assert (result["step"], result["interrupted"]) == (total, False)
    assert (
        checkpoint_differences(last_checkpoint(tmp_path / "whole"), last_checkpoint(tmp_path / "run")) == []
    )
