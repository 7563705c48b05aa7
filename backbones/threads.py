"""A range shared out among as many threads as torch uses, for kernels that hold no lock. Safe for several callers at once, unlike numba's own."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

_pools: dict[int, ThreadPoolExecutor] = {}  # by process: a forked one makes its own
_lock = threading.Lock()


def share(count: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(first, last)`` on parts of ``range(count)``, one of them in this thread; returns when all are done."""
    parts = min(torch.get_num_threads(), count)
    if parts <= 1:
        return work(0, count)
    edges = [count * i // parts for i in range(parts + 1)]
    with _lock:
        pool = _pools.get(os.getpid())
        if pool is None:
            pool = _pools[os.getpid()] = ThreadPoolExecutor(max(parts, os.cpu_count() or 1), thread_name_prefix="kernel")
    waiting = [pool.submit(work, a, b) for a, b in zip(edges[1:-1], edges[2:])]
    work(edges[0], edges[1])
    for part in waiting:
        part.result()
