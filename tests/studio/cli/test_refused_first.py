"""What can be refused is refused before a sample is made: in every command that makes some, and in Python."""

import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import files_below

import studio
from studio import cli, sampling
from studio.evaluation import evaluate
from studio.evaluation.reference import make_reference
from studio.evaluation.sweep import parse_axis, sweep
from studio.metrics.features import from_callable
from studio.model.export import export
from studio.model.model import Model
from studio.training.run import Run

Capture = Any


def refused(capsys: Capture, *words: Any) -> str:
    """What a command is refused with."""
    with pytest.raises(SystemExit) as end:
        cli.main([str(w) for w in words])
    seen = capsys.readouterr()
    assert (
        end.value.code == 2
        and seen.out == ""
        and seen.err.startswith("error: ")
        and "Traceback" not in seen.err
    ), seen
    return seen.err


@pytest.fixture
def places(tmp_path: Path, picture_model: Model) -> dict[str, Path]:
    """Where output cannot go: a file, a folder below a file, one with files of the same names, one that holds
    something else."""
    (tmp_path / "file").write_text("mine")
    taken = tmp_path / "taken"
    picture_model.sample(seeds=[3], num_steps=1).save(taken)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("dear")
    own = tmp_path / "own"
    own.mkdir()
    (own / "recipe.json").write_text('"of a cake"')
    return {
        "file": tmp_path / "file",
        "below": tmp_path / "file" / "out",
        "taken": taken,
        "letters": tmp_path / "letters",
        "own": own,
    }


