"""Simulations to train a posterior on: drawn as training goes, so that none comes twice."""

from typing import Any

import numpy as np
import torch

from studio.data.arrays import Arrays, Data, content_hash
from studio.data.conditions import Field, column_of, fitted, kind_of
from studio.data.simulated import BLOCK, Simulated
from studio.tasks import build

OBSERVATIONS = "observations"  # the field that holds them
FIRST = 4  # blocks that scales and ranges are taken from


def simulated(
    *,
    task: str = "posterior",
    pooling: str = "mean",
    waves: int = 6,
    width: int | None = None,
    held_out: int = 2048,
    seed: int = 0,
) -> Data:
    """Simulations of a task (`studio list tasks`) without an end; options as in `data_of`."""
    return data_of(build(task), pooling=pooling, waves=waves, width=width, held_out=held_out, seed=seed)


def data_of(
    task: Any,
    *,
    pooling: str = "mean",
    waves: int = 6,
    width: int | None = None,
    held_out: int = 2048,
    seed: int = 0,
) -> Data:
    """Simulations of a `studio.recipes.posterior.task.PosteriorTask` without an end, block after block from
    ``seed``, and ``held_out`` ones that are kept from training. ``pooling`` (mean or attention), ``waves``
    and ``width`` are those of the encoder (`backbones.row_encoders.SetEncoder`). Raises ``ValueError`` for a
    task that simulates nothing."""
    if not hasattr(task, "observe"):
        raise ValueError(f"got the task {task.name}, which simulates nothing, expected one that does")
    first = task.simulate(FIRST * BLOCK, seed=_seed(seed, 1))
    options: dict[str, Any] = {"pooling": pooling}
    options |= {"width": width} if width else {}
    options |= {"waves": waves, "along": list(task.along)} if waves and task.along else {}
    options |= {"logs": list(task.logs)} if task.logs else {}
    field = Field(OBSERVATIONS, "set", names=tuple(task.columns), options=options)
    field, _ = fitted(field, first[OBSERVATIONS], np.arange(len(first["values"])))
    kept = task.simulate(held_out, seed=_seed(seed, 0)) if held_out else None
    mean, std = (f(first["values"], 0, dtype=np.float64) for f in (np.mean, np.std))
    codec = {
        "name": "columns",
        "mean": mean.tolist(),
        "std": np.where(std > 0, std, 1.0).tolist(),
        "names": list(task.parameters),
    }

    def block(k: int) -> Arrays:
        made = task.simulate(BLOCK, seed=_seed(seed, FIRST + k))
        rows = kind_of(field).seen(field, torch.from_numpy(made[OBSERVATIONS]))
        return Arrays(made["values"], named={OBSERVATIONS: rows.numpy()})

    return Data(
        task.name,
        task.name,
        tuple(first["values"].shape[1:]),
        Simulated(block),
        None
        if kept is None
        else Arrays(kept["values"], named={OBSERVATIONS: column_of(field, kept[OBSERVATIONS])}),
        codec=codec,
        hash=content_hash(first["values"], first[OBSERVATIONS]),
        fields=(field,),
    )


def _seed(seed: int, part: int) -> int:
    """Of a part of the simulations: 0 is held out, 1 what scales are taken from, then the blocks."""
    return int(np.random.SeedSequence([seed, part]).generate_state(1, np.uint64)[0])
