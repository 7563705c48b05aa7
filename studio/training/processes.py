"""What a training run needs of its group of processes: what they agree on between steps, buffers in
common."""

import atexit
import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from studio.config import DDPConfig

PAUSE, MOST = 0.5, 10  # processes meet about every half second, and after so many steps at the latest


class Group:
    """The processes of a run. `Accelerator`, and what all of them must know alike: ``elapsed``, the first
    process's clock as it was told at the last meeting, and so whatever follows from it (learning rate, ends
    of phases and of the run); whether one was asked to stop; whether a loss broke."""

    def __init__(
        self, device: torch.device, dtype: torch.dtype, folder: Path, trackers: Sequence[str], ddp: DDPConfig
    ):
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs

        self.accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision="fp16" if dtype == torch.float16 else "no",
            log_with=list(trackers) or None,
            project_dir=str(folder),
            # `share_buffers` does
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, **asdict(ddp))],
        )
        self.world, self.rank, self.main = (
            self.accelerator.num_processes,
            self.accelerator.process_index,
            self.accelerator.is_main_process,
        )
        self.device = self.accelerator.device
        self.elapsed, self.next = 0.0, 0
        self._at = 0
        if self.world > 1:
            atexit.unregister(leave_group)
            atexit.register(leave_group)

    def start(self, step: int, elapsed: float) -> None:
        """At a step that all processes know, with the time that it had then."""
        self.elapsed, self._at, self.next = elapsed, step, step + 1

    def meet(self, step: int, elapsed: float, *, stop: bool, broken: bool) -> tuple[bool, bool]:
        """One reduction: takes over the first process's clock; whether any process was asked to stop, and
        whether any loss broke."""
        told = torch.tensor(
            [elapsed if self.main else 0.0, float(stop), float(broken)],
            dtype=torch.float64,
            device=self.device,
        )
        elapsed, stops, breaks = self.accelerator.reduce(told, "sum").tolist()
        pace = (elapsed - self.elapsed) / max(step - self._at, 1)
        self.elapsed, self._at = elapsed, step
        self.next = step + max(1, min(MOST, int(PAUSE / max(pace, 1e-6))))
        return stops > 0, breaks > 0

    def share_buffers(self, networks: Sequence[nn.Module]) -> None:
        """The first process's buffers (running statistics) for all."""
        if self.world > 1:
            with torch.no_grad():
                for net in networks:
                    for buffer in net.buffers():
                        torch.distributed.broadcast(buffer, 0)

    def refuse_unused(self, net: nn.Module) -> None:
        """After a backward pass of every process by itself. Raises ``ValueError`` on all of them for
        parameters that got no gradient on one: DistributedDataParallel would wait for it."""
        from accelerate.utils import gather_object

        mine = [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]
        names = list(dict.fromkeys(gather_object(mine)))
        if names:
            rest = f" and {len(names) - 8} more" if len(names) > 8 else ""
            raise ValueError(
                f"got a network that does not use its parameters {', '.join(names[:8])}{rest}, expected a "
                "gradient for all of them on several processes; set "
                "train.ddp.find_unused_parameters=true, or take them out (requires_grad_(False))"
            )


def is_first() -> bool:
    """Whether this process speaks and writes for its group, as those who start groups (torchrun, MPI) say it;
    also before the group has met."""
    ranks = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
    return next((os.environ[k] for k in ranks if k in os.environ), "0") == "0"


def leave_group() -> None:
    """Join the group's threads while the interpreter still lives; one that lets go of a tensor later aborts
    the process (gloo)."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    gc.collect()  # wrapped networks hold the group too


def agreed(make: Callable[[], Any], *, cpu: bool) -> Any:
    """What the first process makes, for all of them; its error too. Alone, simply ``make()``."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return make()
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    found: list[Any] = [None, None]
    if PartialState(cpu=cpu).is_main_process:
        try:
            found[0] = make()
        except Exception as error:
            found[1] = error
    made, failed = broadcast_object_list(found)
    if failed is not None:
        raise failed
    return made
