"""`studio library` and `studio jobs`: the index of a folder of outputs, asked and marked."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny import run_studio

from studio.jobs import Index, Item, Job
from studio.sampling.samples import save_png


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with an index of four items of two models."""
    index = Index(tmp_path / "outputs")
    index.add(Job("early", "sample", "dit", {}, 1e9, "done", done=2, total=2, folder="a", words="as asked"))
    index.add(Job("late", "sample", "dis", {}, 2e9, "running", total=9, folder="b"))
    index.keep(
        Item(f"{job}-{k}", job, f"{folder}/{k}.png", "image", model, label, k, made)
        for job, folder, model, label, made in (
            ("early", "a", "dit", "Bag", 1e9),
            ("late", "b", "dis", "Boot", 2e9),
        )
        for k in range(2)
    )
    for folder in ("a", "b"):
        (tmp_path / "outputs" / folder).mkdir()
        for k in range(2):
            picture = tmp_path / "outputs" / folder / f"{k}.png"
            save_png(picture, Image.new("L", (2, 2)), {"model": "dit", "seed": k})
    index.close()
    return tmp_path / "outputs"


def asked(out: Path, *arguments: str, command: str = "library") -> Any:
    done = run_studio(command, "--json", *arguments, cwd=out.parent)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ids(out: Path, *arguments: str) -> list[str]:
    return [i["id"] for i in asked(out, *arguments)["items"]]


def test_items_are_found_and_marked(out: Path) -> None:
    assert ids(out) == ["late-0", "late-1", "early-0", "early-1"]
    assert ids(out, "--model", "dit") == ids(out, "--class", "Bag") == ids(out, "--until", "2001-12-31")
    assert ids(out, "--seed", "1", "--since", "2030-01-01") == ["late-1"] and ids(out, "--limit", "1") == [
        "late-0"
    ]
    asked(out, "--star", "early-0", "--star", "late-0", "--note", "early-1", "for the paper")
    asked(out, "--unstar", "late-0", "--delete", "late-1")
    assert ids(out, "--starred") == ["early-0"] and ids(out, "--text", "PAPER") == ["early-1"]
    assert ids(out, "--bin") == ["late-1"] and len(ids(out)) == 3
    asked(out, "--restore", "late-1")
    assert ids(out, "--bin") == [] and len(ids(out)) == 4
    plain = run_studio("library", "--limit", "3", cwd=out.parent).stdout
    assert "early-0" in plain and "★" in plain and "3 of 4; --limit 4 shows all" in plain


def test_the_bin_is_told_before_it_is_emptied(out: Path) -> None:
    asked(out, "--delete", "early-0", "--delete", "late-0")
    told = run_studio("library", "--empty-bin", cwd=out.parent).stdout
    assert "1 item: 1 file" in told and "running jobs" in told and "--yes" in told
    assert (out / "a" / "0.png").is_file()
    done = asked(out, "--empty-bin", "--yes")
    assert done["removed"] and [Path(f).name for f in done["files"]] == ["0.png"] and done["bytes"] > 0
    assert not (out / "a" / "0.png").exists() and (out / "b" / "0.png").is_file()
    assert ids(out, "--bin") == ["late-0"]


def test_jobs_are_told(out: Path) -> None:
    found = asked(out, command="jobs")["jobs"]
    assert [(j["id"], j["state"], j["total"]) for j in found] == [
        ("late", "running", 9),
        ("early", "done", 2),
    ]
    assert [j["id"] for j in asked(out, "--state", "done", command="jobs")["jobs"]] == ["early"]
    line = run_studio("jobs", "--limit", "1", cwd=out.parent).stdout
    assert all(word in line for word in ("late", "sample", "running", "0/9", "dis", "2033-05-1"))


def test_a_folder_without_an_index_gets_one_only_by_adopt(tmp_path: Path) -> None:
    folder = tmp_path / "outputs"
    folder.mkdir()
    save_png(folder / "one.png", Image.new("L", (2, 2)), {"model": "dit", "seed": 5})
    for command in ("library", "jobs"):
        assert run_studio(command, cwd=tmp_path).returncode == 0
    assert not (folder / ".jobs").exists() and asked(folder)["count"] == 0
    assert asked(folder, "--adopt")["adopted"] == 1
    assert [i["seed"] for i in asked(folder)["items"]] == [5]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("library", "--out", "nowhere"), "which does not exist"),
        (("library", "--star", "nothing"), "got item 'nothing', expected the id of one"),
        (("library", "--star", "early-0", "--delete", "nothing"), "got item 'nothing'"),
        (("library", "--since", "soon"), "expected one such as 2026-11-30"),
        (("library", "--yes"), "without --empty-bin"),
        (("library", "--limit", "0"), "expected 1 or more"),
        (("jobs", "--state", "odd"), "expected one of waiting, running, done, stopped, failed"),
        (("jobs", "--out", "nowhere"), "which does not exist"),
    ],
)
def test_what_is_wrong_is_one_line_and_changes_nothing(
    out: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = run_studio(*arguments, cwd=out.parent)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1
    assert ids(out, "--starred") == [] and len(ids(out)) == 4 and not (out.parent / "nowhere").exists()
