"""Processes of their own that need not load torch first: one waits with everything loaded, and what is
started is a fork of it. It is killed, signalled and waited for like any other; what a fresh interpreter does
is for ``subprocess``."""

import atexit
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_waiting: list[tuple["subprocess.Popen[bytes]", socket.socket]] = []


def _ask(request: dict[str, Any], *fds: int) -> Any:
    """What the waiting process answers; it is started by the first question."""
    if not _waiting:
        ours, theirs = socket.socketpair()
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), str(theirs.fileno())],
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        theirs.close()
        _waiting.append((process, ours))
        atexit.register(lambda: (ours.close(), process.wait()))
    ours = _waiting[0][1]
    socket.send_fds(ours, [json.dumps(request).encode()], fds)
    return json.loads(ours.recv(1 << 10))


class Process:
    """``python WORDS``, where they are ``-m MODULE ...``, ``-c CODE ...`` or ``SCRIPT ...``; the rest as
    subprocess.Popen with text."""

    def __init__(self, words: Sequence[object], *, cwd: Path, env: Mapping[str, str]):
        self.args, self.returncode = list(map(str, words)), None
        self._told = [tempfile.TemporaryFile(), tempfile.TemporaryFile()]  # noqa: SIM115
        request = {"words": self.args, "cwd": str(cwd), "env": dict(env)}
        with tempfile.TemporaryFile() as long:  # what is asked may be longer than a message
            long.write(json.dumps(request).encode())
            long.flush()
            self.pid: int = _ask({}, long.fileno(), *(f.fileno() for f in self._told))
        self.returncode: int | None
        self._end = os.pidfd_open(self.pid)  # readable when it has ended: nobody looks again and again

    def __del__(self) -> None:
        os.close(self._end)

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._end], [], [], 0)[0]:
            self.returncode = _ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float = 240) -> int:
        select.select([self._end], [], [], timeout)
        if self.poll() is None:
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


def _become(job: int, out: int, error: int) -> None:
    """In the fork: what was asked for, as a fresh interpreter would run it."""
    with open(job, closefd=False) as file:
        file.seek(0)
        request = json.load(file)
    os.dup2(out, 1)
    os.dup2(error, 2)
    for fd in (job, out, error):
        os.close(fd)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    what, *rest = words = request["words"]
    ahead = {"-m": os.getcwd(), "-c": ""}.get(what, str(Path(what).resolve().parent))
    sys.path[:1] = [ahead, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    if what == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif what == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = words
        runpy.run_path(what, run_name="__main__")


def _wait() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    import accelerate  # noqa: F401
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401
    import numpy as np
    import torch

    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])  # loads a thousand modules
    import studio.cli.main
    import studio.generation
    import studio.model
    import studio.training.run  # noqa: F401

    while True:
        message, fds, _, _ = socket.recv_fds(channel, 1 << 10, 3)
        if not message:
            return
        request = json.loads(message)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            channel.send(json.dumps(os.waitstatus_to_exitcode(status) if pid else None).encode())
        elif pid := os.fork():
            for fd in fds:
                os.close(fd)
            channel.send(json.dumps(pid).encode())
        else:
            channel.close()
            np.random.seed()
            return _become(*fds)


if __name__ == "__main__":
    _wait()
