"""The floor is the measure itself of real samples, at the numbers of both sides; what it was taken of is
told."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from studio.evaluation import Result, evaluate, table
from studio.evaluation.reference import make_reference
from studio.evaluation.sets import SampleSet, open_set
from studio.metrics.distances import Moments
from studio.metrics.efficientnet import EfficientNetExtractor
from studio.metrics.features import from_callable
from studio.metrics.inception_extractor import InceptionExtractor


def drawn(count: int, seed: int, test: int = 0) -> SampleSet:
    """Pictures of noise, all of one distribution; some kept aside."""
    values = np.random.default_rng(seed).integers(0, 256, (count, 1, 4, 4), dtype=np.uint8)
    return SampleSet("noise", values, test=drawn(test, seed + 100) if test else None)


@pytest.fixture(scope="module")
def plain() -> Any:
    def taps(values: Tensor) -> dict[str, Tensor]:
        x = torch.nn.functional.avg_pool2d(values.float() / 255, 2).flatten(1)
        return {"features": x, "spatial": x[:, :3] + 1, "logits": x[:, :3] * 5}

    return from_callable(taps, "plain", "ab" * 8)


@pytest.mark.slow
def test_real_pictures_lie_at_the_floor_whatever_the_number() -> None:
    """They had coverage .10 beside a floor of .97: 256 of them cannot cover 12,000."""
    real = open_set("fashion-mnist@held_out").take(np.random.default_rng(0).permutation(2000)[:250])
    found = evaluate(real, "fashion-mnist", features="lenet", metrics="fd,dc,pr,kid,is,acc")
    assert found.values["coverage"] < 0.2 and abs(found.values["coverage"] - found.floor["coverage"]) < 0.03
    assert 0.7 < found.values["fd"] / found.floor["fd"] < 1.4
    assert (
        abs(found.values["precision"] - found.floor["precision"]) < 0.05
        and abs(found.values["is"] - found.floor["is"]) < 0.5
    )
    assert "250 held-out real samples against the reference's 12,000" in found.protocol["floor"]


@pytest.mark.parametrize("count, have", [(60, 1200), (600, 1200), (1200, 1200), (3000, 1200)])
def test_without_held_out_samples_the_reference_is_divided(count: int, have: int, plain: Any) -> None:
    """In the proportion of the two sets for what depends on it."""
    found = evaluate(drawn(count, 1), drawn(have, 2), features=plain, metrics="fd,sfid,dc,pr,is")
    assert found.failed == {}
    assert found.values["coverage"] == pytest.approx(found.floor["coverage"], abs=0.06)
    assert found.values["density"] == pytest.approx(found.floor["density"], abs=0.12)
    text = found.protocol["floor"]
    n, m = (
        int(v.replace(",", ""))
        for v in re.findall(r"dc, pr: two disjoint real sets of ([\d,]+) and ([\d,]+), in the", text)[0]
    )
    assert n + m == have and n / m == pytest.approx(count / have, rel=0.02)
    assert f"in the proportion of {count:,} to {have:,}" in text
    first = min(count, have // 2)
    assert f"fd, sfid: two disjoint real sets of {first:,} and {have - first:,}" in text and (
        f"not twice {count:,}" in text
    ) == (first < count)
    assert found.floor["sfid"] > 0


def test_a_file_has_the_floors_of_its_data(plain: Any, tmp_path: Any) -> None:
    np.savez(tmp_path / "d.npz", images=drawn(900, 3).values[:, 0])
    file = make_reference(f"npz:{tmp_path / 'd.npz'}", tmp_path / "ref.npz", plain)
    direct, through = (
        evaluate(drawn(100, 4), ref, features=plain, metrics="fd,dc,pr,kid,sfid")
        for ref in (f"npz:{tmp_path / 'd.npz'}", file)
    )
    assert (
        through.values == pytest.approx(direct.values, rel=1e-5)
        and through.protocol["floor"] == direct.protocol["floor"]
    )


def test_kernel_distances_of_few_samples_have_no_false_deviation(plain: Any) -> None:
    few = evaluate(drawn(300, 1), drawn(1500, 2), features=plain, metrics="kid")
    assert set(few.values) == {"kid"} and few.protocol["kid"] == "100 subsets of 300"
    assert abs(few.values["kid"]) < 0.01 and abs(few.floor["kid"]) < 0.01
    same = evaluate(drawn(300, 1), drawn(300, 2), features=plain, metrics="kid")
    assert set(same.values) == {"kid"} and same.protocol["kid"] == "one subset of 300: all"
    many = evaluate(drawn(1500, 1), drawn(1400, 2), features=plain, metrics="kid")
    assert set(many.values) == {"kid", "kid_std"} and many.protocol["kid"] == "100 subsets of 1,000"


def test_the_protocol_tells_how_extractors_resize() -> None:
    assert (
        "299" in InceptionExtractor.resize
        and "TensorFlow" in InceptionExtractor.resize
        and "224" in EfficientNetExtractor.resize
    )
    noise = drawn(20, 0)
    sized = from_callable(lambda v: v.float().flatten(1)[:, :4], "sized", "cd" * 8)
    assert evaluate(noise, noise, features=sized, metrics="pr").protocol["resize"] == "none"
    sized.resize = "299×299"  # type: ignore[attr-defined]
    assert evaluate(noise, noise, features=sized, metrics="pr").protocol["resize"] == "299×299"
    older = Result("older", {"fd": 1.0}, {}, {}, {"extractor_hash": "a", "resize": "none"})
    assert "not comparable" not in table(
        [
            older,
            Result(
                "newer", {"fd": 1.0}, {}, {}, {"extractor_hash": "a", "resize": InceptionExtractor.resize}
            ),
        ]
    )


def test_moments_without_a_part_are_those_of_the_rest() -> None:
    x = torch.randn(500, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3 + 7
    rest = Moments.of(x).without(Moments.of(x[:120]))
    assert (
        rest.count == 380
        and torch.allclose(rest.mean, x[120:].mean(0))
        and torch.allclose(rest.covariance, x[120:].T.cov())
    )
    with pytest.raises(ValueError, match="at least 2 to be left"):
        Moments.of(x).without(Moments.of(x[:499]))
