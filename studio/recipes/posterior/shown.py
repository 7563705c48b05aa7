"""A posterior for the eye: means and intervals as a table, and every pair of parameters in a corner plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from studio.tasks.views import Seen, View, save, table

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles of the table
MOST = 6  # parameters of a corner plot, the first
BINS = 30
Groups = Sequence[tuple[str, np.ndarray]]


def grouped(values: np.ndarray, recipes: Sequence[Mapping[str, Any]]) -> list[tuple[str, np.ndarray]]:
    """Samples (n, d) of each set of observations, by what the recipes keep of it, in the order of the first
    of each."""
    places: dict[str, list[int]] = {}
    for i, recipe in enumerate(recipes):
        places.setdefault(str(recipe.get("fields", "")), []).append(i)
    return [(text, values[rows]) for text, rows in places.items()]


def summary(path: Path, groups: Groups, names: Sequence[str]) -> None:
    """A .csv: of each set of observations and parameter the mean, deviation and `LEVELS`."""
    rows = [
        [number, name, len(values), *(f"{v:.6g}" for v in (x.mean(), x.std(), *np.quantile(x, LEVELS)))]
        for number, (_, values) in enumerate(groups)
        for name, x in zip(_names(names, values), values.T)
    ]
    head = ["observations", "parameter", "draws", "mean", "std", *(f"q{100 * level:g}" for level in LEVELS)]
    table(path, head, rows)


def corner(values: np.ndarray, names: Sequence[str]) -> Any:
    """A figure: histograms of parameters (N, d) on the diagonal, with the median and where nine tenths lie,
    of each pair below it."""
    from matplotlib.figure import Figure

    names, values = _names(names, values)[:MOST], values[:, :MOST]
    d = len(names)
    figure = Figure(figsize=(1 + 2 * d, 1 + 2 * d), dpi=110, layout="constrained")
    panels = figure.subplots(d, d, squeeze=False)
    for i, row in enumerate(panels):
        for j, axes in enumerate(row):
            axes.tick_params(labelsize=7)
            if j > i:
                axes.set_visible(False)
                continue
            if i == j:
                axes.hist(values[:, i], BINS, color="tab:blue", alpha=0.7)
                low, middle, high = np.quantile(values[:, i], (0.05, 0.5, 0.95))
                for at, style in ((low, ":"), (middle, "-"), (high, ":")):
                    axes.axvline(at, color="black", linewidth=1, linestyle=style)
                axes.set_title(f"{names[i]} {middle:.3g} ({low:.3g} to {high:.3g})", fontsize=8)
                axes.set_yticks([])
            else:
                axes.hist2d(values[:, j], values[:, i], BINS, cmap="Blues")
            if i == d - 1:
                axes.set_xlabel(names[j], fontsize=8)
            if j == 0 and i:
                axes.set_ylabel(names[i], fontsize=8)
    return figure


def views(names: Sequence[str]) -> tuple[View, ...]:
    """Of all samples that are shown together, of the first set of observations the corner."""

    def drawn(path: Path, seen: Seen) -> None:
        save(path, corner(grouped(seen.values.numpy(), seen.recipes)[0][1], names))

    def listed(path: Path, seen: Seen) -> None:
        summary(path, grouped(seen.values.numpy(), seen.recipes), names)

    return (
        View("Corner", "sheet.corner.png", "picture", drawn),
        View("Intervals", "sheet.intervals.csv", "table", listed),
    )


def _names(names: Sequence[str], values: np.ndarray) -> list[str]:
    """As many as there are parameters."""
    return list(names) if len(names) == values.shape[1] else [f"x{k + 1}" for k in range(values.shape[1])]
