"""The queue: one job at a time in order, whoever watches; stopped, failed, left and taken up."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.jobs import Index
from studio.jobs.queue import MOST, Live, Queue
from studio.runtime.signals import Stopped

PATIENCE = 20


class Worker:
    """Work that waits for a word at each of three steps."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.go = threading.Semaphore(0)

    def __call__(self, live: Live) -> None:
        self.begun.append(live.job.model)
        for step in range(live.job.done, 3):
            while not self.go.acquire(timeout=0.01):
                if live.flag.is_set():
                    raise Stopped(f"Stopped at {step}")
            if live.job.spec.get("fails") == step:
                raise ValueError("it went wrong")
            live.say(done=step + 1)
            live.tell(f"{live.job.model}{step}")
        live.tell("made", told={"files": 3})


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def queue(worker: Worker, tmp_path: Path) -> Iterator[Queue]:
    made = Queue(Index(tmp_path), {"sample": worker})
    yield made
    made.close()


def until(done: object) -> None:
    end = time.monotonic() + PATIENCE
    while not done():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.005)


def state(queue: Queue, job: str) -> str:
    found = queue.index.job(job)
    assert found is not None
    return found.state


def test_one_at_a_time_in_the_order_in_which_they_came(queue: Queue, worker: Worker) -> None:
    a, b = (queue.submit("sample", m, {}) for m in "ab")
    until(lambda: worker.begun == ["a"])
    assert (state(queue, a), state(queue, b)) == ("running", "waiting") and next(queue.watch(b)) == 1
    worker.go.release(6)
    assert list(queue.watch(b))[-1] == list(queue.watch(a))[-1] == "made"
    assert worker.begun == ["a", "b"]
    until(lambda: state(queue, b) == "done")
    found = queue.index.job(b)
    assert found is not None and found.done == 3 and found.told == {"files": 3} and queue.line() == []


def test_who_leaves_changes_nothing_and_who_comes_late_sees_the_end(queue: Queue, worker: Worker) -> None:
    job = queue.submit("sample", "a", {})
    watching = queue.watch(job)
    worker.go.release()
    assert next(watching) == "a0"
    watching.close()
    worker.go.release(2)
    assert list(queue.watch(job))[-1] == "made" == list(queue.watch(job))[-1]
    with pytest.raises(KeyError):
        next(queue.watch("nothing"))


def test_stop_reaches_what_runs_and_what_waits_and_no_other(queue: Queue, worker: Worker) -> None:
    a, b, c = (queue.submit("sample", m, {}, owner=m) for m in "abc")
    until(lambda: worker.begun == ["a"])
    assert queue.stop(b) == "Stopped before it began; nothing was saved" and state(queue, b) == "stopped"
    with pytest.raises(Stopped, match="before it began"):
        list(queue.watch(b))
    assert queue.stop_all("a", wait=PATIENCE) == "Stopped at 0" and state(queue, a) == "stopped"
    worker.go.release(3)
    assert list(queue.watch(c))[-1] == "made" and worker.begun == ["a", "c"]
    assert queue.stop(c) == queue.stop("nothing") == queue.stop_all("b") == ""


def test_what_goes_wrong_is_told_to_all_and_the_next_one_runs(queue: Queue, worker: Worker) -> None:
    bad, good = queue.submit("sample", "a", {"fails": 1}), queue.submit("sample", "b", {})
    worker.go.release(5)
    for _ in range(2):
        with pytest.raises(ValueError, match="it went wrong"):
            list(queue.watch(bad))
    assert list(queue.watch(good))[-1] == "made"
    failed = queue.index.job(bad)
    assert failed is not None and (failed.state, failed.words, failed.done) == ("failed", "it went wrong", 1)


def test_what_was_on_its_way_is_taken_up_once_by_the_next_process(tmp_path: Path) -> None:
    """The index tells who has a job, and who has ended."""
    first, second, third = Worker(), Worker(), Worker()
    before = Queue(Index(tmp_path), {"sample": first})
    a, b = (before.submit("sample", m, {}) for m in "ab")
    first.go.release()
    until(lambda: getattr(before.index.job(a), "done", 0) == 1)
    beside = Queue(Index(tmp_path), {"sample": third})
    assert beside.take_up() == []  # whose process lives
    before.close(PATIENCE)
    assert (state(before, a), state(before, b)) == ("running", "waiting")
    after = Queue(Index(tmp_path), {"sample": second})
    second.go.release(5)  # two of a are left
    assert after.take_up() == [a, b] and beside.take_up() == []
    assert list(after.watch(b))[-1] == "made" and second.begun == ["a", "b"] and first.begun == ["a"]
    for queue in (after, beside):
        queue.close()


def test_too_many_are_refused(queue: Queue, worker: Worker) -> None:
    for _ in range(MOST):
        queue.submit("sample", "a", {}, owner="a")
    with pytest.raises(ValueError, match="wait already"):
        queue.submit("sample", "a", {})
    queue.stop_all("a")
