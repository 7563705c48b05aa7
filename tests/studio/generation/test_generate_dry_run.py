"""``studio generate --dry-run`` tells time, size and what a thousand cost, from samples of its own, and
refuses what generation would; nothing is written."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import files_below, run_studio

import studio
from studio.generation.dry_run import lines, of_generation
from studio.model.model import Model
from studio.training.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS: dict[str, Any] = {"num_steps": 2, "guidance": None, "batch": 200}


@pytest.mark.parametrize("form", ["png", "tar", "npz", "both"])
def test_pictures_take_what_they_were_said_to(picture_model: Model, tmp_path: Path, form: str) -> None:
    told = of_generation(picture_model, tmp_path / "set", num=60, format=form, **OPTIONS)
    assert list(tmp_path.iterdir()) == []
    assert told["missing"] == told["num"] == 60 and told["seconds"] >= 0 < told["seconds_a_thousand"]
    assert told["mb_a_thousand"] / 1000 * 60 == pytest.approx(told["mb"], abs=0.06)
    studio.generate(picture_model, tmp_path / "set", num=60, format=form, quiet=True, **OPTIONS)
    spent = sum(
        p.stat().st_size for p in (tmp_path / "set").rglob("*") if p.suffix in (".png", ".npz", ".tar")
    )
    # a record of an archive
    assert spent == pytest.approx(told["mb_a_thousand"] * 60_000, rel=0.25, abs=10_240)


@pytest.mark.parametrize("form", ["npz", "both"])
def test_arrays_take_what_they_were_said_to(points_model: Model, tmp_path: Path, form: str) -> None:
    """With ``both`` the files of a thousand stay beside the one of all."""
    told = of_generation(points_model, tmp_path / "set", num=3000, format=form, **OPTIONS)
    studio.generate(points_model, tmp_path / "set", num=3000, format=form, quiet=True, **OPTIONS)
    spent = sum(p.stat().st_size for p in (tmp_path / "set").rglob("*") if p.suffix in (".npy", ".npz"))
    assert spent == pytest.approx(told["mb_a_thousand"] * 3_000_000, rel=0.1)


@pytest.mark.parametrize(
    ("sampler", "evaluations"), [("ab2", 4), ("heun", 8), ("euler", 4), ("torchdiffeq(method=midpoint)", 8)]
)
def test_evaluations_are_those_of_the_sampler(
    picture_model: Model, tmp_path: Path, sampler: str, evaluations: int
) -> None:
    told = of_generation(picture_model, tmp_path / "set", num=20, sampler=sampler, num_steps=4, guidance=None)
    assert told["evaluations"] == evaluations
    assert f"{1000 * evaluations:,} evaluations" in "\n".join(lines(told))


def test_what_is_there_counts(picture_model: Model, points_model: Model, tmp_path: Path) -> None:
    for model, folder in ((picture_model, tmp_path / "pictures"), (points_model, tmp_path / "points")):
        studio.generate(model, folder, num=40, quiet=True, **OPTIONS)
        before = files_below(tmp_path)
        assert of_generation(model, folder, num=40, **OPTIONS)["missing"] == 0
        assert of_generation(model, folder, num=100, **OPTIONS)["missing"] in range(60, 101)
        assert of_generation(model, folder, num=100, overwrite=True, **OPTIONS)["missing"] == 100
        for change, text in (
            ({"num": 30}, "num: it has 40, this call 30"),
            ({"num": 40, "num_steps": 3}, "num_steps: it has 2, this call 3"),
        ):
            with pytest.raises(ValueError, match=text):
                of_generation(model, folder, **{**OPTIONS, **change})
        assert files_below(tmp_path) == before
    assert of_generation(picture_model, tmp_path / "new", num=100, shard="2/4", **OPTIONS)[
        "missing"
    ] in range(20, 31)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    for overwrite in (False, True):  # which makes room for a set where there was one, and for nothing else
        for ask in (of_generation, studio.generate):
            with pytest.raises(FileExistsError, match="holds something else"):
                ask(picture_model, tmp_path / "mine", num=5, overwrite=overwrite, **OPTIONS)
    (tmp_path / "points" / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="not readable"):
        of_generation(points_model, tmp_path / "points", num=5, overwrite=True, **OPTIONS)


def test_on_the_command_line(picture_run: Run, tmp_path: Path) -> None:
    words = (
        "generate",
        picture_run.folder,
        "--out",
        "set",
        "--num",
        5000,
        "--num-steps",
        2,
        "--dry-run",
        "--threads",
        1,
    )
    made = run_studio(*words, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    for told in (
        "5,000, of which 5,000 are missing",
        "time: ",
        "disk: ",
        "a thousand: ",
        "MB are free",
        "2 steps of ab2",
    ):
        assert told in made.stdout, told
    assert json.loads(run_studio(*words, "--json", cwd=tmp_path).stdout)["num"] == 5000
    wrong = run_studio(*words, "--labels", "nobody", cwd=tmp_path)
    assert wrong.returncode == 2 and "nobody" in wrong.stderr and wrong.stdout == ""
    assert list(tmp_path.iterdir()) == []
