"""What a power cut leaves: empty, cut and zeroed files. A run goes on from the newest checkpoint that is
whole, and says which are not."""

import json
import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
from thinned import thinned
from tiny import checkpoint_differences, checkpoints, files_below, last_checkpoint, metrics, points_config

import studio
from studio.checkpoints import checkpoint
from studio.runtime import files
from studio.training.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")
HARM = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "zeros at the end": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
}
CHECKPOINT = ["meta.json", "net.safetensors", "ema-0.9.safetensors", "state.pt"]
CONFIG = points_config(steps=12, log_every=1, save_every=3) | {"seed": 5}


def harm(path: Path, how: str) -> None:
    path.write_bytes(HARM[how](path.read_bytes()))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = json.loads(json.dumps(CONFIG))
    config["train"]["keep_last"] = 4
    return studio.train(config, out=tmp_path_factory.mktemp("whole") / "run", quiet=True)


@pytest.fixture
def run(whole: Run, tmp_path: Path) -> Path:
    return shutil.copytree(whole.folder, tmp_path / "run")


def damaged(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"{step:09d}"


@pytest.mark.parametrize("name, how", thinned(2, ["config.yaml", "meta.json"], list(HARM)))
def test_the_files_of_a_run_are_written_again(
    name: str, how: str, whole: Run, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / name).read_bytes()
    harm(run / name, how)
    with pytest.raises(ValueError, match=rf"{name} is empty or cut off, .*studio train .*run --resume"):
        studio.load(run)
    assert studio.train(run, resume=True).step == 12
    assert f"{run / name} was empty or cut off" in capsys.readouterr().err
    assert (run / name).read_bytes() == before
    assert (
        studio.load(run, device="cpu")
        .sample(seeds=[1])
        .values.equal(studio.load(whole.folder, device="cpu").sample(seeds=[1]).values)
    )


def test_both_files_of_a_run_are_written_again_and_training_goes_on(
    whole: Run, run: Path, tmp_path: Path
) -> None:
    shutil.rmtree(damaged(run, 12))
    for name in ("config.yaml", "meta.json", "metrics.jsonl"):
        harm(run / name, "empty")
    (tmp_path / "dots.yaml").write_text((whole.folder / "config.yaml").read_text())
    studio.train(tmp_path / "dots.yaml", out=run, resume=True, quiet=True)
    assert checkpoint_differences(last_checkpoint(whole.folder), last_checkpoint(run)) == []
    assert (run / "config.yaml").read_bytes() == (whole.folder / "config.yaml").read_bytes()
    assert [m["step"] for m in metrics(run)] == [10, 11, 12]


def test_a_config_that_a_user_changed_is_not_written_over(run: Path) -> None:
    text = (run / "config.yaml").read_text().replace("steps: 12", "steps: [12")
    (run / "config.yaml").write_text(text)
    with pytest.raises(ValueError):
        studio.train(run, resume=True, quiet=True)
    assert (run / "config.yaml").read_text() == text


def test_files_without_a_copy_are_an_error_in_words(run: Path) -> None:
    """As in runs of earlier versions, whose checkpoints hold no copy."""
    for folder in checkpoint.listing(run):
        meta = json.loads((folder / "meta.json").read_text())
        del meta["run"]
        (folder / "meta.json").write_text(json.dumps(meta))
    harm(run / "meta.json", "half")
    before = files_below(run)
    with pytest.raises(ValueError, match="meta.json is empty or cut off, .* restore it from a backup"):
        studio.train(run, resume=True, quiet=True)
    assert files_below(run) == before


def test_a_run_without_a_checkpoint_begins_again(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dots.yaml").write_text((run / "config.yaml").read_text())
    shutil.rmtree(run / "checkpoints")
    for name in ("config.yaml", "meta.json"):
        harm(run / name, "empty")
    assert studio.train(tmp_path / "dots.yaml", out=run, resume=True).step == 12
    assert "begins again" in capsys.readouterr().err


@pytest.mark.parametrize("name, how", thinned(2, CHECKPOINT, list(HARM)))
def test_broken_checkpoints_are_passed_over_by_name(
    name: str, how: str, whole: Run, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest ones: the run goes on from the one before, to the same bytes."""
    for step in (9, 12):
        harm(damaged(run, step) / name, how)
    # not read in sampling, and as long as it was
    unseen = name in ("net.safetensors", "state.pt") and "zeros" in how
    with nullcontext() if unseen else pytest.raises(ValueError, match=rf"{name}.*use .*run@6"):
        studio.load(run)
    assert studio.train(run, resume=True).step == 12
    told = capsys.readouterr().err
    for step in (9, 12):
        assert (
            f"checkpoint {step} is broken ({name}" in told
            and (run / "checkpoints" / f"broken-{step:09d}").is_dir()
        )
    assert "goes on from checkpoint 6" in told
    assert checkpoints(run) == [3, 6, 9, 12]
    assert checkpoint_differences(last_checkpoint(whole.folder), last_checkpoint(run)) == []
    assert metrics(run) == metrics(whole.folder)


def test_an_old_broken_checkpoint_never_ends_a_run(
    whole: Run, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harm(damaged(run, 3) / "meta.json", "empty")
    harm(damaged(run, 6) / "state.pt", "half")
    assert studio.train(run, ["train.steps=24", "train.keep_last=2"], resume=True).step == 24
    assert "checkpoint 3 is broken" in capsys.readouterr().err
    assert damaged(run, 3).is_dir(), "left as it is"
    assert [s for s in checkpoints(run) if s != 3] == [21, 24]
    assert studio.load(run).name.endswith("@24") and studio.load(f"{run}@21").name.endswith("@21")


def test_no_checkpoint_that_is_whole(run: Path) -> None:
    for folder in checkpoint.listing(run):
        harm(folder / "state.pt", "half")
    before = files_below(run)
    with pytest.raises(
        ValueError,
        match="no checkpoint of .*run is whole: checkpoint 12 is broken .*checkpoint 3 is broken.*--from",
    ):
        studio.train(run, resume=True, quiet=True)
    assert files_below(run) == before


@pytest.mark.parametrize("how", HARM)
def test_metrics_that_were_cut(how: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = (run / "metrics.jsonl").read_bytes()
    harm(run / "metrics.jsonl", how)
    assert studio.train(run, ["train.steps=14"], resume=True).step == 14
    steps = [m["step"] for m in metrics(run)]
    assert (
        steps == sorted(set(steps))
        and steps[-2:] == [13, 14]
        and good.startswith((run / "metrics.jsonl").read_bytes().split(b'{"step": 13')[0])
    )
    assert "metrics.jsonl" in capsys.readouterr().err


def test_what_is_renamed_is_on_the_disk_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rename into place comes after an fsync of what is renamed, and before one of the folder that
    names it."""
    synced: list[int] = []
    fsync, replace = os.fsync, os.replace

    def noted(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        fsync(handle)

    def renamed(source: Path, target: Path) -> None:
        inside = [p for p in Path(source).rglob("*")] if Path(source).is_dir() else []
        lacking = [p for p in (Path(source), *inside) if os.stat(p).st_ino not in synced]
        assert lacking == []
        replace(source, target)
        waiting.append(os.stat(Path(target).parent).st_ino)

    waiting: list[int] = []
    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", renamed)
    studio.train(points_config(steps=4, save_every=2, log_every=1), out=tmp_path / "run", quiet=True)
    assert len(waiting) >= 4 and set(waiting) <= set(synced)
    assert os.stat(tmp_path / "run" / "metrics.jsonl").st_ino in synced
    files.write_json(tmp_path / "a.json", {"b": 1})
    assert (tmp_path / "a.json").read_text() == '{\n "b": 1\n}\n'
