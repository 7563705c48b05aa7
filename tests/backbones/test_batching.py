"""When both branches of guidance are one call: by a measurement of this machine, that is asked where it
counts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from backbones import batching
from backbones.batching import doubles


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    batching.filled.cache_clear()
    yield
    batching.filled.cache_clear()


def test_few_tokens_are_doubled_many_are_not_and_those_between_as_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[Any] = []

    def measure(dtype: torch.dtype) -> dict[str, Any]:
        calls.append(dtype)
        return {"tokens": 512, "ratios": {}}

    monkeypatch.setattr(batching, "measure", measure)
    assert doubles(128, None) and not doubles(2049, None) and not calls
    assert doubles(512, None) and not doubles(513, torch.float32) and calls == [torch.float32]
    batching.filled.cache_clear()  # as in another process
    assert doubles(512, None) and len(calls) == 1
    assert doubles(512, torch.bfloat16) and calls == [torch.float32, torch.bfloat16]


def test_a_network_may_say_it_itself() -> None:
    assert doubles(1000, None, 1024) and not doubles(1025, None, 1024)


def test_the_measurement_stops_where_doubling_no_longer_pays() -> None:
    found = batching.measure(torch.float32)
    sizes = [int(n) for n in found["ratios"]]
    assert sizes == [256 * 2**i for i in range(len(sizes))] and sizes
    paying = [n for n, ratio in found["ratios"].items() if ratio <= batching.PAYS]
    assert found["tokens"] == max([128, *map(int, paying)])
