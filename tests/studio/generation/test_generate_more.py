"""Sets that grow, and sets of samples that lie together: shared out, stopped and gone on with in pieces."""

import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import files_below, run_studio, start_studio

import studio
from studio.generation import blocks, store
from studio.generation.plan import make_plan
from studio.model.model import Model
from studio.training.run import Run

OPTIONS: dict[str, Any] = {"num_steps": 1, "guidance": None, "quiet": True, "batch": 200}


def generate(model: Model, out: Path, num: int, **options: Any) -> studio.generation.Generated:
    return studio.generate(model, out, num=num, **{**OPTIONS, **options})


def rows(folder: Path) -> np.ndarray:
    with np.load(folder / "samples.npz") as file:
        return file["arr_0"]


def test_a_set_of_pictures_grows(picture_model: Model, tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    for labels in ("balanced", "random", "ring,dot"):
        for folder in (small, large):
            shutil.rmtree(folder, ignore_errors=True)
        options: dict[str, Any] = {"labels": labels, "deterministic": True, "format": "both"}
        assert generate(picture_model, small, 6, **options).written == 6
        times = {p.name: p.stat().st_mtime_ns for p in (small / "000").iterdir()}
        assert generate(picture_model, small, 11, **options).written == 5
        assert generate(picture_model, large, 11, **options).written == 11
        assert all((small / "000" / name).stat().st_mtime_ns == t for name, t in times.items())
        here, there = files_below(small), files_below(large)
        assert {k: v for k, v in here.items() if k.endswith(".png")} == {
            k: v for k, v in there.items() if k.endswith(".png")
        }
        assert (
            np.array_equal(rows(small), rows(large))
            and json.loads(here["manifest.json"])["pinned"] == json.loads(there["manifest.json"])["pinned"]
        )
        assert generate(picture_model, small, 11, **options).written == 0
    before = files_below(small)
    for change, text in (
        ({"num": 7}, "num: it has 11, this call 7"),
        ({"num": 12, "seeds": "1-12"}, "seeds"),
        ({"num": 12, "labels": "random"}, "labels"),
    ):
        with pytest.raises(ValueError, match=text):
            studio.generate(picture_model, small, **{**OPTIONS, **options, **change})
    with pytest.raises(ValueError, match="guidance: it has"):
        generate(picture_model, small, 12, **{**options, "guidance": "cfg=2"})
    assert files_below(small) == before


def test_files_of_labels_and_seeds_grow_too(picture_model: Model, tmp_path: Path) -> None:
    few, more, other = (tmp_path / f"{n}.txt" for n in ("few", "more", "other"))
    few.write_text("ring\ndot\n" * 2)
    more.write_text("ring\ndot\n" * 3)
    other.write_text("dot\nring\n" * 3)
    out = tmp_path / "out"
    generate(picture_model, out, 4, labels=str(few), seeds="3-5,9")
    with pytest.raises(ValueError, match="labels"):
        generate(picture_model, out, 6, labels=str(other), seeds="3-5,9-11")
    with pytest.raises(ValueError, match="seeds"):
        generate(picture_model, out, 6, labels=str(more), seeds="3-8")
    assert generate(picture_model, out, 6, labels=str(more), seeds="3-5,9-11").written == 2
    assert generate(picture_model, out, 6, labels=str(more), seeds="3-5,9-11").written == 0


def test_a_set_in_one_npz_grows_without_making_a_sample_again(
    picture_model: Model, points_model: Model, tmp_path: Path
) -> None:
    for model, few, many in ((picture_model, 5, 9), (points_model, 1300, 2100)):
        out = tmp_path / model.task.name
        generate(model, out, few, format="npz")
        before = rows(out)
        assert generate(model, out, many, format="npz").written == many - few
        after = rows(out)
        assert len(after) == many and np.array_equal(after[:few], before)
        assert generate(model, out, many, format="npz").written == 0


def test_points_grow_within_a_file(points_model: Model, tmp_path: Path) -> None:
    grown, direct = tmp_path / "grown", tmp_path / "direct"
    assert [generate(points_model, grown, n).written for n in (300, 1500, 2500)] == [300, 1200, 1000]
    assert [p.name for p in sorted(grown.glob("*.npy"))] == ["000.npy", "001.npy", "002.npy"] and not (
        grown / blocks.FOLDER
    ).exists()
    generate(points_model, direct, 2500, batch=256)
    assert np.abs(rows(grown) - rows(direct)).max() < 1e-4
    assert generate(points_model, grown, 2500).written == 0
    (grown / "000.npy").unlink()
    assert generate(points_model, grown, 2500).written == 1000


def test_a_set_of_an_older_version_grows(points_model: Model, tmp_path: Path) -> None:
    """It says nothing in its files, nor of its path."""
    out = tmp_path / "out"
    generate(points_model, out, 1200)
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["pinned"]["path"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    for path in out.glob("*.npy"):
        np.save(path, np.load(path))
    first = (out / "000.npy").read_bytes()
    assert generate(points_model, out, 2000).written == 800
    assert (out / "000.npy").read_bytes() == first and generate(points_model, out, 2000).written == 0


@pytest.mark.parametrize(
    "num, machines", [(10_000, 4), (300, 4), (40, 4), (7, 3), (2300, 8), (100_000, 4), (1000, 16)]
)
def test_every_machine_and_every_process_has_work(
    num: int, machines: int, points_model: Model, picture_model: Model, tmp_path: Path
) -> None:
    for model in (points_model, picture_model):
        plan = make_plan(model, num=num, num_steps=1, guidance=None)
        place = store.store_of(tmp_path, plan)
        shares = [list(store.units(plan, place, (k, machines))) for k in range(1, machines + 1)]
        counts = [sum(store.size_of(u, place, plan) for u in share) for share in shares]
        assert (
            sorted(u for share in shares for u in share) == list(range(0, num, place.step))
            and sum(counts) == num
        )
        assert min(counts) > 0
        if model is points_model:
            assert max(counts) <= 2 * num / machines + place.step
        every = range(0, num, place.step)
        dealt = store.deal(every, 16, place.run(len(every), 16))
        assert (
            sorted(u for part in dealt for u in part) == list(every)
            and sum(map(bool, dealt)) >= min(16, len(every)) * 0.6
        )


def test_shards_of_points_make_one_whole(points_model: Model, tmp_path: Path) -> None:
    counts = [generate(points_model, tmp_path / "out", 2300, shard=f"{k}/4") for k in (4, 2, 1, 3)]
    assert all(c.written > 300 and c.missing == 0 for c in counts) and sum(c.written for c in counts) == 2300
    assert [c.elsewhere > 0 for c in counts] == [True, True, True, False] and counts[-1].npz is not None
    assert [np.load(p).shape for p in sorted((tmp_path / "out").glob("*.npy"))] == [
        (1000, 2),
        (1000, 2),
        (300, 2),
    ]
    assert not (tmp_path / "out" / blocks.FOLDER).exists()
    generate(points_model, tmp_path / "whole", 2300)
    assert np.abs(rows(tmp_path / "out") - rows(tmp_path / "whole")).max() < 1e-4


def test_what_is_finished_of_a_file_is_kept(
    points_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after 224 of 300: the 224 are there, also those that fill no piece."""
    from studio.generation import engine

    out, compute = tmp_path / "out", engine.compute

    def nine(plan: Any, index: Any, **options: Any) -> Any:
        for n, made in enumerate(compute(plan, index, **options)):
            if n == 9:
                raise engine.Stopped
            yield made

    monkeypatch.setattr(engine, "compute", nine)
    first = generate(points_model, out, 300, batch=25)
    assert first.interrupted and first.written == 225 and first.missing == 75 and first.npz is None
    monkeypatch.setattr(engine, "compute", compute)
    again = generate(points_model, out, 300)
    assert blocks.step_of(300) == 4  # of the 57th piece one sample was there
    assert (
        again.written == 76
        and again.npz is not None
        and sorted(p.name for p in out.iterdir()) == ["000.npy", "manifest.json", "samples.npz"]
    )
    generate(points_model, tmp_path / "whole", 300)
    assert np.abs(rows(out) - rows(tmp_path / "whole")).max() < 1e-4


def test_pieces_that_are_damaged_or_another_set_s_are_made_again(points_model: Model, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    assert generate(points_model, out, 400, shard="1/2").missing == 0
    generate(points_model, other, 400, shard="1/2", num_steps=2)
    pieces = sorted((out / blocks.FOLDER).iterdir())
    pieces[0].write_bytes(pieces[0].read_bytes()[:60])
    shutil.copy(other / blocks.FOLDER / pieces[1].name, pieces[1])
    shutil.copy(pieces[2], pieces[3])
    step = blocks.step_of(400)
    assert generate(points_model, out, 400, shard="1/2").written == 3 * step
    assert generate(points_model, out, 400).written == 200 and not (out / blocks.FOLDER).exists()


@pytest.mark.slow
def test_a_polite_stop_and_workers(points_run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = (
        "generate",
        points_run.folder,
        "--out",
        out,
        "--num",
        300,
        "--num-steps",
        50,
        "--device",
        "cpu",
        "--batch",
        8,
        "--workers",
        2,
        "--threads",
        1,
    )
    process = start_studio(*words)
    while not (out / blocks.FOLDER).is_dir() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    text, error = process.communicate(timeout=60)
    assert process.returncode == 130 and "run the same command again" in text, error
    done = run_studio(*words, "--workers", 1, "--json", cwd=tmp_path)  # as good as two
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert 0 < found["written"] < 300 and found["missing"] == 0
