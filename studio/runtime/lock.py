"""One process trains in a run folder: ``RUN/.lock`` names it by host and pid.

A process of this host is asked for by pid and the time that it began (pids are used again). Whether one of
another host, or of another container, still lives is told by the lock's own time, which its holder renews. A
lock of a process that has ended is taken over, and told.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

NAME = ".lock"
# seconds: how often a lock is renewed, and after how long without it its holder is gone
RENEWED, SILENT = 10.0, 60.0
SAME_START = 60.0  # seconds by which two readings of when a process began may differ where clocks are set


class Taken(ValueError):
    """The folder is another process's."""


class RunLock:
    """Holds a run folder from ``__enter__`` to ``__exit__``; makes the folder where it is missing, and
    removes it again where nothing was written to it.

    ``told`` says what was taken over. ``check`` raises where another process has taken over in the meantime:
    nothing may be written then.
    """

    def __init__(self, folder: Path):
        self.folder, self.path, self.told, self._beat = folder, folder / NAME, "", threading.Event()
        self._entry = _entry()

    def __enter__(self) -> "RunLock":
        self._made = [p for p in (self.folder, *self.folder.parents) if not p.exists()]
        try:
            self._claim()
        except BaseException:
            self._leave_no_folder()
            raise
        threading.Thread(target=self._renew, daemon=True).start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._beat.set()
        if self.path.is_file():
            with _exclusive(self.path) as handle:
                if _parsed(handle.read()) == self._entry:
                    self.path.unlink(missing_ok=True)
        self._leave_no_folder()

    def _claim(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with _exclusive(self.path) as handle:
            text = handle.read()
            there = _parsed(text)
            if there is not None and (who := _alive(there, self.path)):
                raise Taken(
                    f"{self.folder} is being trained by {_named(there)}{who}, expected a run that no "
                    "other process trains; "
                    "wait until it ends, or choose another --out"
                )
            if text.strip("\0\n "):
                who = (
                    "a process that is not readable"
                    if there is None
                    else f"{_named(there)} since {there['since']}, which has ended"
                )
                self.told = f"{self.folder} was locked by {who}; taken over"
            handle.seek(0)
            handle.truncate()
            handle.write(json.dumps(self._entry) + "\n")
            handle.flush()
            os.fsync(handle.fileno())

    def check(self) -> None:
        """Raises `Taken` where the lock is another's now, as after a long sleep of this machine."""
        there = _read(self.path)
        if there is not None and there != self._entry:
            raise Taken(
                f"{self.folder} was taken over by {_named(there)} while this process was not seen for "
                f"{SILENT:.0f} s; nothing more is written"
            )

    def _leave_no_folder(self) -> None:
        for folder in self._made:
            try:
                folder.rmdir()
            except OSError:  # something is in it
                return

    def _renew(self) -> None:
        while not self._beat.wait(RENEWED):
            if _read(self.path) == self._entry:
                with contextlib.suppress(OSError):  # for now; `check` looks before anything is written
                    os.utime(self.path)


def holder(folder: Path) -> str | None:
    """Who trains in a folder, in words; None for nobody."""
    there = _read(folder / NAME)
    return _named(there) if there is not None and _alive(there, folder / NAME) else None


def _entry() -> dict[str, Any]:
    me = psutil.Process()
    return {
        "host": socket.gethostname(),
        "pid": me.pid,
        "began": me.create_time(),
        "space": _space(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "token": uuid.uuid4().hex,
    }


def _space() -> str:
    """Where a pid means a process: the boot of a machine, and a container's own numbers. Empty where the
    system does not tell."""
    try:
        return (
            f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} "
            f"{os.readlink('/proc/self/ns/pid')}"
        )
    except OSError:
        return ""


def _alive(there: dict[str, Any], path: Path) -> str:
    """Why the holder counts as alive, to follow its name; empty where it has ended."""
    if (there["host"], there["space"]) == (socket.gethostname(), _space()):
        try:
            process = psutil.Process(there["pid"])
            running = (
                process.status() != psutil.STATUS_ZOMBIE
                and abs(process.create_time() - there["began"]) < SAME_START
            )
            return f" since {there['since']}" if running else ""
        except psutil.NoSuchProcess:
            return ""
        except psutil.AccessDenied:
            return f" since {there['since']}"
    silent = _now(path.parent) - path.stat().st_mtime
    return (
        f" since {there['since']} (its last sign of life is {max(silent, 0):.0f} s old; it counts as "
        f"ended after {SILENT:.0f})"
        if silent < SILENT
        else ""
    )


def _now(folder: Path) -> float:
    """The time by the clock of the folder's file system."""
    probe = folder / f"{NAME}.{uuid.uuid4().hex}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _named(there: dict[str, Any]) -> str:
    mine = there["pid"] == os.getpid() and there["host"] == socket.gethostname()
    return f"process {there['pid']} on {there['host']}" + (", which is this one" if mine else "")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return _parsed(path.read_text())
    except (OSError, ValueError):
        return None


def _parsed(text: str) -> dict[str, Any] | None:
    """None for an empty or cut lock: one that was being written when its machine stopped."""
    try:
        there = json.loads(text)
    except ValueError:
        return None
    kinds = {"host": str, "pid": int, "began": float, "space": str, "since": str, "token": str}
    good = isinstance(there, dict) and all(isinstance(there.get(k), kind) for k, kind in kinds.items())
    return there if good and there["pid"] > 0 else None


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[Any]:
    """The file, open, while no other process looks at it in this way (where the file system has such
    locks)."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)  # whoever made it may just have removed it
        with open(
            os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+", encoding="utf-8", errors="replace"
        ) as handle:
            _flock(handle)
            try:
                same = os.path.samestat(os.fstat(handle.fileno()), os.stat(path))
            except FileNotFoundError:
                same = False
            if same:
                yield handle
                return


def _flock(handle: Any) -> None:
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX)
    except (ImportError, OSError):  # no such locks here: what is left is a moment between two processes
        pass
