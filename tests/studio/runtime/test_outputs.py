"""Where output cannot go: nothing is written, nothing lost, and the way out is named. Through Python and
through the command line."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from tiny import checkpoints, files_below, points_config, run_studio

import studio
from studio.config import from_tree
from studio.model.export import export
from studio.runtime import files
from studio.training.run import Run

Usage = namedtuple("Usage", "total used free")


def config_file(where: Path, **train: object) -> Path:
    path = where / "dots.yaml"
    path.write_text(from_tree(points_config(**train)).yaml())
    return path


def test_a_disk_that_fills_up_during_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint that does not fit is not begun; those before it stay, and the run goes on from them when
    there is room."""
    free = {"bytes": 10**12}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, free["bytes"]))

    def fill(entry: dict[str, object]) -> None:
        if entry["step"] == 6:
            free["bytes"] = files.SPARE_BYTES

    config = points_config(steps=8, log_every=1, save_every=4)
    with pytest.raises(ValueError, match=r"cannot write 0 MB to .*checkpoints: 50 MB are free; make room"):
        studio.train(config, out=tmp_path / "run", on_log=fill, quiet=True)
    assert checkpoints(tmp_path / "run") == [4] and not list((tmp_path / "run" / "checkpoints").glob("tmp-*"))
    free["bytes"] = 10**12
    rest = studio.train(config, out=tmp_path / "run", resume=True, quiet=True)
    assert rest.step == 8 and checkpoints(tmp_path / "run") == [4, 8]


def test_no_room_before_the_first_step(
    points_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 9, 1))
    with pytest.raises(ValueError, match="make room or choose another --out"):
        studio.train(points_config(), out=tmp_path / "run", quiet=True)
    with pytest.raises(ValueError, match="make room or choose another --out"):
        export(str(points_run.folder), tmp_path / "flat")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_hold_a_folder(points_run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    before = files_below(tmp_path)
    for out, error, text in (
        (tmp_path / "file" / "run", ValueError, "file is a file, expected a folder; choose another --out"),
        (tmp_path / "file", FileExistsError, "exists and is not a run"),
        (tmp_path / "full", FileExistsError, "exists and is not a run; choose another --out"),
    ):
        for flags in ({}, {"overwrite": True}, {"resume": True}):
            with pytest.raises(error, match=text):
                studio.train(points_config(), out=out, quiet=True, **flags)
    with pytest.raises(ValueError, match="expected a folder; choose another --out"):
        export(str(points_run.folder), tmp_path / "file" / "flat")
    assert files_below(tmp_path) == before


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    import os

    if os.access(locked, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(PermissionError, match="no permission in .*locked; choose another --out"):
        studio.train(points_config(), out=locked / "run", quiet=True)


def test_the_command_line_refuses_in_one_line(points_run: Run, tmp_path: Path) -> None:
    config, run = config_file(tmp_path), shutil.copytree(points_run.folder, tmp_path / "run")
    (tmp_path / "weights.pt").write_bytes(b"\x80\x02}q\x00.")
    before = files_below(tmp_path)
    for words, text in (
        (("train", config, "--out", run), "holds a run already; pass --resume"),
        (
            ("train", config, "--out", run, "--overwrite", "--device", "cuda:9"),
            "got device 'cuda:9', which is not there",
        ),
        (("sample", tmp_path / "weights.pt", "--out", tmp_path / "x"), "a pickle, which is never loaded"),
        (("sample", run, "--out", tmp_path / "x", "--num-steps", "-3"), "num_steps=-3"),
        (("sample", run, "--out", tmp_path / "x", "--sampler", "ddpm(respacing=ddim5)"), "needs a VP table"),
        (("sample", run, "--out", tmp_path / "x", "--set", "height"), "expected NAME=VALUE"),
        (("sample", run, "--out", tmp_path / "x", "--steps", "3"), "No such option"),
    ):
        done = run_studio(*words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "") and text in done.stderr, done.stderr
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert files_below(tmp_path) == before and not (tmp_path / "x").exists()


def test_underscores_json_and_info(points_run: Run, tmp_path: Path) -> None:
    words = ("sample", points_run.folder, "--seeds", "0-4", "--dtype", "fp32", "--json")
    dash = run_studio(*words, "--out", tmp_path / "a", "--num-steps", "3", cwd=tmp_path)
    bar = run_studio(*words, "--out", tmp_path / "b", "--num_steps=3", cwd=tmp_path)
    one, two = json.loads(dash.stdout), json.loads(bar.stdout)
    assert one["recipe"] == two["recipe"] and one["recipe"]["num_steps"] == 3
    shown = json.loads(run_studio("info", tmp_path / "a", "--json", cwd=tmp_path).stdout)
    assert shown["samples"] == 5 and shown["command"].startswith(
        f"studio sample {points_run.folder}@40 --out again --seeds 0-4 "
    )
    listed = json.loads(
        run_studio("list", "--models", points_run.folder.parent, "--json", cwd=tmp_path).stdout
    )["models"]
    assert "step 40" in listed[str(points_run.folder)] and "fashion-dit" in listed
