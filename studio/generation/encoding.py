"""PNGs of many samples at once: by several threads where pictures are large, as packing lets go of the
interpreter; small ones only wait for it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from studio.generation.seal import sealed
from studio.runtime.devices import cores
from studio.sampling.samples import png_bytes
from studio.tasks.base import Task

LARGE = 64 * 64 * 3  # values of a picture from which threads pay


def threads_for(values: Tensor, device: torch.device) -> int:
    """Threads that may encode samples (n, ...) of a model on ``device``: on a CPU those that the network has,
    of a picture that is large enough."""
    if values[0].numel() < LARGE:
        return 1
    return cores() if device.type == "cuda" else torch.get_num_threads()


def spread(act: Callable[[Any], Any], jobs: Iterable[Any], threads: int) -> Iterator[Any]:
    """``map(act, jobs)`` by so many threads, in order; what one raises is raised here."""
    if threads == 1:
        yield from map(act, jobs)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="encoder") as pool:
        yield from pool.map(act, jobs)


def encoded(task: Task, values: Tensor, recipes: Sequence[dict[str, Any]], threads: int = 1) -> list[bytes]:
    """Decoded samples as PNGs with their recipes and digests inside."""
    pairs = zip(task.pictures(values), recipes, strict=True)
    return list(spread(lambda pair: sealed(png_bytes(*pair)), pairs, threads))
