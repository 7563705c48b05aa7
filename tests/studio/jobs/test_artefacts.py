"""What lies below a folder of outputs: found once, binned and brought back, and removed for good no further
than it was told."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio.jobs import Index, Item, Job, Wanted, adopt
from studio.jobs.artefacts import moment, path_of
from studio.jobs.emptying import Bin, empty, look
from studio.runtime.recipes import KEY
from studio.sampling.samples import png_bytes, save_png, sheet_recipe

DOT = Image.new("L", (4, 4), 90)


def recipe(seed: Any, **more: Any) -> dict[str, Any]:
    return {"model": "dit", "seed": seed, "label": 1, "class": "Bag", "num_steps": 4, **more}


def sampled(out: Path, name: str, seeds: range, **more: Any) -> Path:
    """A folder as `studio sample` leaves it."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        save_png(folder / f"seed-{seed:06d}.png", DOT, recipe(seed, **more))
    save_png(folder / "grid.png", DOT, sheet_recipe([recipe(s, **more) for s in seeds]))
    (folder / "recipe.json").write_text("[]")
    aged(folder)
    return folder


def drawn(out: Path, name: str, seeds: range, task: str = "points") -> Path:
    """The same of arrays that one drawing shows."""
    folder = out / name
    folder.mkdir()
    save_png(folder / "grid.png", DOT, sheet_recipe([recipe(s) for s in seeds]))
    np.savez(folder / "samples.npz", arr_0=np.zeros((len(seeds), 2)), task=np.array(task))
    (folder / "recipe.json").write_text("[]")
    (folder / "samples.csv").write_text("x,y")
    (folder / "mine.txt").write_text("notes")
    aged(folder)
    return folder


def aged(folder: Path) -> None:
    """As if it had been written some time ago: what is a second old is read again, to be sure."""
    then = time.time() - 60
    os.utime(folder, (then, then))


def files(out: Path) -> set[str]:
    return {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file() and ".jobs" not in p.parts}


