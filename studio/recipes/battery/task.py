"""Capacity curves (B, 256) in percent, every ten cycles: drawn with their end of life."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from studio.metrics.point_sets import energy_distance
from studio.recipes.battery.cells import CYCLES, DEAD, LAST, POINTS, end_of_life, simulate
from studio.recipes.battery.measures import interval
from studio.recipes.battery.posterior import posterior
from studio.recipes.battery.synthesis import likeness, taught
from studio.tasks.curves import CurvesTask
from studio.tasks.views import Seen, View, save, table

PANELS, ASIDE = 6, 3  # cells that are drawn, and how many in a row
MOST = 1000  # curves that are compared


def _curves(of: Any) -> Any:
    """A measure of sets by a function of two arrays (N, 256)."""
    return lambda samples, real: of(
        *(np.asarray(s.values[:MOST]).astype(np.float64) for s in (samples, real))
    )


def _energy(of: Any) -> Any:
    return _curves(lambda *sets: energy_distance(*(of(curves).reshape(len(curves), -1) for curves in sets)))


class BatteryTask(CurvesTask):
    """Measures of sets (synthesis): energy distances of curves, of what they lose from point to point, and of
    ends of life in cycles; what `studio.recipes.battery.synthesis` says of curves alone. Of predictions see
    `studio.recipes.battery.measures`."""

    name = "battery"
    measures = {
        "curves": _energy(lambda curves: curves),
        "steps": _energy(lambda curves: np.diff(curves, axis=-1)),
        "end_of_life": _energy(end_of_life),
        "likeness": _curves(likeness),
        "taught": _curves(taught),
    }

    @classmethod
    def misfit(cls, array: np.ndarray) -> str:
        good = array.ndim == 2 and array.shape[1] == POINTS and array.dtype.kind == "f"
        return "" if good else f"floats (N, {POINTS}), percent at every tenth cycle"

    def simulate(self, count: int, seed: int = 0) -> dict[str, np.ndarray]:
        """``matrix``, ``curve`` and ``end_of_life`` of new cells: see `studio.recipes.battery.cells`."""
        return simulate(count, seed=seed)

    def reference(self, matrix: np.ndarray, count: int = 2000, seed: int = 0) -> np.ndarray:
        """(count,) lives in cycles, drawn from the exact posterior of a simulated cell given its matrix."""
        return posterior(matrix, seed=seed).draws(count, np.random.default_rng(seed))

    def views(self, shape: Sequence[int]) -> tuple[View, ...]:
        return (
            View("Prediction", "sheet.prediction.png", "picture", _prediction),
            View("End of life", "sheet.life.csv", "table", _lives),
            *super().views(shape),
        )


def _cells(seen: Seen) -> list[tuple[str, np.ndarray]]:
    """Curves (M, 256) of each cell, which is told by what was asked for."""
    values, found = seen.values.cpu().double().numpy(), dict[str, list[int]]()
    for i, recipe in enumerate(seen.recipes):
        found.setdefault(_asked(recipe), []).append(i)
    return [(f"cell {k + 1}", values[rows]) for k, rows in enumerate(found.values())]


def _asked(recipe: Mapping[str, Any]) -> str:
    return str((recipe.get("fields") or {}).get("matrix", ""))


def known_points(curves: np.ndarray) -> int:
    """How many points at the beginning are the same in all of (M, 256), to the last bit: those that were
    given. 0 of a single curve, which does not tell."""
    if len(curves) < 2:
        return 0
    same = (curves == curves[0]).all(0)
    return int(same.argmin()) if not same.all() else POINTS


def _prediction(path: Path, seen: Seen) -> None:
    """The median and the 90 % band of each cell's curves, what was known of them, and the end of life."""
    from matplotlib.figure import Figure

    cells = _cells(seen)[:PANELS]
    aside = 2 if len(cells) == 4 else min(len(cells), ASIDE)
    rows = -(-len(cells) // aside)
    figure = Figure(figsize=(1 + 3.6 * aside, 0.4 + 2.6 * rows), dpi=120, layout="constrained")
    panels = list(figure.subplots(rows, aside, squeeze=False, sharex=True, sharey=True).flat)
    for axes, cell in zip(panels, cells):
        _panel(axes, *cell)
    for axes in panels[len(cells) :]:
        axes.set_visible(False)
    for axes in panels[: len(cells)]:
        axes.label_outer()
    panels[len(cells) - 1].legend(fontsize=7, loc="lower left")
    save(path, figure)


def _panel(axes: Any, name: str, curves: np.ndarray) -> None:
    low, high = interval(curves.T)
    known = known_points(curves)
    axes.fill_between(CYCLES, low, high, color="tab:blue", alpha=0.25, linewidth=0, label="90 % of samples")
    axes.plot(CYCLES, np.median(curves, 0), color="tab:blue", linewidth=1.8, label="median")
    if known > 1:
        axes.plot(CYCLES[:known], curves[0, :known], color="black", linewidth=2.5, label="known")
        axes.axvline(CYCLES[known - 1], color="black", linewidth=0.8, linestyle=":")
    axes.axhline(DEAD, color="tab:red", linewidth=0.8, linestyle="--", label=f"{DEAD:g} %")
    axes.set(xlim=(0, LAST), ylim=(0, 105), xlabel="cycle", ylabel="capacity, %")
    axes.set_title(f"{name}: {_told(end_of_life(curves))}", fontsize=9)


def _told(lives: np.ndarray) -> str:
    low, high = interval(lives)
    return f"end of life {np.median(lives):.0f} ({low:.0f} to {high:.0f})"


def _lives(path: Path, seen: Seen) -> None:
    """A line a cell: how many samples, and the median and the 90 % interval of the end of life in cycles."""
    rows = []
    for name, curves in _cells(seen):
        lives = end_of_life(curves)
        low, high = interval(lives)
        known = known_points(curves)
        rows.append((name, len(curves), known, *(f"{v:.0f}" for v in (np.median(lives), low, high))))
    table(path, ("cell", "samples", "known points", "end of life", "5 %", "95 %"), rows)
