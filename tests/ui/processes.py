"""A page in a process of its own, as `studio ui` serves it."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from warm import Process

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Page:
    url: str
    out: Path
    process: Process


@contextmanager
def paged(models: str, home: Path, port: int = 0) -> Iterator[Page]:
    """The page over a folder of models, at a free port or a certain one; its pictures lie below ``home``. One
    that was not killed ends by Ctrl-C, and nowhere with a traceback."""
    port = port or free()
    said = {"--models": models, "--out": home / "out", "--port": port, "--threads": 1}
    words = ["-m", "studio", "ui", *(str(word) for pair in said.items() for word in pair)]
    process = Process(words, cwd=home, env={**os.environ, "PYTHONPATH": str(ROOT)})
    until(lambda: answers(port) or process.poll() is not None, 120)
    assert process.poll() is None, process.told()
    yield Page(f"http://127.0.0.1:{port}/", home / "out", process)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert "Traceback" not in "".join(process.told())


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(done: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)
