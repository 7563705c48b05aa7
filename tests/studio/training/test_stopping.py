"""Ends of a training inside a script: signals, what on_log returns and raises, errors in the data. Nothing
that was trained is lost."""

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import checkpoint_differences, checkpoints, environment, last_checkpoint, metrics, points_config
from torch import Tensor
from warm import Process

import studio
from studio.runtime.signals import StopSignal

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = points_config(steps=12, log_every=1, save_every=0, weak_snapshot=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return studio.train(CONFIG, out=tmp_path_factory.mktemp("whole") / "run", quiet=True).folder


def goes_on_as_if_undisturbed(run: Path, step: int, whole: Path) -> None:
    assert checkpoints(run) == [step]
    assert studio.train(CONFIG, out=run, resume=True, quiet=True).step == 12
    assert checkpoint_differences(last_checkpoint(run), last_checkpoint(whole)) == [] and metrics(
        run
    ) == metrics(whole)


@pytest.mark.parametrize("answer", [False, np.False_])
def test_on_log_ends_the_run_by_false(answer: Any, whole: Path, tmp_path: Path) -> None:
    run = studio.train(
        CONFIG, out=tmp_path / "run", quiet=True, on_log=lambda line: answer if line["step"] == 5 else None
    )
    assert (run.step, run.interrupted) == (5, True)
    goes_on_as_if_undisturbed(run.folder, 5, whole)


@pytest.mark.parametrize("answer", [None, 0, "", True, []])
def test_other_answers_go_on(answer: Any, tmp_path: Path) -> None:
    run = studio.train(
        CONFIG, ["train.steps=3"], out=tmp_path / "run", quiet=True, on_log=lambda line: answer
    )
    assert (run.step, run.interrupted) == (3, False)


@pytest.mark.parametrize(
    "error", [KeyError("loss"), TypeError("no"), SystemExit(3), type("Pruned", (Exception,), {})("trial")]
)
def test_an_exception_in_on_log_does_not_lose_the_run(
    error: BaseException, whole: Path, tmp_path: Path
) -> None:
    calls = []

    def on_log(line: dict[str, Any]) -> None:
        calls.append(line["step"])
        if line["step"] == 7:
            raise error

    with pytest.raises(type(error)) as raised:
        studio.train(CONFIG, out=tmp_path / "run", quiet=True, on_log=on_log)
    assert raised.value is error and calls == list(range(1, 8))
    goes_on_as_if_undisturbed(tmp_path / "run", 7, whole)


def test_an_error_between_steps_does_not_lose_the_run(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studio.training.batches import Feed

    steps = Feed.steps

    def failing(self: Feed, update: Any, number: int, step: int, *rest: Any) -> Any:
        for k, work in enumerate(steps(self, update, number, step, *rest), step):
            if k == 6:
                raise OSError("the disk of the data is gone")
            yield work

    monkeypatch.setattr(Feed, "steps", failing)
    with pytest.raises(OSError, match="is gone"):
        studio.train(CONFIG, out=tmp_path / "run", quiet=True)
    monkeypatch.undo()
    goes_on_as_if_undisturbed(tmp_path / "run", 6, whole)


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_second_signal_ends_the_process(
    number: signal.Signals, kind: type[BaseException], tmp_path: Path
) -> None:
    def twice(line: dict[str, Any]) -> None:
        if line["step"] == 3:
            os.kill(os.getpid(), number)

    class Slow(torch.utils.data.Dataset[Tensor]):
        def __len__(self) -> int:
            return 64

        def __getitem__(self, i: int) -> Tensor:
            return torch.tensor([0.1 * (i % 7), 0.2])

    before = signal.getsignal(number)
    import studio.checkpoints.checkpoint as checkpoint

    with pytest.MonkeyPatch.context() as patch, pytest.raises(kind):
        # while the checkpoint is written
        patch.setattr(checkpoint, "save", lambda *a, **k: os.kill(os.getpid(), number))
        studio.train(CONFIG, data=Slow(), out=tmp_path / "run", quiet=True, on_log=twice)
    assert signal.getsignal(number) is before and not (tmp_path / "run" / ".lock").exists()


def test_a_scripts_own_handler_is_called_too(tmp_path: Path) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        ends = lambda line: os.kill(os.getpid(), signal.SIGTERM) if line["step"] == 4 else None  # noqa: E731
        run = studio.train(CONFIG, out=tmp_path / "run", quiet=True, on_log=ends)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert run.interrupted and run.step == 4 and seen == [signal.SIGTERM]


def test_a_signal_while_the_last_checkpoint_is_written_is_only_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studio.checkpoints import checkpoint

    save = checkpoint.save
    monkeypatch.setattr(
        checkpoint, "save", lambda *a, **k: (os.kill(os.getpid(), signal.SIGINT), save(*a, **k))[1]
    )
    run = studio.train(CONFIG, ["train.steps=3"], out=tmp_path / "run", quiet=True)
    assert (run.step, run.interrupted) == (3, True) and checkpoints(run.folder) == [3]


SCRIPT = """
import sys, studio
sys.path += {tests!r}
from tiny import points_config
for k in range(3):
    run = studio.train(points_config(steps=10**6, log_every=1, schedule="constant"), out=f"run-{{k}}", \
device="cpu")
    print(k, run.interrupted, flush=True)
    if run.interrupted:
        break
"""


def begin(script: str, tmp_path: Path) -> Process:
    (tmp_path / "loop.py").write_text(script.format(tests=[str(Path(__file__).parents[k]) for k in (1, 2)]))
    return Process(["loop.py"], cwd=tmp_path, env=environment())


def until_it_trains(process: Process, log: Path) -> None:
    end = time.monotonic() + 120
    while not (log.is_file() and log.stat().st_size) and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "code"),
    [pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow), (signal.SIGINT, -signal.SIGINT)],
)
def test_a_loop_that_goes_on_ends_with_the_second_signal_and_nothing_is_lost(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    process = begin(SCRIPT.replace("if run.interrupted:\n        break", "pass"), tmp_path)
    for k in range(2):
        until_it_trains(process, tmp_path / f"run-{k}" / "metrics.jsonl")
        process.send_signal(number)
    out, error = process.communicate(timeout=120)
    assert process.returncode == code and out == "0 True\n" and not (tmp_path / "run-2").exists(), error
    for k in range(2):
        (step,) = checkpoints(tmp_path / f"run-{k}")
        assert [line["step"] for line in metrics(tmp_path / f"run-{k}")][-1] == step
    assert not (tmp_path / "run-1" / ".lock").exists()


def test_one_signal_counts_once_for_contexts_within_each_other() -> None:
    with StopSignal() as outer:
        with StopSignal() as inner:
            os.kill(os.getpid(), signal.SIGINT)
        assert inner.asked and outer.asked
    with pytest.raises(KeyboardInterrupt):
        with StopSignal() as later:
            os.kill(os.getpid(), signal.SIGINT)
            assert later.asked


def test_a_loop_ends_by_what_the_run_says(tmp_path: Path) -> None:
    process = begin(SCRIPT, tmp_path)
    until_it_trains(process, tmp_path / "run-0" / "metrics.jsonl")
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=120)
    assert out == "0 True\n" and process.returncode == 0, error
    assert "a second signal ends the process" in error and not (tmp_path / "run-1").exists()
    shutil.rmtree(tmp_path / "run-0")
