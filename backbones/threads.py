"""What compiled kernels need of torch: a tensor's memory, and a range shared out among as many threads as torch uses. The kernels hold no lock, and several callers at once are
safe, unlike with numba's own threads."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

_pools: dict[int, ThreadPoolExecutor] = {}  # by process: a forked one makes its own
_lock = threading.Lock()


def flat(x: Tensor) -> np.ndarray:
    """The memory from a tensor's first number to its last as a one-dimensional array, whatever its (positive) strides: kernels index it by them."""
    span = 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride()))
    return torch.as_strided(x, (span,), (1,), x.storage_offset()).numpy()


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