def names(index: Index, **asked: Any) -> list[str]:
    return [i.file for i in index.items(Wanted(**asked))]


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here needs the disk to be waited for."""
    monkeypatch.setattr("studio.runtime.files.sync", lambda path: None)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def index(out: Path) -> Index:
    return Index(out)


def test_what_says_how_it_was_made_is_found_once(out: Path, index: Index) -> None:
    sampled(out, "a", range(3))
    sampled(out, "deep/er", range(5, 7), **{"class": None, "label": None})
    drawn(out, "points", range(10))
    sampled(out, ".hidden", range(1))
    (out / "a" / "cut.png").write_bytes(png_bytes(DOT, recipe(9))[:40])
    DOT.save(out / "a" / "stranger.png")
    (out / "loop").symlink_to(out / "a")
    (out / "a" / "link.png").symlink_to(out / "a" / "seed-000000.png")
    (out / "a" / "text.png").write_text("no picture")

    assert adopt(index, out).items == 6
    before = index.items()
    assert {(i.file, i.seed, i.label, i.task) for i in before} == {
        *((f"a/seed-{s:06d}.png", s, "Bag", "image") for s in range(3)),
        *((f"deep/er/seed-{s:06d}.png", s, "", "image") for s in (5, 6)),
        ("points/grid.png", None, "Bag", "points"),
    }
    found = index.jobs()
    assert sorted((j.kind, j.folder, j.total) for j in found) == [
        ("found", "a", 3),
        ("found", "deep/er", 2),
        ("found", "points", 1),
    ]
    rows = index._ask("select count(*) from items union all select count(*) from states")
    assert adopt(index, out).items == 0 and index.items() == before
    assert index._ask("select count(*) from items union all select count(*) from states") == rows


def test_a_folder_is_read_again_only_where_it_changed(out: Path, index: Index) -> None:
    a, _ = sampled(out, "a", range(2)), sampled(out, "b", range(2))
    aged(out)
    assert adopt(index, out).folders == 3 and adopt(index, out).folders == 0
    save_png(a / "seed-000007.png", DOT, recipe(7))
    first = adopt(index, out)
    assert (first.items, first.folders) == (1, 1)
    assert adopt(index, out).folders == 1  # it is so new that it may have changed within its time
    aged(a)
    assert adopt(index, out).folders == 1 and adopt(index, out).folders == 0
    assert next(j for j in index.jobs() if j.folder == "a").total == 3


def test_a_replaced_file_is_another_item_and_a_lost_one_comes_back_with_its_file(
    out: Path, index: Index
) -> None:
    folder = sampled(out, "a", range(2))
    adopt(index, out)
    index.mark([i.id for i in index.items()], star=True)
    save_png(folder / "seed-000000.png", DOT, recipe(0, num_steps=9))
    moved = out.parent / "elsewhere.png"
    shutil.move(folder / "seed-000001.png", moved)
    adopt(index, out)
    assert [(i.file, i.star) for i in index.items()] == [("a/seed-000000.png", False)]
    shutil.move(moved, folder / "seed-000001.png")
    adopt(index, out)
    assert [(i.seed, i.star) for i in index.items()] == [(0, False), (1, True)]


def test_folders_and_files_of_jobs_are_theirs(out: Path, index: Index) -> None:
    sampled(out, "job", range(2))
    sampled(out, "named", range(2))
    sampled(out, "mixed", range(2))
    index.add(Job("j", "sample", "dit", {}, 1.0, folder="job"))
    index.add(Job("k", "sample", "dit", {}, 1.0, folder=str(out.resolve() / "named")))
    index.add(Job("l", "sample", "dit", {}, 1.0))
    index.keep([Item("x", "l", "mixed/seed-000000.png", "image", "dit", "Bag", 0, 1.0)])
    adopt(index, out)
    assert names(index) == ["mixed/seed-000001.png", "mixed/seed-000000.png"]


def test_what_is_emptied_is_gone_and_only_that(out: Path, index: Index) -> None:
    sampled(out, "a", range(4))
    adopt(index, out)
    first, second, *_ = sorted(index.items(), key=lambda i: i.file)
    index.mark([first.id, second.id], binned=True)
    index.mark([second.id], binned=False)
    before, told = files(out), look(index, out)
    size = (out / first.file).stat().st_size
    assert (told.items[0].id, told.bytes, len(told.files)) == (first.id, size, 1)
    assert files(out) == before  # looking removes nothing
    assert empty(index, out) == told and files(out) == before - {first.file}
    assert names(index, binned=True) == [] and len(index.items()) == 3
    assert first.file in names(index, binned=None, gone=True)
    aged(out / "a")
    for read in (index, Index(out)):
        assert adopt(read, out).items == 0 and first.file not in names(read)
        assert empty(read, out) == Bin()


def test_a_sheet_of_files_that_were_emptied_is_no_item(out: Path, index: Index) -> None:
    sampled(out, "a", range(2))
    adopt(index, out)
    index.mark([i.id for i in index.items()], binned=True)
    empty(index, out)
    assert adopt(index, out).items == 0 and index.count() == 0
    assert files(out) == {"a/grid.png", "a/recipe.json"}


def test_a_drawing_takes_what_it_was_made_of_only_where_it_was_alone(out: Path, index: Index) -> None:
    drawn(out, "alone", range(3), task="tokens")
    drawn(out, "shared", range(3))
    adopt(index, out)
    index.keep([Item("x", "j", "shared/other.csv", "points", "dit", "", None, 1.0)])
    both = [i for i in index.items() if i.file.endswith("grid.png")]
    index.mark([i.id for i in both], binned=True)
    told = look(index, out)
    assert {p.name for p in told.beside} == {
        "samples.npz",
        "samples.csv",
        "recipe.json",
    } and "samples.npz" in str(told)
    empty(index, out)
    kept = ("mine.txt", "samples.npz", "samples.csv", "recipe.json")
    assert files(out) == {"alone/mine.txt", *(f"shared/{name}" for name in kept)}


def test_a_file_that_another_item_shows_stays(out: Path, index: Index) -> None:
    sampled(out, "a", range(1))
    adopt(index, out)
    index.keep([Item("x", "j", "a/seed-000000.png", "image", "dit", "", 0, 1.0)])
    index.mark(["x"], binned=True)
    empty(index, out)
    assert "a/seed-000000.png" in files(out) and names(index) == ["a/seed-000000.png"]


def test_of_a_running_job_nothing_is_removed(out: Path, index: Index) -> None:
    sampled(out, "a", range(1))
    index.add(Job("j", "sample", "dit", {}, 1.0, state="running", folder="a"))
    index.keep([Item("x", "j", "a/seed-000000.png", "image", "dit", "", 0, 1.0)])
    index.mark(["x"], binned=True)
    told = empty(index, out)
    assert told.items == () and "running jobs" in str(told) and "a/seed-000000.png" in files(out)
    index.say(Job("j", "sample", "dit", {}, 1.0, state="done", folder="a"))
    assert len(empty(index, out).items) == 1


@pytest.mark.parametrize(
    "file",
    ["../secret.png", "/etc/passwd", "a/../../secret.png", "link/secret.png", "l.png", ".jobs/index.db", ""],
)
def test_no_file_elsewhere_is_touched(out: Path, index: Index, file: str) -> None:
    secret = out.parent / "secret.png"
    secret.write_text("mine")
    (out / "a").mkdir()
    (out / "link").symlink_to(out.parent)
    (out / "l.png").symlink_to(secret)
    with pytest.raises(ValueError, match="expected one below"):
        path_of(out, file)
    index.keep([Item("x", "j", file, "image", "dit", "", None, 1.0)])
    index.mark(["x"], binned=True)
    told = empty(index, out)
    assert told.items == () and told.files == () and "not below" in str(told)
    assert (
        secret.read_text() == "mine"
        and (out / "l.png").is_symlink()
        and index.count(Wanted(binned=True)) == 1
    )


def test_missing_files_are_no_error_and_one_that_stays_keeps_its_item(
    out: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled(out, "a", range(3))
    adopt(index, out)
    index.mark([i.id for i in index.items()], binned=True)
    (out / "a" / "seed-000000.png").unlink()
    unlink = Path.unlink

    def refuses(path: Path, missing_ok: bool = False) -> None:
        if path.name == "seed-000001.png":
            raise PermissionError(1, "Operation not permitted")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuses)
    told = empty(index, out)
    assert len(told.items) == 2 and "could not be removed" in str(told)
    assert names(index, binned=True) == ["a/seed-000001.png"]


def test_odd_recipes_and_names_are_left_out_in_peace(out: Path, index: Index) -> None:
    from PIL.PngImagePlugin import PngInfo

    folder = sampled(out, "a", range(1))
    for k, text in enumerate(
        ('{"seed": 1}', '{"seed": -1, "model": "x"}', "[]", "{", '{"model": "\\ud800", "seed": 1}')
    ):
        info = PngInfo()
        info.add_text(KEY, text)
        DOT.save(folder / f"odd-{k}.png", pnginfo=info)
    shutil.copy(folder / "seed-000000.png", os.fsencode(folder) + b"/\xff.png")
    shutil.copy(folder / "seed-000000.png", folder / "'); drop table items; --%_<b>.png")
    adopt(index, out)
    assert sorted(names(index)) == ["a/'); drop table items; --%_<b>.png", "a/seed-000000.png"]


def test_a_day_ends_when_it_is_over() -> None:
    start, end = moment("2026-11-30"), moment("2026-11-30", end=True)
    assert start is not None and end is not None and end - start == 86400 and moment("  ") is None
    assert moment("2026-11-30 18:00", end=True) == start + 18 * 3600
    for text in ("30.11.2026", "2026-13-01", "soon"):
        with pytest.raises(ValueError, match="expected one such as"):
            moment(text)
