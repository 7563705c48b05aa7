"""Any number of samples: each a function of its index, whatever was there before and whoever computes it."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import warm
from PIL import Image
from tiny import environment, files_below, run_studio
from warm_process import worker_command

import studio
from studio.generation import engine, workers
from studio.generation.label_rules import parse_rule
from studio.generation.plan import make_plan
from studio.model.model import Model
from studio.runtime.recipes import read_recipe
from studio.training.run import Run

OPTIONS: dict[str, Any] = {
    "num": 21,
    "num_steps": 3,
    "guidance": "cfg=2.0",
    "deterministic": True,
    "device": "cpu",
    "dtype": "fp32",
    "quiet": True,
}


def generate(run: Run | Model, out: Path, **options: Any) -> studio.generation.Generated:
    return studio.generate(run if isinstance(run, Model) else str(run.folder), out, **{**OPTIONS, **options})


def pictures_in(folder: Path) -> dict[str, bytes]:
    """Pixels and recipes by name."""
    out = {}
    for path in sorted(folder.glob("[0-9]*/*.png")):
        with Image.open(path) as picture:
            out[path.name] = (
                np.asarray(picture).tobytes() + json.dumps(read_recipe(path), sort_keys=True).encode()
            )
    return out


@pytest.fixture(scope="module")
def whole(picture_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated") / "whole"
    result = generate(picture_run, folder)
    assert (result.written, result.missing, result.num) == (21, 0, 21)
    return folder


def test_files_are_the_samples_of_their_seeds_and_labels(whole: Path, picture_model: Model) -> None:
    names = [p.name for p in sorted((whole / "000").iterdir())]
    assert names == [f"{i:06d}.png" for i in range(21)]
    samples = picture_model.sample(
        seeds=range(21),
        labels=[i % 4 for i in range(21)],
        num_steps=3,
        guidance="cfg=2.0",
        deterministic=True,
    )
    for i, name in enumerate(names):
        with Image.open(whole / "000" / name) as picture:
            assert np.array_equal(np.asarray(picture), samples.values[i, 0].numpy())
        recipe = read_recipe(whole / "000" / name)
        assert (recipe["seed"], recipe["label"], recipe["model_hash"]) == (i, i % 4, picture_model.hash)
    pinned = json.loads((whole / "manifest.json").read_text())["pinned"]
    assert (
        pinned["seeds"] == "0-20"
        and pinned["labels"] == "balanced"
        and pinned["deterministic"] == {"micro_batch": 8, "threads": 1}
    )
    assert {
        "model_hash",
        "backbone",
        "objective",
        "sampler",
        "guidance",
        "dtype",
        "studio",
        "torch",
        "num_steps",
        "weights",
    } <= set(pinned)


def test_a_second_call_makes_what_is_missing_and_touches_nothing_else(
    whole: Path, picture_run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    shutil.copytree(whole, out)
    (out / "000" / "000003.png").unlink()
    (out / "000" / "000004.png").write_bytes((out / "000" / "000004.png").read_bytes()[:90])
    # decodes at the right size, and is another sample
    shutil.copy(out / "000" / "000007.png", out / "000" / "000008.png")
    Image.new("L", (9, 8)).save(out / "000" / "000009.png")
    Image.new("L", (8, 8)).save(out / "000" / "cat.png")
    (out / "000" / ".000003.png.tmp").write_bytes(b"half")
    before = {p.name: p.stat().st_mtime_ns for p in (out / "000").iterdir()}
    result = generate(picture_run, out)
    assert (result.written, result.missing, result.foreign) == (4, 0, 1)
    assert pictures_in(out) == pictures_in(whole)
    assert sorted(p.name for p in (out / "000").iterdir()) == [f"{i:06d}.png" for i in range(21)]
    assert (out / "foreign" / "000" / "cat.png").is_file()
    kept = [
        n for n in before if n not in ("000004.png", "000008.png", "000009.png", "cat.png", ".000003.png.tmp")
    ]
    assert all((out / "000" / n).stat().st_mtime_ns == before[n] for n in kept)
    assert generate(picture_run, out).written == 0


@pytest.mark.parametrize(
    "options, fresh",
    [
        ({"batch": 3}, False),
        ({"batch": 100, "workers": 2}, False),
        pytest.param({"batch": 100, "workers": 2}, True, marks=pytest.mark.slow),
    ],
)
def test_batch_and_processes_change_no_byte(
    options: dict[str, Any],
    fresh: bool,
    whole: Path,
    picture_run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``fresh``: workers that load torch themselves; else they are forks."""
    if "workers" in options and not fresh:
        monkeypatch.setattr(workers, "COMMAND", worker_command(warm.place()))
    assert generate(picture_run, tmp_path / "out", **options).written == 21
    assert pictures_in(tmp_path / "out") == pictures_in(whole)


