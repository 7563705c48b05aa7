"""A real ``python -m studio generate`` that is killed again and again, with another batch and another number
of processes each time."""

import itertools
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import kill_until_done, run_studio, start_studio
from warm import Process

from studio.runtime.recipes import read_recipe
from studio.training.run import Run

NUM = 96


def words(run: Run, out: Path, *, batch: int, workers: int, deterministic: bool) -> list[object]:
    return [
        "generate",
        run.folder,
        "--out",
        out,
        "--num",
        NUM,
        "--num-steps",
        24,
        "--device",
        "cpu",
        "--dtype",
        "fp32",
        "--batch",
        batch,
        "--workers",
        workers,
        "--threads",
        1,
        *(["--deterministic"] if deterministic else []),
    ]


def start(run: Run, out: Path, **options: Any) -> Process:
    return start_studio(*words(run, out, **options))


def count(out: Path) -> int:
    return len(list((out / "000").glob("[0-9]*.png"))) if (out / "000").is_dir() else 0


def killed(run: Run, out: Path, rng: random.Random, most: int, *, deterministic: bool) -> int:
    """Another batch and another number of processes at every start; the number of kills."""
    workers = itertools.cycle([1, 2, 1])
    return kill_until_done(
        lambda: start(
            run, out, batch=rng.choice([3, 8, 64]), workers=next(workers), deterministic=deterministic
        ),
        lambda: count(out),
        rng,
        most,
        0.15,
    )


def pixels(out: Path) -> dict[str, np.ndarray]:
    found = {}
    for path in sorted(out.glob("[0-9]*/*")):
        with Image.open(path) as picture:
            found[path.name] = np.asarray(picture).astype(int)
        assert read_recipe(path)["seed"] == int(path.stem)
    assert list(found) == [f"{i:06d}.png" for i in range(NUM)], "nothing lost, nothing double, nothing half"
    return found


@pytest.mark.parametrize(
    "deterministic, kills",
    [
        (True, 2),
        pytest.param(False, 2, marks=pytest.mark.slow),
        pytest.param(True, 50, marks=pytest.mark.slow),
        pytest.param(False, 20, marks=pytest.mark.slow),
    ],
)
def test_kills_leave_no_trace(deterministic: bool, kills: int, picture_run: Run, tmp_path: Path) -> None:
    whole = run_studio(
        *words(picture_run, tmp_path / "whole", batch=64, workers=1, deterministic=deterministic),
        cwd=tmp_path,
    )
    assert whole.returncode == 0, whole.stderr
    expected = pixels(tmp_path / "whole")
    rng, done, rounds = random.Random(kills), 0, 0
    while done < kills:
        out = tmp_path / f"killed-{rounds}"
        done += killed(picture_run, out, rng, kills - done, deterministic=deterministic)
        for name, picture in pixels(out).items():
            assert np.abs(picture - expected[name]).max() <= (0 if deterministic else 1), name
        rounds += 1
        assert rounds < 50, "runs end before they can be killed"


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_polite_stop_leaves_whole_files(workers: int, picture_run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(picture_run, out, batch=8, workers=workers, deterministic=True)
    while count(out) == 0 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    text, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "run the same command again" in text and "Traceback" not in error
    assert 0 < count(out) < NUM and not list(out.glob("[0-9]*/.*"))
    last = run_studio(*words(picture_run, out, batch=64, workers=1, deterministic=True), cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    pixels(out)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_no_worker_outlives_its_parent(picture_run: Run, tmp_path: Path) -> None:
    process = start(picture_run, tmp_path / "out", batch=3, workers=2, deterministic=True)
    while count(tmp_path / "out") == 0 and process.poll() is None:
        time.sleep(0.02)
    children = [
        int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _parent(p) == process.pid
    ]
    assert len(children) == 2
    process.kill()
    process.communicate()
    end = time.monotonic() + 20
    while any(_running(c) for c in children):
        assert time.monotonic() < end, "a worker is still there"
        time.sleep(0.02)


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


def _running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
