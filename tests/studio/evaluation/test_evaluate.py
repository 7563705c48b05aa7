"""From a set of samples to numbers with a floor and a protocol."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import files_below, run_studio
from torch import Tensor

import studio
from studio.evaluation import Result, evaluate, load_result, table
from studio.evaluation.reference import make_reference
from studio.evaluation.sets import SampleSet, open_set
from studio.metrics.features import build_extractor, from_callable
from studio.model.model import Model
from studio.runtime.npz import npz_array
from studio.training.run import Run


@pytest.fixture(scope="module")
def fashion() -> SampleSet:
    return open_set("fashion-mnist")


@pytest.fixture(scope="module")
def rough() -> Any:
    """Four coarse pixels and their products: an extractor of one's own for 8×8 pictures."""

    def features(values: Tensor) -> Tensor:
        x = torch.nn.functional.adaptive_avg_pool2d(values.float() / 255, 2).flatten(1)
        return torch.cat([x, x[:, :1] * x[:, 1:2]], 1)

    return from_callable(features, "rough", "0123456789abcdef")


@pytest.fixture(scope="module")
def generated(picture_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sets") / "made"
    studio.generate(
        str(picture_run.folder),
        out,
        num=40,
        num_steps=2,
        device="cpu",
        dtype="fp32",
        quiet=True,
        format="both",
    )
    return out


def subset(whole: SampleSet, start: int, stop: int) -> SampleSet:
    return whole.take(np.arange(start, stop))


def test_real_samples_lie_at_the_floor_and_noise_far_above(fashion: SampleSet) -> None:
    order = np.random.default_rng(0).permutation(len(fashion))
    real = evaluate(
        fashion.take(order[:1500]),
        "fashion-mnist@held_out",
        features="lenet",
        metrics="fd,pr,dc,acc,is,fd_class",
        allow_small=True,
    )
    assert real.failed == {}
    assert (
        real.values["fd"] < 3 * real.floor["fd"]
        and abs(real.values["precision"] - real.floor["precision"]) < 0.1
    )
    assert real.values["acc"] > 0.85 and real.floor["acc"] > 0.85 and 5 < real.values["is"] < 10
    noise = SampleSet(
        "noise",
        np.random.default_rng(1).integers(0, 256, (300, 1, 28, 28), dtype=np.uint8),
        np.arange(300) % 10,
        fashion.classes,
    )
    bad = evaluate(noise, "fashion-mnist@held_out", features="lenet", metrics="fd,kid,pr,dc,acc")
    assert (
        bad.values["fd"] > 20 * real.values["fd"]
        and bad.values["coverage"] < 0.1 < 0.8 < real.values["coverage"]
    )
    assert bad.values["acc"] < 0.3
    protocol = real.protocol
    assert (
        protocol["extractor"] == "lenet" and protocol["samples"] == 1500 and protocol["reference_n"] == 2000
    )
    assert (
        "fd, fd_class: two disjoint real sets of 1,000 and 1,000, there are not twice 1,500"
        in protocol["floor"]
    )


@pytest.mark.slow
def test_the_kernel_distance_of_real_samples_is_small(fashion: SampleSet) -> None:
    order = np.random.default_rng(0).permutation(len(fashion))
    options: dict[str, Any] = {"features": "lenet", "metrics": "kid", "allow_small": True}
    real = evaluate(fashion.take(order[:1500]), "fashion-mnist@held_out", **options)
    assert (
        "kid: two disjoint real sets of 1,000 and 1,000, there are not twice 1,500" in real.protocol["floor"]
    )
    noise = np.random.default_rng(1).integers(0, 256, (1500, 1, 28, 28), dtype=np.uint8)
    bad = evaluate(SampleSet("noise", noise, None, ()), "fashion-mnist@held_out", **options)
    assert bad.values["kid"] > 50 * abs(real.values["kid"])


@pytest.mark.slow
def test_copies_of_training_pictures_are_found(fashion: SampleSet) -> None:
    copies = evaluate(subset(fashion, 0, 200), "fashion-mnist", features="lenet", metrics="nn")
    assert copies.values["nn"] == 1.0 and copies.values["nn_test"] < 0.05
    fresh = evaluate(open_set("fashion-mnist@held_out"), "fashion-mnist", features="lenet", metrics="nn")
    assert fresh.values["nn"] < 0.05


def test_what_cannot_be_computed_is_named_and_the_rest_is_there(fashion: SampleSet, tmp_path: Path) -> None:
    result = evaluate(
        subset(fashion, 0, 100), "fashion-mnist@held_out", features="lenet", metrics="sfid,pr,nn,fd_class"
    )
    assert set(result.values) == {"precision", "recall"} and set(result.failed) == {"sfid", "nn", "fd_class"}
    assert "no held-out samples" in result.failed["nn"]
    np.savez(tmp_path / "s.npz", arr_0=fashion.values[:100].transpose(0, 2, 3, 1))
    done = run_studio(
        "evaluate",
        tmp_path / "s.npz",
        "--ref",
        "fashion-mnist@held_out",
        "--features",
        "lenet",
        "--metrics",
        "sfid,pr",
        "--json",
        cwd=tmp_path,
    )
    assert done.returncode == 1 and json.loads(done.stdout)["values"].keys() == {"precision", "recall"}
    done = run_studio(
        "evaluate", tmp_path / "s.npz", "--ref", "fashion-mnist", "--features", "inception", cwd=tmp_path
    )
    assert done.returncode == 2 and "STUDIO_INCEPTION" in done.stderr and "Traceback" not in done.stderr


def test_few_samples_are_refused_for_frechet_distances_unless_allowed(fashion: SampleSet) -> None:
    few = subset(fashion, 0, 30)
    refused = evaluate(few, "fashion-mnist@held_out", features="lenet", metrics="fd")
    assert "allow" in refused.failed["fd"]
    allowed = evaluate(few, "fashion-mnist@held_out", features="lenet", metrics="fd", allow_small=True)
    assert allowed.values["fd"] > 0


def test_every_way_of_keeping_samples_gives_the_same_numbers(
    generated: Path, picture_run: Run, picture_model: Model, pictures: Path, rough: Any, tmp_path: Path
) -> None:
    ref = f"npz:{pictures}"
    options: dict[str, Any] = {"features": rough, "metrics": "fd,pr,kid"}
    folder = evaluate(generated, ref, **options)
    flat = tmp_path / "flat"
    flat.mkdir()
    for p in generated.glob("000/*.png"):
        shutil.copy(p, flat)
    with np.load(generated / "samples.npz") as file:
        np.save(tmp_path / "rows.npy", file["arr_0"])
        np.savez_compressed(tmp_path / "packed.npz", arr_0=file["arr_0"])
    model = evaluate(picture_model, ref, num=40, num_steps=2, **options)
    by_name = evaluate(
        str(picture_run.folder), ref, num=40, num_steps=2, device="cpu", dtype="fp32", **options
    )
    others = [
        evaluate(p, ref, **options)
        for p in (flat, generated / "samples.npz", tmp_path / "rows.npy", tmp_path / "packed.npz")
    ]
    assert all(r.values == folder.values and r.floor == folder.floor for r in (model, by_name, *others))
    assert folder.ruler == model.ruler
    assert (
        folder.protocol["num_steps"] == 2
        and folder.protocol["labels"] == "balanced"
        and folder.protocol["guidance"] == "cfg=1.5,interval=0.1:0.9"
    )
    assert open_set(generated).labels.tolist() == [i % 4 for i in range(40)]  # type: ignore[union-attr]


def test_an_incomplete_folder_is_not_measured(generated: Path, tmp_path: Path) -> None:
    out = tmp_path / "part"
    shutil.copytree(generated, out)
    (out / "000" / "000003.png").unlink()
    with pytest.raises(ValueError, match="holds 39 of 40 samples.*studio generate"):
        open_set(out)


def test_a_reference_file_stands_for_its_data(fashion: SampleSet, tmp_path: Path) -> None:
    lenet = build_extractor("lenet")
    path = make_reference("fashion-mnist@held_out", tmp_path / "ref.npz", lenet)
    samples, metrics = subset(fashion, 0, 400), "fd,pr,dc,kid,acc,fd_class"
    direct = evaluate(samples, "fashion-mnist@held_out", features=lenet, metrics=metrics, allow_small=True)
    through = evaluate(samples, path, features=lenet, metrics=metrics, allow_small=True)
    assert through.values == pytest.approx(
        direct.values, rel=1e-6, abs=1e-9
    ) and through.floor == pytest.approx(direct.floor, rel=1e-6)
    with pytest.raises(FileExistsError, match="exists already"):
        make_reference("fashion-mnist@held_out", path, lenet)
    other = from_callable(lambda v: v.float().flatten(1)[:, :64], "other", "f" * 16)
    with pytest.raises(ValueError, match="was made with lenet .*this call uses other"):
        evaluate(samples, path, features=other)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="cut off"):
        evaluate(samples, path, features=lenet)


