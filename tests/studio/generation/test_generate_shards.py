"""Which part of the work is whose, and pictures in archives."""

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import studio
from studio.evaluation.sets import open_set
from studio.generation import blocks
from studio.model.model import Model
from studio.runtime.launch import launched, shard_of

OPTIONS: dict[str, Any] = {"num_steps": 1, "guidance": None, "quiet": True, "deterministic": True}


@pytest.mark.parametrize(
    "variables, shard",
    [
        ({"RANK": "2", "WORLD_SIZE": "8"}, (3, 8)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (1, 4)),
        ({"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "5", "SLURM_NTASKS": "9"}, (2, 2)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "7",
                "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_MAX": "7",
                "SLURM_ARRAY_TASK_COUNT": "4",
            },
            (4, 4),
        ),
        (
            {
                "SLURM_ARRAY_TASK_ID": "1",
                "SLURM_ARRAY_TASK_MIN": "0",
                "SLURM_ARRAY_TASK_MAX": "2",
                "SLURM_ARRAY_TASK_COUNT": "3",
                "SLURM_PROCID": "1",
                "SLURM_NTASKS": "2",
            },
            (4, 6),
        ),
    ],
)
def test_the_environment_says_which_part(variables: dict[str, str], shard: tuple[int, int]) -> None:
    assert shard_of(variables) == shard


@pytest.mark.parametrize(
    "variables, text",
    [
        ({}, "neither RANK and WORLD_SIZE nor"),
        ({"RANK": "1"}, "RANK without WORLD_SIZE"),
        ({"RANK": "8", "WORLD_SIZE": "8"}, "from 0 to 7"),
        ({"RANK": "x", "WORLD_SIZE": "8"}, "whole number"),
        ({"SLURM_NTASKS": "8"}, "SLURM_NTASKS without SLURM_PROCID"),
        ({"SLURM_ARRAY_TASK_ID": "3"}, "expected all of an array's"),
        (
            {
                "SLURM_ARRAY_TASK_ID": "3",
                "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_MAX": "7",
                "SLURM_ARRAY_TASK_COUNT": "3",
            },
            "expected .* as K/N|evenly spaced",
        ),
    ],
)
def test_an_environment_that_does_not_say_is_refused(variables: dict[str, str], text: str) -> None:
    if variables.get("SLURM_ARRAY_TASK_COUNT") == "3":
        variables = {**variables, "SLURM_ARRAY_TASK_MAX": "8"}
    with pytest.raises(ValueError, match=text):
        shard_of(variables)


def test_variables_of_a_batch_script_do_nothing_by_themselves(
    picture_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}.items():
        monkeypatch.setenv(name, value)
    assert launched() == (0, 1)
    alone = studio.generate(picture_model, tmp_path / "alone", num=8, **{**OPTIONS, "quiet": False})
    assert (alone.written, alone.missing) == (8, 0) and "pass --shard env" in capsys.readouterr().err
    part = studio.generate(picture_model, tmp_path / "part", num=8, shard="env", **OPTIONS)
    assert (part.written, part.elsewhere) == (4, 4)
    monkeypatch.setenv("RANK", "0")
    assert studio.generate(picture_model, tmp_path / "part", num=8, shard="env", **OPTIONS).elsewhere == 0
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert launched() == (0, 2)


def test_archives_hold_the_same_pictures(picture_model: Model, tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    studio.generate(picture_model, plain, num=1070, **OPTIONS)
    first = studio.generate(picture_model, packed, num=1030, format="tar", shard="1/2", **OPTIONS)
    assert 0 < first.written < 1030 and first.elsewhere == 1030 - first.written
    assert studio.generate(picture_model, packed, num=1030, **OPTIONS).written == first.elsewhere
    assert sorted(p.name for p in packed.iterdir()) == [
        "000.tar",
        "000.tar.sha256",
        "001.tar",
        "001.tar.sha256",
        "manifest.json",
    ]
    grown = studio.generate(picture_model, packed, num=1070, format="tar", **OPTIONS)
    assert 40 <= grown.written <= 40 + blocks.step_of(1070) and not (packed / blocks.FOLDER).exists()
    assert (
        subprocess.run(
            ["sha256sum", "-c", "000.tar.sha256", "001.tar.sha256"], cwd=packed, capture_output=True
        ).returncode
        == 0
    )
    with tarfile.open(packed / "001.tar") as archive:
        assert [m.name for m in archive.getmembers()] == [f"{i:06d}.png" for i in range(1000, 1070)]
        assert archive.extractfile("001007.png").read() == (plain / "001" / "001007.png").read_bytes()
    one, other = open_set(packed), open_set(plain)
    assert (
        one.hash == other.hash and one.classes == other.classes and np.array_equal(one.labels, other.labels)
    )  # type: ignore[arg-type]
    data = bytearray((packed / "001.tar").read_bytes())
    data[5000] ^= 1
    (packed / "001.tar").write_bytes(data)
    decoded = pytest.MonkeyPatch()
    decoded.setattr(Image, "open", lambda *a, **k: pytest.fail("a picture was opened"))
    assert studio.generate(picture_model, packed, num=1070, **OPTIONS).written == 70
    assert studio.generate(picture_model, packed, num=1070, **OPTIONS).written == 0
    decoded.undo()
    for folder, form in ((packed, "png"), (plain, "tar")):
        with pytest.raises(ValueError, match="leave --format out"):
            studio.generate(picture_model, folder, num=1070, format=form, **OPTIONS)
    assert studio.generate(picture_model, packed, num=3, format="png", overwrite=True, **OPTIONS).written == 3
    assert sorted(p.name for p in packed.iterdir()) == ["000", "manifest.json"]
    assert json.loads((packed / "manifest.json").read_text())["pinned"]["num"] == 3
