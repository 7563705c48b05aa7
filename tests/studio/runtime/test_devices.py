"""Threads: the default fills the cores, too many are warned of once, none are refused."""

from collections.abc import Iterator

import pytest
import torch

from studio.runtime import devices


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.setattr(devices, "cores", lambda: 2)
    monkeypatch.setattr(devices, "_warned", False)
    yield
    torch.set_num_threads(before)


def test_too_many_threads_are_warned_of_once(two_cores: None, capsys: pytest.CaptureFixture[str]) -> None:
    for count in (None, 1, 2):
        devices.set_threads(count)
        assert torch.get_num_threads() == (count or 2) and not capsys.readouterr().err
    devices.set_threads(4)
    said = capsys.readouterr()
    assert torch.get_num_threads() == 4 and not said.out
    assert (
        said.err.startswith("warning: 4 threads on 2 cores")
        and "2.2 times as long" in said.err
        and "give at most 2" in said.err
    )
    devices.set_threads(8)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("count", [0, -1])
def test_no_threads_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"got threads={count}, expected at least 1"):
        devices.set_threads(count)
