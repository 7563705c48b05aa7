"""This machine: what its processor can multiply, as figures of speed hold for its class, and what was
measured on it once and is kept."""

import contextlib
import json
import os
import platform
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch


@cache
def instructions() -> str:
    """The class of this machine's processor: ``amx`` (bf16 tiles), ``avx512-bf16``, ``avx512``, ``avx2``, or
    the name of another kind."""
    ask = {
        "amx": getattr(torch.cpu, "_is_amx_tile_supported", None),
        "avx512-bf16": getattr(torch.cpu, "_is_avx512_bf16_supported", None),
    }
    for name, known in ask.items():
        if known is not None and known():
            return name
    found = torch.backends.cpu.get_cpu_capability().lower()
    return found if found.startswith("avx") else platform.machine()


@cache
def model_name() -> str:
    """As the processor calls itself."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith(("model name", "Hardware")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cache_home() -> Path:
    """Where things are kept that can be made again: XDG_CACHE_HOME (or ~/.cache) / drift-studio."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drift-studio"


def identity() -> dict[str, Any]:
    """What a measurement holds for."""
    return {
        "processor": model_name(),
        "instructions": instructions(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def remembered(name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``measure()`` found here before under a name, or finds now. Of several processes that measure at
    once all take what the first has written, so that they compute alike. One of another machine, version of
    torch or number of threads is not looked at."""
    threads = torch.get_num_threads()
    path = cache_home() / "measured" / f"{name}-{threads}.json"
    here = identity()
    if (found := _read(path, here)) is not None:
        return found
    made = measure()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w") as out:
            json.dump({"machine": here, "found": made}, out, indent=1)
        try:
            if path.exists() and _read(path, here) is None:
                os.replace(draft, path)  # of another machine, or damaged
            else:
                os.link(draft, path)
        except FileExistsError:
            pass  # another process was faster
        except OSError:  # a file system without links
            os.replace(draft, path)
        finally:
            Path(draft).unlink(missing_ok=True)
    return _read(path, here) or made


def _read(path: Path, here: dict[str, Any]) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        tree = json.loads(path.read_text())
        if tree["machine"] == here and isinstance(tree["found"], dict):
            return dict(tree["found"])
    return None
