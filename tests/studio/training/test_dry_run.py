"""``--dry-run`` tells what a run costs, from its own steps, and refuses what the run would refuse; nothing is
written."""

import os
from pathlib import Path

import pytest
from tiny import dit_config, files_below, run_studio

import studio
from studio.training.dry_run import of_training
from studio.training.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")


def test_it_tells_time_memory_and_disk(pictures: Path, tmp_path: Path) -> None:
    config = dit_config(pictures, steps=40, save_every=10, keep_last=2, weak_snapshot=False)
    found = of_training(config, out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    assert found["steps"] == 40 and found["memory_mb"] > 50
    # told to a tenth
    assert found["step_seconds"] > 0 and found["total_seconds"] + 0.05 >= 39 * found["step_seconds"]
    run = studio.train(config, out=tmp_path / "run", quiet=True)
    spent = [sum(f.stat().st_size for f in c.iterdir()) for c in (run.folder / "checkpoints").iterdir()]
    assert len(spent) == 2 and found["checkpoint_mb"] * 1e6 == pytest.approx(spent[0], rel=0.25, abs=1e5)
    assert sum(spent) < found["disk_mb"] * 1e6 * 1.25
    before = files_below(tmp_path)
    rest = of_training(run.folder, ["train.steps=100"], resume=True)
    assert rest["steps"] == 60 and files_below(tmp_path) == before


def test_by_minutes_the_steps_are_reckoned(pictures: Path, tmp_path: Path) -> None:
    found = of_training(
        dit_config(pictures, steps=None, minutes=2, eval_every=0, save_every=0), out=tmp_path / "run"
    )
    assert found["total_seconds"] == 120 and found["steps"] == pytest.approx(
        120 / found["step_seconds"], rel=0.02
    )


def test_from_a_base_and_from_none(picture_run: Run, pictures: Path, tmp_path: Path) -> None:
    small = dit_config(pictures, steps=4)
    found = of_training(small, out=tmp_path / "tuned", start_from=str(picture_run.folder))
    assert found["from"] == str(picture_run.folder) and found["step_seconds"] > 0
    with pytest.raises(ValueError, match="use the same backbone section"):
        of_training(
            small, ["backbone.hidden_size=16"], out=tmp_path / "tuned", start_from=str(picture_run.folder)
        )
    with pytest.raises((ValueError, OSError), match="no-such-model"):
        of_training(small, out=tmp_path / "tuned", start_from="no-such-model")
    with pytest.raises(FileExistsError, match="holds a run already"):
        of_training(small, out=picture_run.folder)
    with pytest.raises(ValueError, match="nothing to resume"):
        of_training(small, out=tmp_path / "none", resume=True)
    assert list(tmp_path.iterdir()) == []


def test_on_the_command_line(pictures: Path, tmp_path: Path) -> None:
    small = [
        "backbone={name: dit, size: null, hidden_size: 16, depth: 1, num_heads: 2, patch_size: 4}",
        "train.steps=6",
        "train.batch_size=4",
    ]
    made = run_studio("train", f"npz:{pictures}", *small, "--dry-run", "--threads", 1, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    for told in ("s a step", "6 steps", "in all", "memory:", "disk:", "are free", "hidden_size: 16"):
        assert told in made.stdout, told
    wrong = run_studio(
        "train", f"npz:{pictures}", *small, "--from", "no-such-model", "--dry-run", "--json", cwd=tmp_path
    )
    assert wrong.returncode == 2 and "no-such-model" in wrong.stderr and wrong.stdout == ""
    assert os.listdir(tmp_path) == []
