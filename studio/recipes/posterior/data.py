"""Simulations to train a posterior on: drawn as training goes, so that none comes twice."""

from typing import Any

import numpy as np
import torch

from studio.codecs.codec import build_codec
from studio.data.arrays import Arrays, Data, content_hash
from studio.data.conditions import Field, checked, kind_of
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
    count: int | None = None,
    seed: int = 0,
    fixed: dict[str, float] | None = None,
    nuisance: tuple[str, ...] = (),
) -> Data:
    """Simulations of a task (`studio list tasks`) without an end; options as in `data_of`. ``fixed``:
    parameters that are known, by name; ``nuisance``: those that vary but are not asked for. Raises
    ``ValueError`` for names that are none."""
    found = build(task)
    if fixed or nuisance:
        found = _simulator(found).reduced(fixed=fixed, nuisance=nuisance)
    return data_of(
        found, pooling=pooling, waves=waves, width=width, held_out=held_out, count=count, seed=seed
    )


def data_of(
    task: Any,
    *,
    pooling: str = "mean",
    waves: int = 6,
    width: int | None = None,
    held_out: int = 2048,
    count: int | None = None,
    seed: int = 0,
) -> Data:
    """Simulations of a `studio.recipes.posterior.task.PosteriorTask` without an end, block after block from
    ``seed``, and ``held_out`` ones that are kept from training. ``count``: no more than so many in all, where
    a simulator is dear; they are ``task.simulate(count, seed)``, of which the last are held out. ``pooling``
    (mean or attention), ``waves`` and ``width`` are those of the encoder
    (`backbones.row_encoders.SetEncoder`). Raises ``ValueError`` for a task that simulates nothing, and for a
    ``count`` that leaves nothing to train on."""
    if count is not None and count <= held_out:
        raise ValueError(
            f"got count={count} and held_out={held_out}, expected more simulations than are kept"
        )
    first = _simulator(task).simulate(count or FIRST * BLOCK, seed=seed if count else _seed(seed, 1))
    options: dict[str, Any] = {"pooling": pooling, "sums": True}
    options |= {"width": width} if width else {}
    options |= {"waves": waves, "along": list(task.along)} if waves and task.along else {}
    options |= {"logs": list(task.logs)} if task.logs else {}
    rows = first[OBSERVATIONS]
    counts = (~np.isnan(rows).any(-1)).sum(1)
    reach = (float(counts.min()), float(counts.max()))
    shape = (rows.shape[1], rows.shape[2])
    field = Field(OBSERVATIONS, "set", shape, tuple(task.columns), range=reach, options=options)
    field = kind_of(checked(field)).fit(field, [rows.reshape(-1, shape[1])])
    d = first["values"].shape[1]
    bounds = [task.bounds[k] for k in task.asked] if task.bounds else []
    ends = dict(zip(("low", "high"), map(list, zip(*bounds))))
    names = [task.parameters[k] for k in task.asked]
    codec = {"name": "bounded" if ends else "columns", **ends, "names": names}
    free = build_codec(codec | {"mean": [0.0] * d, "std": [1.0] * d}).encode(
        torch.from_numpy(first["values"])
    )
    codec |= {"mean": free.double().mean(0).tolist(), "std": free.double().std(0).tolist()}

    def seen(made: dict[str, np.ndarray]) -> Arrays:
        rows = kind_of(field).seen(field, torch.from_numpy(made[OBSERVATIONS]))
        return Arrays(made["values"], named={OBSERVATIONS: rows.numpy()})

    def part(number: int, size: int = BLOCK) -> Arrays:
        return seen(task.simulate(size, seed=_seed(seed, number)))

    train: Any = Simulated(lambda k: part(FIRST + k))
    kept = None
    if count is not None:
        every, left = seen(first), np.arange(count - held_out)
        train, kept = every.part(left), every.part(np.arange(len(left), count)) if held_out else None
    elif held_out:
        kept = part(0, held_out)

    return Data(
        task.name,
        task.name,
        tuple(first["values"].shape[1:]),
        train,
        kept,
        codec=codec,
        hash=content_hash(first["values"], first[OBSERVATIONS]),
        fields=(field,),
    )


def _simulator(task: Any) -> Any:
    if not hasattr(task, "observe"):
        raise ValueError(f"got the task {task.name}, which simulates nothing, expected one that does")
    return task


def _seed(seed: int, part: int) -> int:
    """Of a part of the simulations: 0 is held out, 1 what scales are taken from, then the blocks."""
    return int(np.random.SeedSequence([seed, part]).generate_state(1, np.uint64)[0])
