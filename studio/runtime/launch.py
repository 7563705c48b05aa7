"""Which process of a group this one is: as launchers say it, and as the variables of a batch system say it
where a caller asks for them."""

import os
import re
from collections.abc import Mapping

import torch

LAUNCHERS = ("TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION")  # torchrun and accelerate launch


def launched() -> tuple[int, int]:
    """(rank, number) of the processes of torchrun or accelerate that this one belongs to; (0, 1) where it is
    alone. ``RANK`` and ``WORLD_SIZE`` by themselves say nothing: batch scripts set them for other reasons."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ and any(k in os.environ for k in LAUNCHERS):
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return 0, 1


def shard_of(variables: Mapping[str, str]) -> tuple[int, int]:
    """(k, n), k from 1, of ``RANK`` and ``WORLD_SIZE``, or else of Slurm's: the place in an array of jobs and
    in the tasks of each. Raises ``ValueError`` where neither is there, or they do not say which of how many
    this is."""

    def number(name: str) -> int:
        text = variables[name].strip()
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise ValueError(f"got {name}={text!r}, expected a whole number; give the shard as K/N")
        return int(text)

    def pair(rank: str, world: str) -> tuple[int, int]:
        if rank not in variables or world not in variables:
            lone = rank if rank in variables else world
            raise ValueError(
                f"got {lone} without {world if lone == rank else rank}, expected both; give the shard as K/N"
            )
        k, n = number(rank), number(world)
        if k >= n:
            raise ValueError(
                f"got {rank}={k} and {world}={n}, expected a number from 0 to {n - 1}; give the shard as K/N"
            )
        return k, n

    if "RANK" in variables or "WORLD_SIZE" in variables:
        k, n = pair("RANK", "WORLD_SIZE")
        return k + 1, n
    tasks = "SLURM_PROCID" in variables or "SLURM_NTASKS" in variables
    array = "SLURM_ARRAY_TASK_ID" in variables
    if not tasks and not array:
        raise ValueError(
            "got shard 'env', but neither RANK and WORLD_SIZE nor Slurm's SLURM_PROCID and SLURM_NTASKS "
            "(or SLURM_ARRAY_TASK_ID) are set; give it as K/N, such as 3/8"
        )
    k, n = pair("SLURM_PROCID", "SLURM_NTASKS") if tasks else (0, 1)
    if array:
        names = (
            "SLURM_ARRAY_TASK_ID",
            "SLURM_ARRAY_TASK_MIN",
            "SLURM_ARRAY_TASK_MAX",
            "SLURM_ARRAY_TASK_COUNT",
        )
        if lacking := [name for name in names if name not in variables]:
            raise ValueError(
                f"got SLURM_ARRAY_TASK_ID without {lacking[0]}, expected all of an array's variables; "
                "give the shard as K/N"
            )
        place, first, last, count = map(number, names)
        step = (last - first) // (count - 1) if count > 1 else 1
        if not first <= place <= last or first + step * (count - 1) != last or (place - first) % max(step, 1):
            raise ValueError(
                f"got an array of {count} jobs from {first} to {last}, expected evenly spaced ones; give "
                "the shard as K/N"
            )
        k, n = (place - first) // max(step, 1) * n + k, count * n
    return k + 1, n
