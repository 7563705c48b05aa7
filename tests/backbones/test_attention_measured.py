"""`auto` by measurement: what is kept, for which machine, and that it is asked only where it is worth it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from backbones import Bias, host
from backbones.attention import choose, measured
from backbones.attention.specs import Full, Window

BEST = {
    "forward": {"64": "blocks", "256": "explicit"},
    "training": {"64": "recomputed", "1024": "recomputed"},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(measured, "_tables", {})
    return tmp_path / "drift-studio" / "measured"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every measurement, in place of which there is `BEST`."""
    calls: list[Any] = []

    def measure(dtype: torch.dtype, d: int) -> dict[str, Any]:
        calls.append((dtype, d))
        return {"best": BEST, "times": {}}

    monkeypatch.setattr(measured, "measure", measure)
    return calls


def queries(b: int, n: int, *, grad: bool = False, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(b, 4, n, 8, dtype=dtype).requires_grad_(grad)


def test_large_calls_ask_once_and_small_ones_never(asked: list[Any], own_cache: Path) -> None:
    assert choose(queries(2, 64), Full()) == "sdpa" and not asked
    assert choose(queries(256, 64), Full()) == "blocks"
    assert choose(queries(16, 256), Full()) == "explicit"
    assert choose(queries(256, 64, grad=True), Full()) == "recomputed"
    assert asked == [(torch.float32, 8)]
    measured._tables.clear()  # as in another process
    assert choose(queries(16, 256), Full()) == "explicit" and len(asked) == 1
    assert choose(queries(16, 256, dtype=torch.bfloat16), Full()) == "explicit" and len(asked) == 2
    assert len(list(own_cache.iterdir())) == 2


def test_what_was_not_reached_goes_by_the_next_shorter_one(asked: list[Any]) -> None:
    """An explicit form is not stretched to where its scores fill the memory."""
    assert choose(queries(4, 900), Full()) == "explicit"
    assert choose(queries(1, 5000), Full()) == "sdpa"
    assert choose(queries(16, 300, grad=True), Full()) == "recomputed"
    assert choose(queries(1, 5000, grad=True), Full()) == "recomputed"


def test_a_mask_is_never_dropped(asked: list[Any]) -> None:
    """Windows of many tokens take blocks, others and a bias a form that knows one."""
    q = queries(256, 64)
    assert choose(queries(1, 129), Window(3, 3)) == "blocks" and choose(q, Window(3, 3)) == "sdpa"
    assert choose(q, Bias(torch.zeros(64, 64))) == "sdpa"
    assert choose(q, Full(), double_backward=True) == "explicit"


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t["machine"].update(processor="another"),
        lambda t: t["machine"].update(torch="0.1"),
        lambda t: t.pop("found"),
        lambda t: t.update(machine=None),
    ],
)
def test_one_of_another_machine_is_made_anew(asked: list[Any], own_cache: Path, change: Any) -> None:
    choose(queries(256, 64), Full())
    path = next(own_cache.iterdir())
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))
    measured._tables.clear()
    assert choose(queries(256, 64), Full()) == "blocks" and len(asked) == 2
    assert json.loads(path.read_text())["machine"] == host.identity()
    path.write_text("torn")
    measured._tables.clear()
    assert choose(queries(256, 64), Full()) == "blocks" and len(asked) == 3


def test_the_first_of_several_processes_is_followed(own_cache: Path) -> None:
    def slow() -> dict[str, Any]:
        host.remembered("thing", lambda: {"best": "theirs"})  # which ends while this one still measures
        return {"best": "ours"}

    assert host.remembered("thing", slow) == {"best": "theirs"}


def test_without_a_folder_to_write_to_it_serves_the_process(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert [choose(queries(256, 64), Full()) for _ in range(2)] == ["blocks"] * 2 and len(asked) == 1


def test_a_measurement_is_of_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one, on short sequences: every form is timed, and the fastest is the best."""
    monkeypatch.setattr(measured, "TOKENS", {16: 2, 32: 2})
    found = measured.measure(torch.float32, 8)
    assert set(found["times"]["forward"]["16"]) == {"sdpa", "explicit", "blocks"}
    assert set(found["times"]["training"]["32"]) == {"sdpa", "explicit", "blocks", "recomputed"}
    for doing, lengths in found["times"].items():
        for n, took in lengths.items():
            assert found["best"][doing][n] == min(took, key=took.get)


def test_the_class_of_this_machine_has_a_name() -> None:
    assert host.instructions() and host.model_name() and host.identity()["torch"] == torch.__version__
