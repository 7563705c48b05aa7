"""The processes that torchrun or accelerate has started for one set of samples."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch

PATIENCE = timedelta(days=365)  # of processes that wait for one another: the work of one may take days longer


class Group:
    """The processes of torchrun or accelerate, if there are any: the first one acts, the others follow, and
    wait for it as long as it takes (`PATIENCE`)."""

    def __init__(self, rank: int, world: int):
        self.rank, self.world, self.own = rank, world, world > 1 and not torch.distributed.is_initialized()
        if self.own:
            torch.distributed.init_process_group("gloo", timeout=PATIENCE)
        self.group = (
            torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
            if world > 1 and not self.own
            else None
        )

    def share(self, value: Any) -> Any:
        """The first process's value, everywhere."""
        if self.world == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def first(self, act: Callable[[], Any] | None) -> Any:
        """What the first process finds; an error of its raises everywhere."""
        found: Any = None
        error: Exception | None = None
        if act is not None:
            try:
                found = act()
            except Exception as caught:
                error = caught
        found, error = self.share((found, error))
        if error is not None:
            raise error
        return found

    def sum(self, count: int) -> int:
        """Of all processes; waits for the slowest."""
        if self.world == 1:
            return count
        counts = [0] * self.world
        torch.distributed.all_gather_object(counts, count, group=self.group)
        return sum(counts)

    def end(self) -> None:
        """Take the group down together; a process that is simply gone makes the others abort."""
        if self.world > 1:
            torch.distributed.barrier(group=self.group)
        if self.own:
            torch.distributed.destroy_process_group()
