"""``python warm_process.py wait PLACE`` loads what tests use and answers at a socket: what is started there
is a fork of it. ``python warm_process.py be PLACE WORDS`` is such a fork, to whoever started it."""

import atexit
import gc
import json
import os
import select
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any


class Fork:
    """``python WORDS`` with three files as its input, output and error."""

    def __init__(self, place: str, words: Sequence[str], cwd: str, env: Mapping[str, str], *files: int):
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(place)
        request = json.dumps({"words": list(words), "cwd": cwd, "env": dict(env)}).encode()
        socket.send_fds(self._line, [len(request).to_bytes(8, "little")], files)
        self._line.sendall(request)
        self.pid = int(self._line.recv(64))
        self._end = os.pidfd_open(self.pid)  # readable when it has ended: nobody looks again and again

    def __del__(self) -> None:
        os.close(self._end)

    def ended(self, seconds: float | None) -> int | None:
        """Its exit code, where it ends within this time."""
        if not select.select([self._end], [], [], seconds)[0]:
            return None
        self._line.sendall(b"?")
        return int(self._line.recv(64))


def stay(place: str) -> socket.socket:
    """As long as it is open, the waiting process waits."""
    line = socket.socket(socket.AF_UNIX)
    line.connect(place)
    line.sendall(bytes(8))
    return line


def worker_command(place: str) -> tuple[str, ...]:
    """For workers of a ``studio generate`` that is a fork: they are forks too, with the pipes they get."""
    return sys.executable, "-IS", __file__, "be", place, "-m", "studio.generation.workers"


def _become(place: str, request: dict[str, Any], files: Sequence[int]) -> None:
    """In the fork: what was asked for, as a fresh interpreter would run it."""
    import signal
    from pathlib import Path
    from runpy import run_module, run_path

    import numpy as np

    import studio.generation.workers

    for k, fd in enumerate(files):
        os.dup2(fd, k)
        os.close(fd)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    np.random.seed()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    studio.generation.workers.COMMAND = worker_command(place)
    what, *rest = words = request["words"]
    ahead = {"-m": os.getcwd(), "-c": ""}.get(what, str(Path(what).resolve().parent))
    sys.path[:1] = [ahead, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    if what == "-m":
        sys.argv = rest
        run_module(rest[0], run_name="__main__", alter_sys=True)
    elif what == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = words
        run_path(what, run_name="__main__")


def _end(code: int) -> None:
    """As a fork of multiprocessing ends: without taking apart what it shares, which takes half a second.
    Where an exception ends it, it is as in a fresh interpreter."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _wait(place: str) -> None:
    """Loads what is needed, then answers as long as somebody stays."""
    import accelerate  # noqa: F401
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401
    import torch

    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])  # loads a thousand modules
    import studio.cli.main
    import studio.generation.engine
    import studio.training.run  # noqa: F401

    studio.load("fashion-dit").sample(seeds=[0], num_steps=1)  # loads the compiled loops as well
    assert len(os.listdir("/proc/self/task")) == 1, "a fork has no threads but its own"
    gc.collect()
    gc.freeze()  # forks share what is here, and do not look through it when they end: two seconds each

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place + "~")
    listener.listen(64)
    os.rename(place + "~", place)  # there when it answers
    lines: dict[socket.socket, int] = {}
    staying: set[socket.socket] = set()
    while True:
        ready, _, _ = select.select([listener, *lines, *staying], [], [], None if staying else 60)
        for line in ready:
            if line is listener:
                line, _ = listener.accept()
                message, files, _, _ = socket.recv_fds(line, 8, 3)
                size = int.from_bytes(message, "little")
                if not size:
                    staying.add(line)
                    continue
                request = json.loads(line.recv(size, socket.MSG_WAITALL))
                lines[line] = os.fork()
                if not lines[line]:
                    for other in (listener, *lines, *staying):
                        other.close()
                    try:
                        _become(place, request, files)
                    except SystemExit as stop:
                        if not isinstance(stop.code, int | None):
                            raise
                        _end(stop.code or 0)
                    _end(0)
                for fd in files:
                    os.close(fd)
                line.sendall(str(lines[line]).encode())
            elif line in staying:
                staying.remove(line)
                line.close()
            elif line.recv(1):
                _, status = os.waitpid(lines[line], 0)
                line.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            else:  # nobody asks any more
                line.close()
                del lines[line]
        if not staying:
            os.unlink(place)
            os.rmdir(os.path.dirname(place))
            return


def _be(place: str, words: Sequence[str]) -> None:
    code = Fork(place, words, os.getcwd(), os.environ, 0, 1, 2).ended(None)
    sys.exit(code if code is not None and code >= 0 else 1)


if __name__ == "__main__":
    {"wait": lambda: _wait(sys.argv[2]), "be": lambda: _be(sys.argv[2], sys.argv[3:])}[sys.argv[1]]()