@pytest.fixture
def nothing_is_sampled(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a first step of a solver was not refused in time."""

    def never(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("a sample was begun")

    monkeypatch.setattr(sampling, "stream", never)


@pytest.mark.usefixtures("nothing_is_sampled")
def test_sample(
    places: dict[str, Path], picture_run: Run, points_run: Run, tmp_path: Path, capsys: Capture
) -> None:
    before = files_below(tmp_path)
    common = ("sample", picture_run.folder, "--device", "cpu", "--out")
    assert "seed-000003.png exists already; choose another --out or pass --overwrite" in refused(
        capsys, *common, places["taken"], "--seeds", "0-5"
    )
    assert "grid.png exists already" in refused(capsys, *common, places["taken"], "--seeds", "7")
    assert "recipe.json exists already" in refused(capsys, *common, places["own"])
    for place in ("file", "below"):
        assert "is a file, expected a folder; choose another --out" in refused(capsys, *common, places[place])
    assert "nothing is guided" in refused(capsys, *common, tmp_path / "x", "--probe", "--guidance", "none")
    assert "nothing is guided" in refused(capsys, *common, tmp_path / "x", "--probe", "--guidance", "cfg=1")
    (tmp_path / "dots").mkdir()
    np.savez(tmp_path / "dots" / "samples.npz", arr_0=np.zeros(2))
    assert "samples.npz exists already" in refused(
        capsys, "sample", points_run.folder, "--device", "cpu", "--out", tmp_path / "dots"
    )
    (tmp_path / "dots" / "samples.npz").unlink()
    assert files_below(tmp_path) == before


def test_what_was_sampled_is_kept_where_no_step_was_guided(
    picture_run: Run, tmp_path: Path, capsys: Capture
) -> None:
    """The interval lies between two steps, which no check before foresees for every solver."""
    cli.main(
        [
            str(w)
            for w in (
                "sample",
                picture_run.folder,
                "--out",
                tmp_path / "out",
                "--seeds",
                1,
                "--num-steps",
                2,
                "--sampler",
                "euler",
                "--device",
                "cpu",
                "--probe",
                "--guidance",
                "cfg=2,interval=0.3:0.4",
            )
        ]
    )
    assert (tmp_path / "out" / "seed-000001.png").is_file() and not (tmp_path / "out" / "probe.csv").exists()
    assert "no step was guided" in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_is_sampled")
def test_the_same_of_a_model_in_python(
    places: dict[str, Path], picture_model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    picture_model.refuse(tmp_path / "free", seeds=[1])
    picture_model.refuse(places["taken"], seeds=[3], overwrite=True)
    with pytest.raises(FileExistsError, match="seed-000003.png exists already"):
        picture_model.refuse(places["taken"], seeds=[3])
    with pytest.raises(ValueError, match="num_steps=0"):
        picture_model.refuse(tmp_path / "free", seeds=[3], num_steps=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("usage", "total used free")(10, 9, 1))
    with pytest.raises(ValueError, match="make room"):
        picture_model.refuse(tmp_path / "free", seeds=[3])
    assert not (tmp_path / "free").exists()


def test_names_of_a_hundred_thousand_samples_take_no_time(picture_model: Model, tmp_path: Path) -> None:
    from studio.sampling.samples import places as places_of

    recipes = [{"seed": s % 99_000} for s in range(100_000)]
    named = places_of(tmp_path / "out", recipes, picture_model.task)
    assert (
        len(set(named)) == 100_000
        and named[50_000].name == "seed-050000.png"
        and "class--1-" in named[0].name
    )


@pytest.mark.usefixtures("nothing_is_sampled")
def test_generate(places: dict[str, Path], picture_run: Run, tmp_path: Path, capsys: Capture) -> None:
    before = files_below(tmp_path)
    common = ("generate", picture_run.folder, "--num", 4, "--device", "cpu", "--out")
    for place in ("file", "below"):
        assert "is a file, expected a folder; choose another --out" in refused(capsys, *common, places[place])
    assert "holds something else" in refused(capsys, *common, places["letters"])
    for words in (("--threads", 0), ("--threads", 0, "--workers", 2), ("--threads", -2, "--deterministic")):
        assert "expected at least 1" in refused(capsys, *common, tmp_path / "x", *words)
    assert files_below(tmp_path) == before and not (tmp_path / "x").exists()


@pytest.mark.usefixtures("nothing_is_sampled")
def test_evaluate_a_model(
    places: dict[str, Path], picture_run: Run, pictures: Path, tmp_path: Path, capsys: Capture
) -> None:
    before = files_below(tmp_path)
    ref = ("--ref", f"npz:{pictures}")
    common = ("evaluate", picture_run.folder, "--device", "cpu", "--num", 8)
    (tmp_path / "r.json").write_text("{}")
    assert "r.json exists already; choose another --out or pass --overwrite" in refused(
        capsys, *common, *ref, "--out", tmp_path / "r.json"
    )
    assert "is a folder" in refused(capsys, *common, *ref, "--out", places["letters"])
    assert "is a file, expected a folder" in refused(
        capsys, *common, *ref, "--out", places["file"] / "r.json"
    )
    (tmp_path / "r.json").unlink()
    for words, text in (
        (("--metrics", "fdd"), "'fdd', expected some of"),
        (("--metrics", ""), "empty list"),
        (("--features", "vgg"), "vgg"),
        (("--features", "lenet"), "28"),
        (("--filters", "a.csv"), "expected molecules"),
        (("--num", 0), "num=0"),
        (("--labels", "hat"), "hat"),
        (("--guidance", "cgf=2"), "cgf"),
        (("--num-steps", 0), "num_steps=0"),
        (("--batch", 0), "batch=0"),
        (("--seeds", "0-2"), "3 seeds for num=8"),
        (("--inception", tmp_path / "absent.pth"), "absent.pth"),
    ):
        assert text in refused(capsys, *common, *ref, *words), words
    for other, text in (
        ("fashion-mnist", "resize it first"),
        ("points:moons", "a reference of points for a model of image"),
        ("nowhere", "nowhere"),
    ):
        assert text in refused(capsys, *common, "--ref", other), other
    assert files_below(tmp_path) == before


def coarse(size: int = 2) -> Any:
    return from_callable(
        lambda v: torch.nn.functional.adaptive_avg_pool2d(v.float(), size).flatten(1) / 255,
        f"coarse-{size}",
        f"{size:016d}",
    )


@pytest.mark.usefixtures("nothing_is_sampled")
def test_measures_that_a_model_s_samples_cannot_have(
    picture_model: Model, points_model: Model, pictures: Path, tmp_path: Path, capsys: Capture
) -> None:
    ref, rough = f"npz:{pictures}", coarse()
    for metrics, text in (
        ("fd,fid", "fid cannot be computed: FID is the distance in Inception"),
        ("sfid", "spatial features are missing"),
        ("acc,fd", "logits"),
        ("is", "logits"),
        ("fd_class", "got 1 samples for features of 4"),
        ("nn", "no held-out samples"),
    ):
        with pytest.raises(ValueError, match=text):
            evaluate(
                picture_model,
                f"{ref}@held_out" if metrics == "nn" else ref,
                features=rough,
                metrics=metrics,
                num=4,
            )
    with pytest.raises(ValueError, match="got 3 samples for features of 4 dimensions"):
        evaluate(picture_model, ref, features=rough, metrics="fd", num=3)
    other = make_reference(ref, tmp_path / "ref.npz", coarse(3))
    with pytest.raises(ValueError, match="was made with coarse-3 .*this call uses coarse-2"):
        evaluate(picture_model, other, features=rough, num=8)
    np.savez(tmp_path / "wide.npz", images=np.zeros((5, 9, 9), np.uint8))
    wide = make_reference(f"npz:{tmp_path / 'wide.npz'}", tmp_path / "wide-ref.npz", rough)
    with pytest.raises(ValueError, match=r"samples of \(1, 8, 8\) and a reference of \(1, 9, 9\)"):
        evaluate(picture_model, wide, features=rough, num=8)
    with pytest.raises(ValueError, match="no labels of modes"):
        evaluate(points_model, "points:eight_gaussians", metrics="modes", num=8)
    with pytest.raises(ValueError, match="got features=lenet for points"):
        evaluate(points_model, "points:eight_gaussians", features="lenet", num=8)
    np.save(tmp_path / "solid.npy", np.zeros((8, 3), np.float32))
    with pytest.raises(ValueError, match="the same number of coordinates"):
        evaluate(points_model, tmp_path / "solid.npy", num=8)
    with pytest.raises(ValueError, match="a reference of features for points"):
        evaluate(points_model, other, num=8)


def test_the_reference_is_looked_at_last(
    picture_model: Model, pictures: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its features take minutes: a typing error does not wait for them."""
    from studio.evaluation import picture_judge, reference

    monkeypatch.setattr(
        picture_judge, "open_reference", lambda *a: pytest.fail("features of the reference were asked for")
    )
    monkeypatch.setattr(
        reference, "features_of", lambda *a: pytest.fail("features of the reference were asked for")
    )
    axes, ref = [parse_axis("num_steps=1,2")], f"npz:{pictures}"
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("dear")
    acts: list[tuple[Callable[[], Any], str]] = [
        (lambda: evaluate(picture_model, ref, features=coarse(), metrics="fdd", num=8), "fdd"),
        (lambda: evaluate(picture_model, ref, features=coarse(), num=8, guidance="cgf=1"), "cgf"),
        (
            lambda: list(sweep(picture_model, tmp_path / "letters", axes, ref=ref, features=coarse())),
            "holds something else",
        ),
        (
            lambda: list(
                sweep(picture_model, tmp_path / "x", axes, ref=ref, features=coarse(), labels="hat")
            ),
            "hat",
        ),
        (
            lambda: list(sweep(picture_model, tmp_path / "x", axes, images=2, features=coarse())),
            "measures nothing",
        ),
        (lambda: make_reference(ref, tmp_path / "x.npy", coarse()), "ends in .npz"),
        (lambda: make_reference(ref, tmp_path / "x.npz", coarse(), keep=0), "keep=0"),
        (
            lambda: make_reference("points:moons", tmp_path / "x.npz", coarse()),
            "got points samples, expected pictures",
        ),
        (
            lambda: make_reference(ref, tmp_path / "letters" / "dear.txt" / "x.npz", coarse()),
            "is a file, expected a folder",
        ),
    ]
    for act, text in acts:
        with pytest.raises((ValueError, FileExistsError), match=text):
            act()
    assert not (tmp_path / "x").exists()


def test_sweep_is_refused_by_its_last_combination(
    picture_model: Model, nothing_is_sampled: None, places: dict[str, Path], pictures: Path, tmp_path: Path
) -> None:
    for options, text in (
        ({"num": 3, "metrics": "fd"}, "fd cannot be computed: got 3 samples"),
        ({"metrics": "nn"}, "nn cannot be computed"),
    ):
        with pytest.raises(ValueError, match=text):
            list(
                sweep(
                    picture_model,
                    tmp_path / "x",
                    [parse_axis("num_steps=1,2")],
                    ref=f"npz:{pictures}@held_out",
                    features=coarse(),
                    **options,
                )
            )
    with pytest.raises(ValueError, match="is a file, expected a folder"):
        list(sweep(picture_model, places["file"], [parse_axis("num_steps=1,2")], images=1))
    assert not (tmp_path / "x").exists()


def test_a_result_is_replaced_where_that_is_asked_for(
    picture_run: Run, pictures: Path, tmp_path: Path, capsys: Capture
) -> None:
    out, ref = tmp_path / "deep" / "r.json", f"npz:{pictures}"
    words = [
        str(w)
        for w in (
            "evaluate",
            ref,
            "--ref",
            ref,
            "--features",
            "efficientnet",
            "--metrics",
            "kid",
            "--out",
            out,
            "--json",
        )
    ]
    pytest.importorskip("efficientnet_lite_pytorch")
    cli.main(words)
    assert json.loads(out.read_text())["values"].keys() >= {"kid"}
    capsys.readouterr()
    assert "exists already" in refused(capsys, *words)
    cli.main([*words, "--overwrite"])


def test_export_and_translate(
    picture_run: Run, picture_model: Model, places: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    before = files_below(tmp_path)
    for place in ("file", "below"):
        with pytest.raises(ValueError, match="is a file, expected a folder; choose another --out"):
            export(str(picture_run.folder), places[place])
        assert "is a file" in refused(
            capsys, "convert", picture_run.folder, "--to", "diffusers", "--out", places[place]
        )
    assert files_below(tmp_path) == before


def test_a_set_whose_library_is_missing(
    monkeypatch: pytest.MonkeyPatch, picture_model: Model, tmp_path: Path
) -> None:
    """Molecules are written by RDKit when all of them are made."""
    monkeypatch.setattr(
        type(picture_model.task),
        "ready",
        lambda self: (_ for _ in ()).throw(ImportError("molecules need RDKit")),
    )
    for act in (
        lambda: studio.generate(picture_model, tmp_path / "x", num=4, quiet=True),
        lambda: picture_model.refuse(tmp_path / "x", seeds=[1]),
        lambda: list(sweep(picture_model, tmp_path / "x", [parse_axis("num_steps=1,2")], images=1)),
    ):
        with pytest.raises(ImportError, match="need RDKit"):
            act()
    assert not (tmp_path / "x").exists()


def test_one_name_where_a_folder_is(picture_model: Model, tmp_path: Path) -> None:
    (tmp_path / "seed-000001.png").mkdir()
    with pytest.raises(FileExistsError, match="choose another --out$"):
        picture_model.refuse(tmp_path, seeds=[1], overwrite=True)
