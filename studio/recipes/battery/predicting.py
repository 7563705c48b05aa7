"""Curves of cells by a model, and how good they are beside the exact posterior and simple ones."""

from typing import Any

import numpy as np

from studio.recipes.battery.cells import end_of_life
from studio.recipes.battery.measures import foretold, health_error


def predicted(
    model: Any,
    matrices: np.ndarray,
    draws: int = 32,
    *,
    curves: np.ndarray | None = None,
    points: int = 0,
    seed: int = 0,
    **options: Any,
) -> np.ndarray:
    """(N, draws, 256) curves in percent of cells with these matrices (N, 20, 50), each of seeds of its own
    from ``seed`` on; of ``curves`` (N, 256) the first ``points`` are known. ``options`` as of
    `Model.sample`. Samples are taken as they come: none is chosen by how well it fits what was measured."""
    made = []
    for i, matrix in enumerate(matrices):
        seeds = range(seed + i * draws, seed + (i + 1) * draws)
        if curves is not None and points:
            options |= {"known": np.arange(curves.shape[1]) < points, "given": curves[i]}
        made.append(model.sample(conditions={"matrix": matrix}, seeds=seeds, batch=draws, **options).values)
    return np.stack([m.numpy() for m in made])


def judged(
    model: Any, cells: dict[str, np.ndarray], draws: int = 32, *, points: int = 0, **options: Any
) -> tuple[dict[str, float], np.ndarray]:
    """Measures of predictions for simulated cells (`studio.recipes.battery.measures`), and the curves."""
    made = predicted(model, cells["matrix"], draws, curves=cells["curve"], points=points, **options)
    found = foretold(end_of_life(made), cells["end_of_life"])
    return found | {"health_rmse": health_error(made, cells["curve"])}, made


def kept_to_the_bit(made: np.ndarray, curves: np.ndarray, points: int) -> bool:
    """Whether the first points of all draws (N, M, L) are those that were given."""
    return bool((made[:, :, :points] == curves[:, None, :points].astype(made.dtype)).all())
