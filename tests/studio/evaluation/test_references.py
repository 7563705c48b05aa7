"""A reference is what was named: all of a file or folder, and only what was asked for of it; what is left out
is told."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import write_pictures
from torch import Tensor

from studio.evaluation import evaluate
from studio.evaluation.reference import make_reference, open_reference
from studio.evaluation.sets import of_data, open_set
from studio.metrics.features import from_callable


@pytest.fixture(scope="module")
def pixels() -> Any:
    """The pictures themselves, a pixel in four: what is equal is at distance 0."""

    def features(values: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(values.float() / 255, 2).flatten(1)

    return from_callable(features, "pixels", "00112233445566aa")


def noise(root: Path, count: int) -> Path:
    """Pictures of noise in two classes."""
    rng = np.random.default_rng(5)
    for i in range(count):
        (root / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(
            root / "ab"[i % 2] / f"{i:04d}.png"
        )
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise(tmp_path_factory.mktemp("folder") / "noise", 600)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many that a hundred are kept aside, which is asked of a set that tells of copies."""
    return noise(tmp_path_factory.mktemp("large") / "noise", 2000)


def test_all_of_a_folder_and_of_an_npz(folder: Path, pictures: Path) -> None:
    whole = open_set(f"images:{folder}")
    assert len(whole) == 600 and whole.hash == open_set(folder).hash and whole.classes == ("a", "b")
    assert [len(open_set(f"images:{folder}@{part}")) for part in ("train", "held_out")] == [570, 30]
    numbers, names = open_set(f"npz:{pictures}"), np.load(pictures)
    assert np.array_equal(numbers.values[:, 0], names["images"]) and np.array_equal(
        numbers.labels, names["labels"]
    )
    assert len(open_set(f"npz:{pictures}@train")) + len(open_set(f"npz:{pictures}@held_out")) == 64


def test_named_data_sets_keep_their_part() -> None:
    """Pages name their hashes."""
    assert (
        open_set("fashion-mnist").hash == "397a0affc9490e63"
        and len(open_set("fashion-mnist@held_out")) == 2000
    )
    assert len(open_set("points:moons")) == 18000


def test_every_copy_is_one(folder: Path, pixels: Any) -> None:
    """Measured against what training would take, one in twenty lay outside."""
    found = evaluate(folder, f"images:{folder}", features=pixels, metrics="pr,dc,fd")
    assert (
        found.values["precision"] == found.values["recall"] == found.values["coverage"] == 1
        and found.values["fd"] < 1e-6
    )
    assert found.protocol["reference_n"] == 600 and found.protocol["reference_part"] == "all"
    part = evaluate(folder, f"images:{folder}@train", features=pixels, metrics="fd").protocol
    assert (
        part["reference_n"] == 570
        and part["reference_part"] == "train"
        and "the 30 that are held out" in part["reference_left_out"]
    )


def test_what_does_not_decode_is_told(folder: Path, pixels: Any, tmp_path: Path) -> None:
    some = tmp_path / "some"
    shutil.copytree(folder / "a", some)
    (some / "broken.png").write_bytes(b"no picture")
    told = evaluate(folder / "a", f"images:{some}", features=pixels, metrics="fd").protocol
    assert (
        told["reference_n"] == 300
        and "1" in told["reference_left_out"]
        and "decode" in told["reference_left_out"]
    )


@pytest.mark.parametrize("through_file", [False, True])
def test_memorisation_keeps_the_split_and_says_so(
    through_file: bool, large: Path, pixels: Any, tmp_path: Path
) -> None:
    """Held-out pictures are no copies of what training takes, though both are in the reference."""
    ref = (
        make_reference(f"images:{large}", tmp_path / "ref.npz", pixels) if through_file else f"images:{large}"
    )
    copies = evaluate(f"images:{large}@train", ref, features=pixels, metrics="nn")
    assert copies.values["nn"] == 1 and copies.values["nn_test"] < 0.05
    fresh = evaluate(f"images:{large}@held_out", ref, features=pixels, metrics="nn")
    assert fresh.values["nn"] == fresh.values["nn_test"] < 0.05
    assert (
        fresh.protocol["nn"]
        == "against 1,900 real samples that training takes, beside 100 that it keeps aside"
    )
    assert fresh.protocol["reference_n"] == 2000


def test_a_model_s_own_data_is_its_training_part(pictures: Path) -> None:
    section = {"name": "npz", "path": str(pictures), "held_out": 0.25}
    own = of_data(section, "npz")
    assert (
        len(own) == 48
        and own.test is not None
        and len(own.test) == 16
        and own.about["left_out"] == "the 16 that are held out"
    )
    every = of_data(section, "npz", whole=True)
    assert len(every) == 64 and every.rows is not None and [len(r) for r in every.rows] == [48, 16]


def test_a_reference_file_keeps_the_names_and_the_parts(tmp_path: Path, pixels: Any) -> None:
    data = write_pictures(tmp_path / "p.npz", count=400)
    direct = open_reference(f"npz:{data}", pixels)
    kept = open_reference(make_reference(f"npz:{data}", tmp_path / "ref.npz", pixels, keep=100), pixels)
    assert kept.side.classes == direct.side.classes == ("bar", "dot", "ring", "wedge")
    assert kept.about["reference_part"] == "all" and len(kept.side.train) + kept.side.n - 380 <= 120
    assert len(kept.side.need("features")) == 100 and len(kept.side.train) < 100 and len(kept.side.test) == 20
