"""What compiled kernels need of torch: a tensor's memory, and a range shared out among torch's own threads.

The threads are those of the OpenMP library that torch has loaded, entered as torch enters them. Threads of
our own would share the cores with torch's, which go on spinning for some milliseconds after each of its
operations: the kernels then take twice as long (measured). Where that library is not found, a pool does it.
"""

import ctypes
import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_pools: dict[int, ThreadPoolExecutor] = {}  # by process: a forked one makes its own
_lock = threading.Lock()


def flat(x: Tensor) -> np.ndarray:
    """The memory from a tensor's first number to its last as a one-dimensional array, whatever its (positive)
    strides: kernels index it by them. Of bfloat16 the bits, in int16."""
    span = 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride()))
    line = torch.as_strided(x, (span,), (1,), x.storage_offset())
    return (line.view(torch.int16) if x.dtype == torch.bfloat16 else line).numpy()


def share(count: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(first, last)`` on parts of ``range(count)``, as many as torch has threads, one of them in
    this thread; returns when all are done, and raises what the first that failed raised. ``work`` should let
    go of the interpreter's lock."""
    parts = min(torch.get_num_threads(), count)
    if parts <= 1:
        return work(0, count)
    edges = [count * i // parts for i in range(parts + 1)]
    left, failed = itertools.count(), []

    def body(_: Any = None) -> None:
        while (part := next(left)) < parts:
            try:
                work(edges[part], edges[part + 1])
            except BaseException as error:  # raised again below: nothing may pass through C
                failed.append(error)

    parallel = openmp(os.getpid())
    if parallel is None:
        waiting = [_pool(parts).submit(body) for _ in range(parts - 1)]
        body()
        for part in waiting:
            part.result()
    else:
        parallel(BODY(body), None, parts, 0)
    if failed:
        raise failed[0]


@lru_cache(maxsize=2)
def openmp(process: int) -> Any | None:
    """``GOMP_parallel(function, data, threads, flags)`` of the library that torch has loaded; None where
    there is none, and in a forked process, which has lost that library's threads."""
    if process != _home or not hasattr(os, "RTLD_NOLOAD"):
        return None
    beside = sorted(Path(torch.__file__).parent.glob("lib/lib*omp*.so*")) + sorted(
        Path(torch.__file__).parent.glob("lib/lib*omp*.dylib")
    )
    for name in [*map(str, beside), "libgomp.so.1"]:
        try:
            library = ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
            function = library.GOMP_parallel
        except (OSError, AttributeError):
            continue
        function.argtypes, function.restype = [BODY, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
        return function
    return None


_home = os.getpid()


def _pool(parts: int) -> ThreadPoolExecutor:
    with _lock:
        if os.getpid() not in _pools:
            _pools[os.getpid()] = ThreadPoolExecutor(
                max(parts, os.cpu_count() or 1), thread_name_prefix="kernel"
            )
        return _pools[os.getpid()]
