"""A run folder has one process at a time, and default names of runs are of what they learn from."""

import json
import os
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest
from test_kills import start, steps_logged, wait_until
from tiny import dit_config, files_below, metrics, points_config, write_pictures

import studio
from studio.config import from_tree, load_config
from studio.runtime import lock

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_second_process_is_refused_and_a_killed_ones_lock_is_told_and_taken_over(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = tmp_path / "tiny.yaml", tmp_path / "run"
    config.write_text(
        from_tree(
            dit_config(
                pictures, steps=100000, log_every=1, save_every=2, schedule="constant", weak_snapshot=False
            )
        ).yaml()
    )
    first = start(config, out)
    wait_until(lambda: steps_logged(out) >= 3, first)
    held = json.loads((out / ".lock").read_text())
    assert (held["host"], held["pid"]) == (socket.gethostname(), first.pid)
    message = f"process {first.pid} on {held['host']} since .* choose another --out"
    for way in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(lock.Taken, match=message):
            studio.train(config, out=out, quiet=True, **way)
    first.kill()  # and not waited for: a zombie is no holder
    end = time.monotonic() + 60
    while lock.holder(out) is not None:
        assert time.monotonic() < end
    again = studio.train(config, ["train.steps=8"], out=out, overwrite=True)
    first.communicate()
    told = capsys.readouterr().err
    assert f"{out} was locked by process {first.pid} on {held['host']}" in told and "taken over" in told
    assert (
        again.step == 8
        and [m["step"] for m in metrics(out)] == list(range(1, 9))
        and not (out / ".lock").exists()
    )


def test_of_two_that_start_together_one_trains(tmp_path: Path) -> None:
    """Both see an empty place; the config, the weights and the metrics there are one run's."""
    ends: dict[int, BaseException | int] = {}

    def trains(seed: int) -> None:
        try:
            tree = points_config(steps=20, log_every=1)
            ends[seed] = studio.train(
                {**tree, "seed": seed}, out=tmp_path / "run", quiet=True, device="cpu"
            ).step
        except BaseException as error:
            ends[seed] = error

    racing = [threading.Thread(target=trains, args=(seed,)) for seed in (1, 2)]
    for t in racing:
        t.start()
    for t in racing:
        t.join()
    winner = next(seed for seed, end in ends.items() if end == 20)
    assert isinstance(ends[3 - winner], lock.Taken | FileExistsError), ends
    assert load_config(tmp_path / "run" / "config.yaml").seed == winner
    assert [m["step"] for m in metrics(tmp_path / "run")] == list(range(1, 21))


def entry(**changes: object) -> str:
    return json.dumps(lock._entry() | {"token": "another"} | changes)


@pytest.mark.parametrize(
    ("changes", "age", "free"),
    [
        ({}, 0, False),  # this process, in another thread
        ({"began": 1.0}, 0, True),  # its pid, used again
        ({"pid": 2**22 + 1}, 0, True),  # no process
        ({"host": "elsewhere"}, 0, False),
        ({"host": "elsewhere"}, 45, False),
        ({"host": "elsewhere"}, 90, True),
        ({"space": "another container", "pid": 2**22 + 1}, 0, False),
        ({"space": "another container"}, 90, True),
    ],
)
def test_who_counts_as_alive(changes: dict[str, object], age: float, free: bool, tmp_path: Path) -> None:
    held = tmp_path / ".lock"
    held.write_text(entry(**changes))
    os.utime(held, (time.time() - age,) * 2)
    if free:
        with lock.RunLock(tmp_path) as mine:
            assert (
                f"process {changes.get('pid', os.getpid())} on {changes.get('host', socket.gethostname())}"
                in mine.told
            )
            assert lock.holder(tmp_path) is not None
        assert not list(tmp_path.iterdir())
    else:
        before = files_below(tmp_path)
        with pytest.raises(lock.Taken, match="is being trained by process .* choose another --out"):
            lock.RunLock(tmp_path).__enter__()
        assert files_below(tmp_path) == before


@pytest.mark.parametrize("text", ["", '{"host": "a', "\0\0\0\0", "[]", '{"host": 3, "pid": -1}'])
def test_a_lock_that_was_cut_is_no_obstacle(text: str, tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(text)
    with lock.RunLock(tmp_path) as mine:
        assert bool(mine.told) == bool(text.strip("\0"))
    assert not (tmp_path / ".lock").exists()


def test_of_many_threads_one_holds_the_lock_at_a_time(tmp_path: Path) -> None:
    inside, most, served = [0], [0], [0]

    def visit() -> None:
        for _ in range(60):
            try:
                with lock.RunLock(tmp_path / "run"):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    served[0] += 1
                    time.sleep(0.001)
                    inside[0] -= 1
            except lock.Taken:
                time.sleep(0.0005)

    threads = [threading.Thread(target=visit) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert most[0] == 1 and served[0] > 10 and not list((tmp_path / "run").glob("*"))


def test_a_holder_that_was_taken_over_writes_nothing_more(tmp_path: Path) -> None:
    def sleeps(line: dict[str, object]) -> None:
        if line["step"] == 4:  # while it slept, another host took the folder
            (tmp_path / "run" / ".lock").write_text(entry(host="elsewhere"))

    with pytest.raises(lock.Taken, match="taken over by process .* on elsewhere"):
        studio.train(
            points_config(steps=8, save_every=2, log_every=2),
            out=tmp_path / "run",
            quiet=True,
            on_log=sleeps,
        )
    assert json.loads((tmp_path / "run" / ".lock").read_text())["host"] == "elsewhere", (
        "and leaves the other's lock"
    )
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["000000002"]


def test_what_is_refused_leaves_neither_lock_nor_folder(tmp_path: Path) -> None:
    for wrong in ("data.kind=squares", "train.batch_size=33", "sample.sampler=ddim(eta=7)"):
        changes = [wrong, *(["train.accumulate=2"] if "batch" in wrong else [])]
        with pytest.raises(ValueError):
            studio.train(points_config(), changes, out=tmp_path / "new" / "run", quiet=True)
    assert not (tmp_path / "new").exists()


# ---- default names -------------------------------------------------------------------------------


def test_default_names_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photos.v1", "photos.v2", "v1.2.3", "photos"):
        (tmp_path / name).mkdir()
    write_pictures(tmp_path / "set.2024.npz")
    tree = {k: v for k, v in points_config().items() if k != "name"}
    (tmp_path / "moons.v1.yaml").write_text(json.dumps(tree))
    (tmp_path / "photos" / "config.yaml").write_text(json.dumps(tree))
    sources = {
        "images:photos.v1": "photos.v1",
        "images:photos.v2/": "photos.v2",
        "images:v1.2.3": "v1.2.3",
        "images:photos": "photos",
        "npz:set.2024.npz": "set.2024",
        "moons.v1.yaml": "moons.v1",
        "photos/config.yaml": "photos",
    }
    assert {s: load_config(s).name for s in sources} == sources
    assert load_config("moons.v1.yaml", ["name=mine"]).name == "mine"


def test_a_default_name_that_other_data_has_is_refused_with_a_free_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        tree = dit_config(write_pictures(tmp_path / place / "train.npz", seed=ord(place)), steps=2)
        (tmp_path / place / "cats.yaml").write_text(
            json.dumps({k: v for k, v in tree.items() if k != "name"})
        )
    studio.train("a/cats.yaml", quiet=True)
    before = files_below(tmp_path / "runs")
    with pytest.raises(
        FileExistsError,
        match=r"runs/cats, .* other data \(.*a/train.npz, step 2\); pass --out runs/cats-2, or name=",
    ) as error:
        studio.train("b/cats.yaml", quiet=True)
    assert "--overwrite" not in str(error.value) and files_below(tmp_path / "runs") == before
    with pytest.raises(FileExistsError, match="pass --resume to go on"):
        studio.train("a/cats.yaml", quiet=True)
    assert studio.train("a/cats.yaml", ["train.steps=3"], resume=True, quiet=True).step == 3


def test_runs_that_earlier_versions_named_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as runs/photos of images:photos.v1, and runs/run of a file without a name."""
    monkeypatch.chdir(tmp_path)
    tree = {k: v for k, v in points_config(steps=4).items() if k != "name"}
    (tmp_path / "moons.yaml").write_text(json.dumps(tree))
    studio.train("moons.yaml", ["name=run"], quiet=True)
    meta = json.loads((tmp_path / "runs" / "run" / "meta.json").read_text())
    assert meta["source"].get("name") is None
    rest = studio.train("moons.yaml", ["train.steps=6"], resume=True, quiet=True)
    assert (rest.folder, rest.step, rest.config.name) == (Path("runs/run"), 6, "run")
    shutil.rmtree(tmp_path / "runs" / "run")
    with pytest.raises(ValueError, match="nothing to resume in runs/moons"):
        studio.train("moons.yaml", resume=True, quiet=True)
