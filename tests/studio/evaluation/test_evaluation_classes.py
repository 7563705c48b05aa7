"""What is compared between samples, judge and reference are the names of classes, never their numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from studio.evaluation import evaluate
from studio.evaluation.reference import make_reference, open_reference
from studio.evaluation.run import choose_extractor
from studio.evaluation.sets import SampleSet, of_data, open_set
from studio.metrics.efficientnet import EfficientNetExtractor
from studio.metrics.features import build_extractor, from_callable
from studio.metrics.lenet import LeNetExtractor


@pytest.fixture(scope="module")
def fashion() -> SampleSet:
    return open_set("fashion-mnist@held_out")


def test_two_classes_of_fashion_are_judged_by_their_names() -> None:
    """Sandal and Sneaker count from 0 here; by number they were T-shirts and Trousers: 0.0."""
    pair = of_data({"name": "fashion-mnist", "classes": (5, 7)}, "fashion-mnist")
    found = evaluate(
        pair.take(np.arange(0, 2400, 6)),
        "fashion-mnist@held_out",
        features="lenet",
        metrics="acc,fd_class",
        allow_small=True,
    )
    assert (
        found.failed == {}
        and found.values["acc"] > 0.9
        and found.values["fd_class"] < 1.5 * found.floor["fd_class"]
    )
    assert found.protocol["fd_class"] == "2 of the reference's 10 classes, 400 of 400 samples"


@pytest.mark.parametrize("names", ["turned", "case"])
def test_the_order_and_the_case_of_names_do_not_matter(names: str, fashion: SampleSet) -> None:
    if names == "turned":
        other = SampleSet("turned", fashion.values, 9 - fashion.labels, fashion.classes[::-1])
    else:
        other = SampleSet(
            "case", fashion.values, fashion.labels, tuple(f" {c.upper()}" for c in fashion.classes)
        )
    results = [
        evaluate(s, "fashion-mnist@held_out", features="lenet", metrics="acc,fd_class", allow_small=True)
        for s in (fashion, other)
    ]
    assert len(results[0].values) == 2
    assert results[0].values == pytest.approx(results[1].values)


@pytest.mark.parametrize(
    "classes, text",
    [
        ((), "have no names"),
        (tuple("0123456789"), "class '0', expected one of those of the classifier of lenet"),
    ],
)
def test_other_classes_are_refused_with_the_way_out(
    classes: tuple[str, ...], text: str, fashion: SampleSet
) -> None:
    digits = SampleSet("digits", fashion.values, fashion.labels, classes)
    found = evaluate(
        digits.take(np.arange(1000)),
        "fashion-mnist@held_out",
        features="lenet",
        metrics="acc,fd_class,pr",
        allow_small=True,
    )
    assert set(found.failed) == {"acc", "fd_class"} and "precision" in found.values
    assert (
        text in found.failed["acc"]
        and "T-shirt/top" in found.failed["acc"]
        and "T-shirt/top" in found.failed["fd_class"]
    )
    judge = from_callable(
        lambda v: {"features": v.float().flatten(1)[:, :8], "logits": v.float().flatten(1)[:, :10]},
        "mine",
        "ef" * 8,
    )
    assert (
        "does not name its classes" in evaluate(fashion, fashion, features=judge, metrics="acc").failed["acc"]
    )


def test_a_judge_of_one_s_own_names_its_classes() -> None:
    def bright(values: Tensor) -> dict[str, Tensor]:
        mean = values.float().mean((1, 2, 3))
        return {"features": values.float().flatten(1)[:, :3], "logits": torch.stack([mean, 255 - mean], 1)}

    judge = from_callable(bright, "bright", "12" * 8, classes=("light", "dark"))
    values = np.repeat(np.array([10, 240, 20, 230], np.uint8), 16).reshape(4, 1, 4, 4)
    samples = SampleSet("s", values, np.array([0, 1, 0, 0]), ("dark", "light"))
    assert evaluate(samples, samples, features=judge, metrics="acc").values["acc"] == 0.75
    some = SampleSet("s", values, np.array([0, -1, -1, 0]), ("dark", "light"))
    found = evaluate(some, some, features=judge, metrics="acc")
    assert found.values["acc"] == 0.5 and found.protocol["acc"] == "of the 2 of 4 samples that have a label"
    none = SampleSet("s", values, np.full(4, -1), ("dark", "light"))
    assert "no labels" in evaluate(none, none, features=judge, metrics="acc").failed["acc"]


def test_lenet_is_taken_for_fashion_only(fashion: SampleSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any grey 28×28 picture was judged by it."""
    monkeypatch.delenv("STUDIO_INCEPTION", raising=False)
    plain = SampleSet("plain", fashion.values, None)
    digits = SampleSet("digits", fashion.values, fashion.labels, tuple("0123456789"))

    def kind(samples: SampleSet, real: Any) -> type:
        try:
            return type(choose_extractor(None, samples, None, real))
        except ImportError as error:
            assert "efficientnet" in str(error)
            return EfficientNetExtractor

    assert kind(plain, fashion) is kind(fashion, plain) is kind(digits, fashion) is LeNetExtractor
    assert kind(plain, plain) is kind(digits, digits) is kind(digits, plain) is EfficientNetExtractor
    assert isinstance(choose_extractor("lenet", digits, None, digits), LeNetExtractor)
    assert kind(plain, of_data({"name": "fashion-restore"}, "restore")) is LeNetExtractor


def test_a_reference_file_is_measured_with_what_made_it(fashion: SampleSet, tmp_path: Path) -> None:
    file = make_reference("fashion-mnist@held_out", tmp_path / "ref.npz", build_extractor("lenet"))
    assert isinstance(choose_extractor(None, SampleSet("plain", fashion.values), None, file), LeNetExtractor)
    assert open_reference(file, build_extractor("lenet")).side.classes == fashion.classes
    with np.load(file) as stored:
        arrays = dict(stored)
    import json

    meta = {k: v for k, v in json.loads(str(arrays.pop("meta"))).items() if k != "classes"}
    np.savez(tmp_path / "older.npz", meta=np.array(json.dumps({**meta, "data": "fashion-mnist"})), **arrays)
    # of a data set that is known
    assert open_reference(tmp_path / "older.npz", build_extractor("lenet")).side.classes == fashion.classes


def test_names_in_an_npz_are_read(fashion: SampleSet, tmp_path: Path) -> None:
    arrays = {"arr_0": fashion.values.transpose(0, 2, 3, 1), "labels": fashion.labels}
    np.savez(tmp_path / "named.npz", **arrays, classes=np.array(fashion.classes))
    assert evaluate(tmp_path / "named.npz", fashion, features="lenet", metrics="acc").values["acc"] > 0.85
