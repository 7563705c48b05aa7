"""What a training run needs of its group of processes, and the trackers that Accelerate knows."""

import gc
from collections.abc import Sequence

import torch


def leave_group() -> None:
    """Join the group's threads while the interpreter still lives; one that lets go of a tensor later aborts the process (gloo)."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    gc.collect()  # wrapped networks hold the group too


def trackers_named(names: Sequence[str]) -> list[str]:
    """Accelerate's trackers by name; raises ``ValueError`` for one that is not installed."""
    if not names:
        return []
    from accelerate.tracking import get_availabletrackers_named

    there = [str(t) for t in get_availabletrackers_named()]
    for name in names:
        if name not in there:
            raise ValueError(f"got tracker {name!r}, which is not installed; there is {', '.join(there) or 'none'}. metrics.jsonl is always written")
    return list(names)
