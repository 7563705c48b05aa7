"""`studio ui` in a process of its own, for measures."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 120.0  # seconds
WINDOW = {"width": 1400, "height": 900}


@dataclass(frozen=True)
class Served:
    """A page that runs: its address, and seconds from the start of its process to its first answer."""

    url: str
    seconds: float


@contextlib.contextmanager
def served(out: Path, models: Path) -> Iterator[Served]:
    """`studio ui` over a folder of outputs, until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url, began = f"http://127.0.0.1:{port}", time.perf_counter()
    command = [sys.executable, "-m", "studio", "ui", "--out", out, "--models", models, "--port", port]
    usual = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}  # compiled files are kept
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL, env=usual)
    try:
        while True:
            try:
                urllib.request.urlopen(url, timeout=PATIENCE).close()
                break
            except OSError:
                if process.poll() is not None or time.perf_counter() - began > PATIENCE:
                    raise RuntimeError(f"the page did not start in {PATIENCE:.0f} s") from None
                time.sleep(0.02)
        yield Served(url, time.perf_counter() - began)
    finally:
        process.terminate()
        process.wait()
