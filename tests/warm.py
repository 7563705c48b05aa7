"""Processes of their own that need not load torch first: one waits with everything loaded, and what is
started is a fork of it. It is killed, signalled and waited for like any other; what a fresh interpreter does
is for ``subprocess``."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import warm_process
from warm_process import Fork

_open: list[socket.socket] = []


@cache
def place() -> str:
    """Where the waiting process is asked, one of all processes of this run; it ends with the last of them."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"alone-{os.getpid()}")
    found = Path(tempfile.gettempdir(), f"warm-{run}", "s")
    try:
        found.parent.mkdir(mode=0o700)
    except FileExistsError:  # another one begins it
        pass
    else:
        subprocess.Popen(
            [sys.executable, warm_process.__file__, "wait", found],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    end = time.monotonic() + 120
    while not found.exists():
        assert time.monotonic() < end, "the waiting process does not begin"
        time.sleep(0.02)
    _open.append(warm_process.stay(str(found)))
    return str(found)


class Process:
    """``python WORDS``, where they are ``-m MODULE ...``, ``-c CODE ...`` or ``SCRIPT ...``; the rest as
    subprocess.Popen with text."""

    def __init__(self, words: Sequence[object], *, cwd: Path, env: Mapping[str, str]):
        self.args = list(map(str, words))
        self.returncode: int | None = None
        self._told = [tempfile.TemporaryFile(), tempfile.TemporaryFile()]  # noqa: SIM115
        with open(os.devnull) as nothing:
            files = (nothing.fileno(), *(f.fileno() for f in self._told))
            self._fork = Fork(place(), self.args, str(cwd), env, *files)
        self.pid = self._fork.pid

    def poll(self, seconds: float | None = 0) -> int | None:
        if self.returncode is None:
            self.returncode = self._fork.ended(seconds)
        return self.returncode

    def wait(self, timeout: float = 240) -> int:
        if self.poll(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout, *self.told())
        assert self.returncode is not None
        return self.returncode

    def told(self) -> tuple[str, str]:
        """Standard output and error so far."""
        # without moving the place where the process writes, which it shares
        out, error = (os.pread(f.fileno(), os.fstat(f.fileno()).st_size, 0).decode() for f in self._told)
        return out, error

    def communicate(self, timeout: float = 240) -> tuple[str, str]:
        self.wait(timeout)
        return self.told()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(words: Sequence[object], *, cwd: Path, env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """To its end."""
    process = Process(words, cwd=cwd, env=env)
    out, error = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode or 0, out, error)


def together(
    words: Sequence[object], *, cwd: Path, env: Mapping[str, str], count: int = 2
) -> "subprocess.CompletedProcess[str]":
    """As many processes as a launcher would start, which ends all where one fails; what
    they told together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    group |= {"MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "none"}  # by which a launcher is known
    processes = [
        Process(words, cwd=cwd, env={**env, **group, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(count)
    ]
    codes: list[int] = []
    try:
        end = time.monotonic() + 240
        while any(p.poll() is None for p in processes) and not any(p.returncode for p in processes):
            assert time.monotonic() < end, [p.told() for p in processes]
            time.sleep(0.02)
        end = time.monotonic() + 2
        while any(p.poll() is None for p in processes) and time.monotonic() < end:
            time.sleep(0.02)
        codes = [p.returncode or 0 for p in processes]
    finally:
        for p in processes:
            p.send_signal(signal.SIGKILL)
            p.wait()
    out, error = ("".join(texts) for texts in zip(*(p.told() for p in processes)))
    return subprocess.CompletedProcess(processes[0].args, next(filter(None, codes), 0), out, error)