def test_an_adm_file_needs_the_network_it_was_made_with(fashion: SampleSet, tmp_path: Path) -> None:
    np.savez(tmp_path / "VIRTUAL.npz", mu=np.zeros(2048), sigma=np.eye(2048, dtype=np.float32))
    with pytest.raises(ValueError, match="Inception statistics.*--features inception"):
        evaluate(subset(fashion, 0, 10), tmp_path / "VIRTUAL.npz", features="lenet")


def test_results_of_other_protocols_are_marked(fashion: SampleSet, tmp_path: Path) -> None:
    a = evaluate(
        subset(fashion, 0, 200), "fashion-mnist@held_out", features="lenet", metrics="fd,pr", allow_small=True
    )
    b = evaluate(
        subset(fashion, 0, 300), "fashion-mnist@held_out", features="lenet", metrics="fd,pr", allow_small=True
    )
    same = Result("again", a.values, a.floor, {}, {**a.protocol, "guidance": "cfg=3", "num_steps": 7})
    text = table([a, same, b])
    assert text.count("\\*") == 2 and "samples 300 instead of 200" in text and "| again |" in text
    assert load_result(a.save(tmp_path / "a.json")) == a
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(ValueError, match="not a result"):
        load_result(tmp_path / "b.json")


def test_large_arrays_are_mapped_not_read(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (500, 50, 50, 1), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", labels=np.arange(500), arr_0=array)
    mapped = npz_array(tmp_path / "a.npz", "arr_0")
    assert isinstance(mapped, np.memmap) and np.array_equal(mapped, array)
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "b.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="cut off"):
        open_set(tmp_path / "b.npz")


@pytest.mark.parametrize(
    "samples, options, text",
    [
        ("nowhere", {}, "nowhere"),
        ("fashion-mnist", {"metrics": ""}, "empty list"),
        ("fashion-mnist", {"metrics": "fdi"}, "'fdi', expected"),
        ("fashion-mnist", {"features": "vgg"}, "vgg"),
        ("fashion-mnist", {"num_steps": 3}, "made already"),
        ("fashion-mnist@test", {}, "@held_out"),
    ],
)
def test_refusals(samples: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        evaluate(samples, "fashion-mnist", **{"features": "lenet", **options})


def test_sets_that_do_not_fit_are_refused(generated: Path, rough: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"samples of \(1, 8, 8\) and a reference of \(1, 28, 28\)"):
        evaluate(generated, "fashion-mnist", features=rough, metrics="pr")
    for size in (8, 9):
        Image.new("L", (size, 8)).save(tmp_path / f"{size}.png")
    with pytest.raises(ValueError, match="got pictures of several kinds"):
        list(open_set(tmp_path).batches())
    np.savez(tmp_path / "objects.npz", arr_0=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="holds pickled objects"):
        open_set(tmp_path / "objects.npz")
    np.save(tmp_path / "text.npy", np.array(["a"]))
    with pytest.raises(ValueError, match="expected uint8 pictures"):
        open_set(tmp_path / "text.npy")


def test_points_have_their_own_measures(points_run: Run, points_model: Model, tmp_path: Path) -> None:
    exact = evaluate("points:eight_gaussians@held_out", "points:eight_gaussians")
    assert exact.values["w2"] < 1.5 * exact.floor["w2"] and "modes" in exact.failed
    model = evaluate(points_model, "points:eight_gaussians", num=500)
    assert model.values["w2"] > 1.5 * model.floor["w2"] and model.values["energy"] > model.floor["energy"]
    with pytest.raises(ValueError, match="for points, expected some of w2"):
        evaluate(points_model, "points:moons", metrics="fid", num=10)


def test_the_command_keeps_its_result_beside_the_samples(generated: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    shutil.copytree(generated, out)
    before = files_below(out)
    done = run_studio("evaluate", out, "--ref", out, "--metrics", "pr", "--features", "lenet", cwd=tmp_path)
    # 8×8 pictures are none of lenet's
    assert done.returncode == 2 and "28" in done.stderr and files_below(out) == before


def test_fid_is_said_of_inception_features_only(fashion: SampleSet) -> None:
    result = evaluate(subset(fashion, 0, 100), "fashion-mnist@held_out", features="lenet", metrics="fid,pr")
    assert "these are lenet's" in result.failed["fid"] and "fid" not in result.values


def test_the_spatial_distance_has_a_floor_too(pictures: Path, tmp_path: Path) -> None:
    def taps(values: Tensor) -> dict[str, Tensor]:
        x = torch.nn.functional.adaptive_avg_pool2d(values.float() / 255, 2).flatten(1)
        return {"features": x, "spatial": x[:, :3] + 1}

    extractor = from_callable(taps, "taps", "aaaabbbbccccdddd")
    real = open_set(f"npz:{pictures}")
    for ref in (real, make_reference(f"npz:{pictures}", tmp_path / "ref.npz", extractor)):
        result = evaluate(real, ref, features=extractor, metrics="sfid,fd")
        assert result.failed == {} and result.values["sfid"] < 1e-6 < result.floor["sfid"] < 1


def test_folders_of_pictures_have_the_classes_that_training_gives_them(tmp_path: Path) -> None:
    """Numbers in the order of numbers, names from labels.csv."""
    for name in ("0", "2", "10"):
        (tmp_path / "sorted" / name).mkdir(parents=True)
        Image.new("L", (8, 8), int(name)).save(tmp_path / "sorted" / name / "a.png")
    found = open_set(tmp_path / "sorted")
    assert found.classes == ("0", "2", "10")
    assert [found.classes[k] for k in found.labels.tolist()] == [
        str(int(v)) for v in found.values[:].reshape(3, -1).mean(1)
    ]  # type: ignore[union-attr]
    flat = tmp_path / "flat"
    flat.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 8)).save(flat / name)
    (flat / "labels.csv").write_text("a.png,wedge\nb.png,bar\n")
    assert open_set(flat).classes == ("bar", "wedge") and open_set(flat).labels.tolist() == [1, 0]