def test_without_deterministic_it_is_the_same_to_one_grey_level(
    whole: Path, picture_run: Run, tmp_path: Path
) -> None:
    for batch in (2, 64):
        generate(picture_run, tmp_path / str(batch), batch=batch, deterministic=False)
    for name in pictures_in(whole):
        a, b = (np.asarray(Image.open(tmp_path / n / "000" / name)).astype(int) for n in ("2", "64"))
        assert np.abs(a - b).max() <= 1


def test_shards_make_one_whole(whole: Path, picture_run: Run, tmp_path: Path) -> None:
    """Blocks of 64 samples are dealt out; the last is ragged."""
    options = {"num": 150, "num_steps": 1, "guidance": None, "deterministic": False}
    counts = [generate(picture_run, tmp_path / "out", shard=f"{k}/3", **options) for k in (3, 1, 2)]
    assert [c.written for c in counts] == [22, 64, 64]
    assert [(c.missing, c.elsewhere) for c in counts] == [(0, 128), (0, 64), (0, 0)]
    assert len(pictures_in(tmp_path / "out")) == 150


@pytest.mark.parametrize(
    "kind", ["forks", *(pytest.param(k, marks=pytest.mark.slow) for k in ("torchrun", "accelerate"))]
)
def test_launchers_share_the_work(kind: str, whole: Path, picture_run: Run, tmp_path: Path) -> None:
    """``forks``: two processes with the variables that torchrun sets."""
    words = ["-m", "studio", "generate", picture_run.folder, "--out", tmp_path / "out", "--num-samples", 21]
    words += ["--num-steps", 3, "--guidance", "cfg=2.0", "--deterministic", "--device", "cpu"]
    words += ["--dtype", "fp32", "--json"]
    env = environment() | {"OMP_NUM_THREADS": "1"}
    if kind == "forks":
        done = warm.together(words, cwd=tmp_path, env=env)
    else:
        launcher = {
            "torchrun": "torch.distributed.run --standalone --nproc_per_node 2",
            "accelerate": "accelerate.commands.launch --cpu --num_processes 2 --main_process_port 0 "
            "--num_cpu_threads_per_process 1",
        }[kind]
        command = [sys.executable, "-m", *launcher.split(), *map(str, words)]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"missing": 0') == 1, "one process tells"
    assert pictures_in(tmp_path / "out") == pictures_in(whole)


