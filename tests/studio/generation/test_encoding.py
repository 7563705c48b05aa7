"""Pictures encoded by several threads: the same bytes in the same order, and errors that are raised."""

import threading

import pytest
import torch

from studio.generation.encoding import LARGE, encoded, spread, threads_for
from studio.tasks import build_task


def test_threads_change_no_byte_and_no_place() -> None:
    values = torch.randint(0, 256, (9, 3, 70, 70), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    recipes = [{"model": "m", "seed": i} for i in range(9)]
    task = build_task("image")
    one = encoded(task, values, recipes)
    assert one == encoded(task, values, recipes, 3) and len(set(one)) == 9


def test_they_work_at_the_same_time_and_errors_are_raised() -> None:
    meeting = threading.Barrier(3, timeout=20)
    # alone each would wait for ever
    assert list(spread(lambda k: (meeting.wait(), k)[1], range(3), 3)) == [0, 1, 2]

    def act(k: int) -> int:
        if k == 4:
            raise OSError("no space left")
        return k

    with pytest.raises(OSError, match="no space left"):
        list(spread(act, range(9), 3))


def test_only_large_pictures_are_worth_it() -> None:
    before, cpu = torch.get_num_threads(), torch.device("cpu")
    try:
        torch.set_num_threads(2)
        assert (
            threads_for(torch.zeros(1, LARGE), cpu) == 2 and threads_for(torch.zeros(1, LARGE - 1), cpu) == 1
        )
        torch.set_num_threads(1)
        assert threads_for(torch.zeros(1, LARGE), cpu) == 1
        assert threads_for(torch.zeros(1, LARGE), torch.device("cuda")) >= 1
    finally:
        torch.set_num_threads(before)
