"""Jobs over a real model: taken up by the next process to the same bytes; a disk that is full; recipes of
strangers."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from studio.jobs.pace import Laid, Ran, started
from studio.jobs.parts import Parts
from studio.jobs.recipe import Recipe
from studio.jobs.result import Result
from ui.engine import Engine
from ui.jobs import Jobs

PATIENCE = 60


def jobs_in(shelf: Any, out: Path) -> Jobs:
    return Jobs(Engine(shelf.roots, out, device="cpu", dtype="fp32"))


def until(done: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end
        time.sleep(0.002)


def bytes_of(result: Result) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (*result.pictures, result.folder / "recipe.json")}


def test_a_run_that_was_cut_off_is_taken_up_to_the_same_bytes(shelf: Any, tmp_path: Path) -> None:
    """In the third of four micro-batches; what was finished is not computed again."""
    asked = Recipe(shelf.pictures, seeds="0-199", num_steps=60, sampler="euler", guidance="cfg=2")
    whole = jobs_in(shelf, tmp_path / "whole")
    *_, expected = whole.queue.watch(whole.sample(asked, "me"))
    first = jobs_in(shelf, tmp_path / "out")
    job = first.sample(asked, "me")
    until(lambda: (found := first.engine.index.job(job)) and found.done >= 128)
    first.queue.close(PATIENCE)
    left = first.engine.index.job(job)
    assert left is not None and left.state == "running" and left.done in (128, 192)
    assert not list(first.engine.out.glob("*/*.png"))
    second = jobs_in(shelf, tmp_path / "out")
    assert second.queue.take_up() == [job]
    *_, made = second.queue.watch(job)
    assert isinstance(made, Result) and isinstance(expected, Result)
    assert bytes_of(made) == bytes_of(expected) and made.folder.name == left.folder
    assert 0 < made.evaluations < expected.evaluations and not (made.folder / "parts").exists()
    assert second.result(job) == made  # as the index remembers it
    items = second.engine.index.items()
    assert [(i.seed, i.label) for i in items[:3]] == [(0, "0"), (1, "1"), (2, "2")] and len(items) == 200
    assert all((second.engine.out / i.file).is_file() for i in items)
    for queue in (whole.queue, second.queue):
        queue.close()


def test_a_model_that_was_trained_on_since_is_not_mixed_in(shelf: Any, tmp_path: Path) -> None:
    engine = Engine(shelf.roots, tmp_path / "out", device="cpu", dtype="fp32")
    asked = Recipe(shelf.pictures, seeds="0-99", num_steps=2, sampler="euler")
    run = engine.begin(asked)
    updates = run.updates(threading.Event(), every=0.0)
    for _ in range(3):
        next(updates)
    assert len(run.parts.read()) == 64
    assert engine.begin(asked, run.folder).finished == 64
    other = Recipe(**{**vars(asked), "weights": "raw"})
    with pytest.raises(ValueError, match="made by another state of the model"):
        engine.begin(other, run.folder)
    (run.parts.folder / "000064.safetensors").write_bytes(b"cut off")
    assert engine.begin(asked, run.folder).finished == 64


def test_a_full_disk_stops_the_job_in_words_and_what_is_kept_stays(
    shelf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_in(shelf, tmp_path / "out")
    plain = Parts.write

    def full(self: Parts, rows: Any, values: Any) -> None:
        if min(rows) >= 64:
            raise OSError(28, "No space left on device")
        plain(self, rows, values)

    monkeypatch.setattr(Parts, "write", full)
    job = jobs.sample(Recipe(shelf.pictures, seeds="0-149", num_steps=2, sampler="euler"), "me")
    with pytest.raises(OSError, match="No space left on device; 64 of 150 samples are kept in .*parts"):
        list(jobs.queue.watch(job))
    failed = jobs.engine.index.job(job)
    assert failed is not None and failed.state == "failed" and "make room" in failed.words
    monkeypatch.undo()
    again = jobs.engine.begin(Recipe.parse(failed.spec), jobs.engine.out / failed.folder)
    assert again.finished == 64
    jobs.queue.close()


def test_what_is_no_recipe_is_refused_by_name() -> None:
    good = {"model": "m", "seeds": "0-3", "num_steps": 20.0, "label": None, "deterministic": True}
    assert Recipe.parse(good) == Recipe("m", seeds="0-3", num_steps=20, deterministic=True)
    assert Recipe.parse('{"model": "m", "seeds": 7}').seeds == "7"
    wrong: list[tuple[Any, str]] = [
        ([], "expected settings by name"),
        ("{", "not JSON"),
        ({}, "lack model"),
        ({"model": ""}, "pick a model"),
        ({"model": "m", "seed_s": "0"}, "did you mean 'seeds'"),
        ({"model": 3}, "got model 3, expected a text"),
        ({"model": "m\0"}, "without control characters"),
        ({"model": "m", "num_steps": "many"}, "expected a whole number"),
        ({"model": "m", "num_steps": 1e300}, "expected a whole number"),
        ({"model": "m", "deterministic": 1}, "expected true or false"),
        ({"model": "m", "num_steps": 10**7}, "expected a whole number from 1"),
        ({"model": "m", "plan": "/etc/x.json"}, "opens no files"),
        ({"seed": 3, "model": "m"}, "it lacks"),
    ]
    for said, words in wrong:
        with pytest.raises(ValueError, match=words):
            Recipe.parse(said)


def test_the_recipe_of_a_picture_is_one(shelf: Any, tmp_path: Path) -> None:
    engine = Engine(shelf.roots, tmp_path / "out", device="cpu", dtype="fp32")
    asked = Recipe(shelf.pictures, "raw", "2", "4,9", 3, "ddim(eta=0.5)", "cfg=3", dtype="fp32")
    *_, made = engine.run(asked)
    assert isinstance(made, Result)
    said = Recipe.parse(made.recipes[1])
    assert (said.label, said.seeds, said.weights, said.num_steps) == ("2", "9", "raw", 3)
    *_, again = engine.run(said)
    assert isinstance(again, Result) and again.recipes[0] == made.recipes[1]


def test_what_is_saved_is_never_written_over(shelf: Any, tmp_path: Path) -> None:
    engine = Engine(shelf.roots, tmp_path / "out", device="cpu", dtype="fp32")
    asked = Recipe(shelf.pictures, seeds="1", num_steps=1, sampler="euler")
    *_, made = engine.run(asked)
    assert isinstance(made, Result)
    assert engine.begin(asked, made.folder).folder != made.folder


def test_what_runs_took_is_told_of_the_next(shelf: Any, tmp_path: Path) -> None:
    """Of one sample and of eight; the run for which the model was loaded is told apart, and counts where it
    is yet to be loaded."""
    jobs = jobs_in(shelf, tmp_path / "out")
    asked = [Recipe(shelf.pictures, "auto", None, s, 3, "euler", "") for s in ("0-7", "0-7", "5")]
    for recipe in asked:
        list(jobs.queue.watch(jobs.sample(recipe, "me")))
    newest = jobs.engine.index.jobs()
    assert [(j.done, j.told["first"]) for j in newest] == [(1, False), (8, False), (8, True)]
    ran = [Ran(j.done * j.told["each"], 3, 3 * j.done, 1.0, j.told["first"]) for j in newest]
    pace, start = started(ran)
    held, fresh = (
        e.estimate(asked[2]).seconds for e in (jobs.engine, jobs_in(shelf, tmp_path / "out").engine)
    )
    assert held == pytest.approx(pace.seconds(Laid(1, 1), 3)) and fresh == pytest.approx((held or 0) + start)
    jobs.queue.close()