def test_other_settings_are_refused_with_the_difference(
    whole: Path, picture_run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    shutil.copytree(whole, out)
    before = files_below(out)
    for change, text in (
        ({"guidance": "cfg=3.0"}, r"guidance: it has 'cfg=2', this call 'cfg=3'"),
        ({"num": 20}, "num: it has 21, this call 20"),
        ({"labels": "random"}, "labels: it has 'balanced'"),
        ({"seeds": "1-21"}, "seeds: it has '0-20'"),
        ({"weights": "raw"}, "weights: .*model_hash|model_hash"),
        ({"num_steps": 4}, "num_steps"),
        ({"sampler": "euler"}, "sampler"),
        ({"deterministic": False}, "deterministic"),
        ({"threads": 2}, "threads': 1"),
        ({"dtype": "bf16"}, "dtype: it has 'fp32'"),
    ):
        with pytest.raises(ValueError, match=text):
            generate(picture_run, out, **change)
    assert files_below(out) == before
    result = generate(picture_run, out, guidance="cfg=3.0", overwrite=True)
    assert (
        result.written == 21
        and json.loads((out / "manifest.json").read_text())["pinned"]["guidance"] == "cfg=3"
    )


def test_npz_streams_what_the_pictures_hold(whole: Path, picture_run: Run, tmp_path: Path) -> None:
    result = generate(picture_run, tmp_path / "npz", format="npz")
    assert result.npz == str(tmp_path / "npz" / "samples.npz")
    assert sorted(p.name for p in (tmp_path / "npz").iterdir()) == ["manifest.json", "samples.npz"]
    with np.load(result.npz, allow_pickle=False) as file:
        assert file["arr_0"].shape == (21, 8, 8, 1) and file["arr_0"].dtype == np.uint8
        assert file["labels"].tolist() == [i % 4 for i in range(21)]
        for i in range(21):
            assert np.array_equal(
                file["arr_0"][i, ..., 0], np.asarray(Image.open(whole / "000" / f"{i:06d}.png"))
            )
    assert generate(picture_run, tmp_path / "npz", format="npz").written == 0
    data = bytearray(Path(result.npz).read_bytes())
    data[len(data) // 2] ^= 255
    Path(result.npz).write_bytes(data)
    assert generate(picture_run, tmp_path / "npz", format="npz").written == 21
    both = tmp_path / "both"
    shutil.copytree(whole, both)
    assert generate(picture_run, both, format="both").written == 0
    with np.load(both / "samples.npz") as file, np.load(result.npz) as other:
        assert np.array_equal(file["arr_0"], other["arr_0"])


def test_points_come_in_blocks(points_run: Run, tmp_path: Path) -> None:
    options: dict[str, Any] = {"num": 2300, "guidance": None, "workers": 1}
    first = generate(points_run, tmp_path / "a", **options)
    assert first.written == 2300 and first.npz is not None
    blocks = sorted((tmp_path / "a").glob("*.npy"))
    assert [np.load(p).shape for p in blocks] == [(1000, 2), (1000, 2), (300, 2)]
    kept = {p.name: p.read_bytes() for p in blocks}
    blocks[1].write_bytes(kept["001.npy"][:500])
    again = generate(points_run, tmp_path / "a", batch=50, **options)
    assert again.written == 1000 and {p.name: p.read_bytes() for p in blocks} == kept
    with np.load(first.npz) as file:
        assert np.array_equal(file["arr_0"], np.concatenate([np.load(p) for p in blocks]))


def test_label_rules(picture_model: Model, tmp_path: Path) -> None:
    def labels(rule: Any, index: range, offset: int = 0) -> tuple[int, ...]:
        return parse_rule(rule, picture_model.classes, 64).of(index, [i + offset for i in index])

    assert labels("balanced", range(6)) == (0, 1, 2, 3, 0, 1)
    assert labels("1,ring,2-3", range(5)) == (1, 2, 2, 3, 1)
    drawn = labels("random", range(4000))
    # of the seed, not the index
    assert drawn[17:25] == labels("random", range(17, 25)) and drawn[5:9] == labels(
        "random", range(4), offset=5
    )
    counts = np.bincount(drawn, minlength=4)
    assert len(counts) == 4 and np.abs(counts - 1000).max() < 120  # four standard deviations
    np.save(tmp_path / "l.npy", np.arange(64) % 3)
    (tmp_path / "l.txt").write_text("\n".join(["wedge", "dot"] * 32))
    assert labels(str(tmp_path / "l.npy"), range(4)) == (0, 1, 2, 0) and labels(
        str(tmp_path / "l.txt"), range(3)
    ) == (3, 1, 3)
    with pytest.raises(ValueError, match="holds 64 labels, expected at least --num 65"):
        parse_rule(str(tmp_path / "l.npy"), picture_model.classes, 65)
    with pytest.raises(ValueError, match="got class 4, expected 0 to 3"):
        parse_rule("4", picture_model.classes, 5)
    with pytest.raises(ValueError, match="no such file"):
        parse_rule(str(tmp_path / "none.txt"), picture_model.classes, 5)
    np.save(tmp_path / "bad.npy", np.zeros((3, 2)))
    with pytest.raises(ValueError, match="expected a row of whole numbers"):
        parse_rule(str(tmp_path / "bad.npy"), picture_model.classes, 2)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"num": 0}, "num=0, expected a whole number of at least 1"),
        ({"num": -3}, "num=-3"),
        ({"num": None}, "neither num nor seeds"),
        ({"shard": "9/8"}, "'9/8', expected K/N"),
        ({"shard": "0/8"}, "expected K/N"),
        ({"labels": "7"}, "got class 7"),
        ({"labels": "hat"}, "hat"),
        ({"labels": []}, "empty list"),
        ({"seeds": "0-4"}, "got 5 seeds for num=21"),
        ({"seeds": [1, 1], "num": 2}, "a seed twice"),
        ({"batch": "0"}, "batch=0"),
        ({"workers": "-1"}, "workers=-1"),
        ({"format": "jpg"}, "'jpg', expected png, npz or both"),
        ({"num_steps": 0}, "num_steps=0"),
        ({"guidance": "cgf=2"}, "cgf"),
    ],
)
def test_refusals_write_nothing(options: dict[str, Any], text: str, picture_run: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=text):
        generate(picture_run, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_folders_of_something_else_are_left_alone(picture_run: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="holds something else"):
            generate(picture_run, tmp_path, overwrite=overwrite)
    assert files_below(tmp_path) == {"thesis.txt": b"precious"}
    out = tmp_path / "out"
    generate(picture_run, out, num=2)
    (out / "notes.txt").write_text("mine")
    (out / "000" / "sketch.png").write_bytes(b"mine too")
    generate(picture_run, out, num=3, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine" and len(pictures_in(out)) == 3
    assert (out / "foreign" / "000" / "sketch.png").read_bytes() == b"mine too"
    (out / "manifest.json").write_text('{"format": 99, "pinned": {}}')
    with pytest.raises(ValueError, match="format 99, this version reads up to"):
        generate(picture_run, out, num=3)


def test_out_of_memory_halves_the_batch(picture_run: Run, tmp_path: Path) -> None:
    """A real allocation failure: the address space of a process is bounded, to far less than the batch."""
    script = f"""
        import ctypes, resource, sys, torch, studio
        from pathlib import Path
        ctypes.CDLL(None).mallopt(-8, 1)  # one arena: no room that is reserved, counts and is not used
        model = studio.load({str(picture_run.folder)!r}, device="cpu", dtype="fp32")
        model.sample(seeds=range(256), num_steps=1)  # all that is compiled, before the bound
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000,) * 2)
        options = dict(num=4096, num_steps=1, guidance=None, batch=4096, quiet=False, format="npz")
        if "fixed" in sys.argv:
            options |= dict(deterministic=True)
        result = studio.generate(model, sys.argv[1], **options)
        assert result.missing == 0 and result.written == 4096, result
    """
    done = warm.run(["-c", textwrap.dedent(script), tmp_path / "out"], cwd=tmp_path, env=environment())
    assert done.returncode == 0, done.stderr
    assert "out of memory: going on with batches of 2048" in done.stderr


def test_what_counts_as_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert engine.out_of_memory(caught.value)
    assert not engine.out_of_memory(RuntimeError("shapes differ"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="mounting a small file system takes root")
def test_a_full_disk_stops_and_the_next_call_goes_on(
    whole: Path, picture_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studio.runtime import files

    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=1k", "tmpfs", str(disk)], capture_output=True
    ).returncode:
        pytest.skip("tmpfs may not be mounted here")
    monkeypatch.setattr(files, "SPARE_BYTES", 0)
    try:
        with pytest.raises(OSError, match="No space left.*run the same command again"):
            generate(picture_run, disk / "out")
        there = pictures_in(disk / "out")
        assert 0 < len(there) < 21 and all(pictures_in(whole)[n] == v for n, v in there.items())
        assert subprocess.run(["mount", "-o", "remount,size=4m", str(disk)]).returncode == 0
        result = generate(picture_run, disk / "out")
        assert result.missing == 0 and result.written == 21 - len(there)
        assert pictures_in(disk / "out") == pictures_in(whole)
    finally:
        subprocess.run(["umount", str(disk)])


def test_a_write_error_in_the_thread_reaches_the_caller(
    picture_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where nothing may be mounted: the fifth file meets ENOSPC."""
    import errno

    from studio.generation import pictures

    real, count = pictures.encoded, []

    def full(*arguments: Any, **options: Any) -> list[bytes]:
        count.append(1)
        if len(count) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **options)

    monkeypatch.setattr(pictures, "encoded", full)
    with pytest.raises(OSError, match="No space left.*run the same command again"):
        generate(picture_run, tmp_path / "out")
    assert len(pictures_in(tmp_path / "out")) == 4
    assert generate(picture_run, tmp_path / "out").written == 17


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_an_error_first(whole: Path, picture_run: Run, tmp_path: Path) -> None:
    out = tmp_path / "again"
    shutil.copytree(whole, out)
    (out / "000" / "000003.png").unlink()
    (out / "000").chmod(0o555)
    out.chmod(0o555)
    with pytest.raises(OSError):
        generate(picture_run, out)
    out.chmod(0o755)
    (out / "000").chmod(0o755)
    assert generate(picture_run, out).written == 1


def test_the_command_line(picture_run: Run, tmp_path: Path) -> None:
    common = (
        "generate",
        picture_run.folder,
        "--out",
        tmp_path / "out",
        "--num",
        5,
        "--num_steps",
        2,
        "--labels",
        "dot",
        "--device",
        "cpu",
    )
    done = run_studio(*common, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["num"], result["written"], result["missing"]) == (5, 5, 0)
    assert read_recipe(tmp_path / "out" / "000" / "000004.png")["class"] == "dot"
    again = run_studio(*common, cwd=tmp_path)
    assert again.returncode == 0 and "5 of 5 samples (0 new" in again.stdout
    wrong = run_studio(*common, "--guidance", "cfg=4", cwd=tmp_path)
    assert wrong.returncode == 2 and "guidance: it has" in wrong.stderr and "Traceback" not in wrong.stderr


def test_a_plan_is_checked_before_it_is_used(picture_model: Model) -> None:
    plan = make_plan(picture_model, num=3, seeds="5-9", labels="random", num_steps=2)
    assert plan.seeds == (5, 6, 7) and plan.pinned()["seeds"] == "5-7"
    assert plan.batch([2]).labels == (parse_rule("random", picture_model.classes, 3).of([0], [7]))


def test_the_folder_tells_how_to_go_on(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "part"
    shutil.copytree(whole, out)
    (out / "000" / "000002.png").unlink()
    shown = run_studio("info", out, "--json", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    described = json.loads(shown.stdout)
    assert described["there"] == "20 of 21" and described["guidance"] == "cfg=2"
    done = run_studio(*shlex.split(described["command"])[1:], "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0 and "21 of 21 samples (1 new" in done.stdout, done.stderr
    assert pictures_in(out) == pictures_in(whole)
