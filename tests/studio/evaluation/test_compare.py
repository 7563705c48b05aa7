"""Two sets against one reference: what is known of their difference, and how sure it is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import studio
from studio.cli.main import main
from studio.evaluation.comparing import Comparison, _around
from studio.evaluation.sets import SampleSet, is_data, open_set
from studio.metrics.features import from_callable


def looks() -> Any:
    """Two numbers of a picture: the mean of its halves; and logits of four classes."""

    def see(x: Tensor) -> dict[str, Tensor]:
        flat = x.float().flatten(1) / 255
        half = flat.shape[1] // 2
        features = torch.stack([flat[:, :half].mean(1), flat[:, half:].mean(1)], 1)
        return {"features": features, "logits": torch.cat([features, -features], 1) * 9}

    return from_callable(see, "looks", "looks")


def pictures(shift: int, seed: int, count: int = 300) -> SampleSet:
    rng = np.random.default_rng(seed)
    values = np.clip(
        rng.normal(100 + shift, 30, (count, 1, 1, 1)) + rng.normal(0, 9, (count, 1, 4, 4)), 0, 255
    ).astype(np.uint8)
    return SampleSet(f"set {seed}", values, np.arange(count) % 4, ("a", "b", "c", "d"))


@pytest.fixture(scope="module")
def reference() -> SampleSet:
    return pictures(0, 9, 500)


def test_a_difference_that_is_there_is_seen(reference: SampleSet) -> None:
    found = studio.compare(
        pictures(0, 1), pictures(40, 2), reference, metrics="fd,is", features=looks(), rounds=60
    )
    low, high = found.interval["fd"]
    assert (
        found.difference["fd"] == found.values["fd"][1] - found.values["fd"][0] > 0
        and 0 < low < found.difference["fd"] < high
    )
    assert (
        found.differs("fd")
        and not found.failed
        and found.protocol["samples"] == 300
        and found.protocol["drawn"] == "each by itself"
    )
    back = studio.compare(
        pictures(40, 2), pictures(0, 1), reference, metrics=["fd"], features=looks(), rounds=60
    )
    assert back.difference["fd"] == pytest.approx(-found.difference["fd"]) and back.interval["fd"][1] < 0


def test_intervals_hold_a_difference_of_nothing_as_often_as_they_say(reference: SampleSet) -> None:
    held = 0
    for i in range(15):
        found = studio.compare(
            pictures(5, 100 + i, 120),
            pictures(5, 200 + i, 120),
            reference,
            metrics="fd",
            features=looks(),
            rounds=40,
            level=0.8,
        )
        held += not found.differs("fd")
    assert 8 <= held <= 15  # 12 of 15 at 80 %


def test_the_interval_of_a_mean_is_the_textbooks() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, 400)
    # a constant that drawing adds falls out
    drawn = [float(x[rng.integers(0, 400, 400)].mean()) + 3 for _ in range(4000)]
    low, high = _around(float(x.mean()), drawn, 0.95)
    half = 1.96 * float(x.std()) / 20
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.01)


def test_the_same_call_gives_the_same(reference: SampleSet) -> None:
    one, two = pictures(0, 1, 60), pictures(9, 2, 60)
    made = [
        studio.compare(one, two, reference, metrics="fd", features=looks(), rounds=20, seed=s)
        for s in (0, 0, 1)
    ]
    assert (
        made[0] == made[1]
        and made[0].interval != made[2].interval
        and made[0].difference == made[2].difference
    )
    assert {"fd"} == set(made[0].interval) and made[0].protocol["without_replacement"] == []
    assert all(low <= made[0].difference[k] <= high for k, (low, high) in made[0].interval.items())


def test_sets_of_other_numbers_are_measured_at_the_smaller_one(reference: SampleSet) -> None:
    found = studio.compare(
        pictures(0, 1, 300), pictures(0, 2, 120), reference, metrics="fd", features=looks(), rounds=20
    )
    assert found.protocol["samples"] == 120 and found.protocol["of"] == [300, 120]


def test_the_same_seeds_are_drawn_together(reference: SampleSet) -> None:
    one = pictures(0, 1)
    one.about["seeds"] = "0-299"
    noise = np.random.default_rng(5).integers(0, 3, one.values.shape)
    two = SampleSet(
        "two",
        np.clip(one.values[:].astype(int) + noise, 0, 255).astype(np.uint8),
        one.labels,
        one.classes,
        {"seeds": "0-299"},
    )
    apart = SampleSet("two", two.values, one.labels, one.classes, {"seeds": "300-599"})
    together, each = (
        studio.compare(one, s, reference, metrics="fd", features=looks(), rounds=40) for s in (two, apart)
    )
    assert (
        together.protocol["drawn"] == "together, by the same seeds" and together.difference == each.difference
    )
    assert np.ptp(together.interval["fd"]) < np.ptp(each.interval["fd"]) / 3


def never(*arguments: Any) -> Any:
    raise AssertionError("something was measured")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(b=SampleSet("p", np.zeros((9, 2), np.float32))), "expected the same kind of both"),
        (dict(b=SampleSet("p", np.zeros((9, 1, 5, 5), np.uint8))), "expected the same shape"),
        (dict(b=pictures(0, 1)), "the same samples twice"),
        (dict(b="fashion-dit"), "expected a set of samples that is there"),
        (dict(b="absent"), "absent"),
        (dict(b=pictures(0, 2, 1)), "at least 2 of each"),
        (dict(metrics="sfid"), "kept of a set as a whole"),
        (dict(metrics="fid"), "FID is the distance in Inception features"),
        (dict(metrics="df"), "got metric 'df'"),
        (dict(metrics=""), "empty list"),
        (dict(rounds=3), "got rounds=3, expected 20"),
        (dict(level=95), "got level=95"),
        (dict(metrics="acc"), "acc cannot be computed"),
        (dict(ref=SampleSet("p", np.zeros((9, 2), np.float32))), "got a reference of points"),
        (dict(metrics="nn"), "no held-out"),
        (dict(ref=SampleSet("p", np.zeros((9, 1, 5, 5), np.uint8))), "a reference of"),
    ],
)
def test_what_does_not_fit_is_refused_first(
    change: dict[str, Any], words: str, reference: SampleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.evaluation.measures.measured", never)
    monkeypatch.setattr("studio.evaluation.picture_judge.side_of", never)
    options = {
        "a": pictures(0, 1),
        "b": pictures(0, 2),
        "ref": reference,
        "metrics": "fd",
        "features": looks(),
        **change,
    }
    with pytest.raises(ValueError, match=words):
        studio.compare(**options)


def test_a_measure_that_fails_is_told_beside_the_others(reference: SampleSet) -> None:
    found = studio.compare(pictures(0, 1), pictures(0, 2), reference, features=looks(), rounds=20)
    assert set(found.interval) >= {"fd"} and not set(found.failed) & set(found.interval)


def test_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for name, shift in (("a", 0.0), ("b", 1.5), ("ref", 0.0)):
        np.savez(tmp_path / f"{name}.npz", arr_0=(rng.normal(0, 1, (200, 2)) + shift).astype(np.float32))
    places = [str(tmp_path / f"{n}.npz") for n in ("a", "b")]
    main(
        [
            "compare",
            *places,
            "--ref",
            str(tmp_path / "ref.npz"),
            "--rounds",
            "20",
            "--metrics",
            "energy",
            "--out",
            str(tmp_path / "c.json"),
        ]
    )
    told = capsys.readouterr().out
    assert (
        "B − A" in told
        and "95% interval" in told
        and "(holds 0)" not in told.partition("energy")[2].splitlines()[0]
    )
    kept = json.loads((tmp_path / "c.json").read_text())
    assert (
        kept["difference"]["energy"] > 0
        and kept["interval"]["energy"][0] > 0
        and kept["protocol"]["rounds"] == 20
    )
    with pytest.raises(SystemExit) as stopped:
        main(["compare", *places, "--ref", str(tmp_path / "ref.npz"), "--out", str(tmp_path / "c.json")])
    assert stopped.value.code == 2 and "exists already" in capsys.readouterr().err
    main(
        [
            "compare",
            *places,
            "--ref",
            str(tmp_path / "ref.npz"),
            "--rounds",
            "20",
            "--metrics",
            "energy",
            "--json",
        ]
    )
    assert json.loads(capsys.readouterr().out)["values"]["energy"][1] > 0


def test_molecules(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    plain, rings = (
        ["CCO", "CCN", "CCCO", "CC(C)O", "CCCC", "CCOC"],
        ["c1ccccc1", "C1CCCCC1", "c1ccncc1", "CCO", "CCO", "CCO"],
    )
    for name, texts in (("a", plain), ("b", rings), ("ref", [*plain, "CCCCO", "OCCO"])):
        (tmp_path / f"{name}.smi").write_text("\n".join(texts * (5 if name != "ref" else 1)) + "\n")

    def ask(**options: Any) -> Comparison:
        return studio.compare(
            tmp_path / "a.smi", tmp_path / "b.smi", tmp_path / "ref.smi", rounds=20, **options
        )

    found = ask(metrics="validity,uniqueness,novelty")
    assert found.values["valid"] == (1, 1) and found.difference["unique"] < 0 and found.difference["new"] > 0
    assert "unique" in found.interval and found.protocol["without_replacement"] == ["uniqueness"]
    assert "valid" in ask().interval


def test_it_prints_itself(reference: SampleSet) -> None:
    found = studio.compare(
        pictures(0, 1), pictures(40, 2), reference, metrics="fd", features=looks(), rounds=20
    )
    assert repr(found).splitlines()[0] == "A: set 1" and "B − A" in repr(found)


def test_a_data_set_by_its_name_alone_has_parts() -> None:
    assert (
        is_data("fashion-mnist@held_out")
        and is_data("fashion-mnist")
        and is_data("moses@train")
        and not is_data("fashion-mnist-2@train")
    )
    assert len(open_set("fashion-mnist@held_out")) == 2000
