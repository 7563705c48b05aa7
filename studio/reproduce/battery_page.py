"""The page of `studio reproduce battery`: tables, plots and sentences from the numbers of its jobs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from studio.recipes.battery.cells import CYCLES, DEAD, LAST
from studio.recipes.battery.measures import interval, passed
from studio.reproduce import page as pages
from studio.reproduce.battery import FILE, GUIDED, SMALL, jobs
from studio.reproduce.jobs import Page, Result

COLUMNS = {
    "name": "",
    "rank_correlation": "rank correlation",
    "rmse": "RMSE, cycles",
    "rmse_share": "over the constant's",
    "coverage": "90 % interval holds",
    "crps": "CRPS, cycles",
    "health_rmse": "capacity RMSE, %",
}
PUBLISHED = 196  # cycles


def write(results: Mapping[str, Result], folder: Path) -> str:
    known = {k: r for k, r in results.items() if not k.startswith("real-")}
    reals = [r for k, r in results.items() if k.startswith("real-")]
    pages.write_csv(folder / "table.csv", list(results.values()), ("by", "points", "guidance", "seed"))
    _lives(folder / "lives.png", {k: known[k] for k in ("exact", "model", "permuted")})
    _curves(folder / "curves.png", {k: known[k] for k in ("model", "known-31")})
    size = known["model"].settings
    constant = known["model"].values["rmse_constant"]
    rows: list[dict[str, Any]] = [{"name": _title(k), **r.values} for k, r in known.items()]
    return "\n\n".join(
        [
            f"{size['cells']} new simulated cells, {size['draws']} samples each, by the bundled `battery`, "
            "which was trained on other simulated cells, beside the exact posterior of the end of life "
            "(80 %) by importance sampling. A constant, the mean of these very lives, errs by "
            f"{constant:.0f} cycles. Intervals are quantiles by p (M + 1).",
            pages.table(rows, COLUMNS),
            "\n".join(f"- {line}" for line in _told(known)),
            "![lives foretold beside lives](lives.png)",
            "![four cells: median, 90 % band, the true curve, and what was known](curves.png)",
            *(_real(reals) if reals else [_without()]),
        ]
    )


def _title(name: str) -> str:
    kind, _, number = name.partition("-")
    if kind == "known":
        return f"model that knows {10 * (int(number) - 1)} cycles"
    return {
        "exact": "exact posterior",
        "model": "model",
        "permuted": "model, matrices of other cells",
        "guidance": f"model, guidance {number}",
    }[kind]


def _told(results: Mapping[str, Result]) -> list[str]:
    model, permuted, exact = (results[k].values for k in ("model", "permuted", "exact"))
    lines = [f"{'yes' if good else '**no**'}: {what}." for what, good in passed(model, permuted).items()]
    lines.append(
        f"The model errs by {model['rmse']:.0f} cycles where the exact posterior errs by "
        f"{exact['rmse']:.0f}: "
        + (
            "what is left cannot be known from the matrix."
            if model["rmse"] < 1.1 * exact["rmse"]
            else f"{model['rmse'] / exact['rmse']:.2f} times as much."
        )
    )
    if model["rmse"] < 0.95 * exact["rmse"]:
        lines.append("**Better than the exact posterior: something tells the model what it must not know.**")
    for name, found in results.items():
        if "bits" in found.values:
            said = "came back bit for bit" if found.values["bits"] else "**did not come back bit for bit**"
            lines.append(f"{_title(name)}: what was known {said}; RMSE {found.values['rmse']:.0f} cycles.")
    strong = results[f"guidance-{GUIDED[-1]:g}"].values["coverage"]
    lines.append(
        f"Guidance {GUIDED[-1]:g} makes intervals hold {strong:.2f} instead of {model['coverage']:.2f}: "
        "it is off for predictions."
    )
    return lines


def _real(results: Sequence[Result]) -> list[str]:
    """Numbers of real sets, of as many seeds as there are."""
    first = results[0].values
    names = [k.partition("/")[0] for k in first if k.endswith("/cells")]
    rules = ("constant", "ridge", "gaussian process", "model")
    errors = [
        {
            "name": name.upper(),
            "cells": "/".join(str(r.values[f"{name}/cells"]) for r in results),
            **{rule: [r.values[f"{name}/{rule}"] for r in results] for rule in rules},
        }
        for name in names
    ]
    covers = [
        {
            "name": name.upper(),
            **{
                title: [r.values[f"{name}/{key}"] for r in results]
                for title, key in {
                    "Gaussian process": "gaussian process covers",
                    "model": "model covers",
                    "model, widened": "model covers, widened",
                    f"model, guidance {GUIDED[0]:g}": f"model, guidance {GUIDED[0]:g} covers",
                }.items()
            },
        }
        for name in names
    ]
    ridges = [
        {"a ridge that learns from": k.removeprefix("ridge/"), "RMSE, cycles": [r.values[k] for r in results]}
        for k in first
        if k.startswith("ridge/")
    ]
    steps = results[0].settings["steps"]
    wide = [r.values["model widened by"] for r in results]
    return [
        "## Real cells",
        "Sets that have no licence to be shipped: only these numbers are. Of each set a third of the cells "
        "(or more) is judged, whole protocols where cells were treated alike (the fields of `cond`), single "
        "cells where each was treated differently; of the rest a sixth is left aside to widen intervals by "
        f"(conformalised quantiles). One model of {steps:,} steps learns from all sets together, "
        f"{results[0].settings['draws']} samples a cell, none chosen by its early cycles; it sees "
        f"asinh(matrix / {SMALL:g}). Splits and seeds: {len(results)}. RMSE of the end of "
        "life in cycles; a cell that was taken off the test alive counts as dead there. *constant*: the mean "
        "of the set's other cells.",
        pages.table(errors),
        f"DiffBatt reports {PUBLISHED} cycles on average over its sets: other cells and other splits, so no "
        "number here stands beside it.",
        f"How often 90 % intervals hold the life; *widened* by {pages.shown(wide, 0)} cycles at both ends, "
        "as the cells that were left aside ask for:",
        pages.table(covers),
        "Does it help a ridge on the same five features to learn from lives that the model makes for the "
        "training cells (4 a cell)? All test cells:",
        pages.table(ridges),
    ]


def _without() -> str:
    return (
        f"Real cells: `{FILE}=cells.npz studio reproduce battery` measures them on a file of your own "
        "(`soh`, `valid_len`, `dataset`, `cond`, `capacity_matrix_20x50`)."
    )


def _lives(path: Path, results: Mapping[str, Result]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * len(results), 3.8), dpi=110, layout="constrained")
    for k, (name, result) in enumerate(results.items()):
        ax = figure.add_subplot(1, len(results), k + 1)
        draws, lives = result.arrays["draws"], result.arrays["lives"]
        middle, (low, high) = np.median(draws, 1), interval(draws)
        ax.plot([0, LAST], [0, LAST], color="0.6", linewidth=1)
        bars = np.maximum([middle - low, high - middle], 0)
        ax.errorbar(lives, middle, bars, fmt="o", markersize=2.5, linewidth=0.5, alpha=0.6)
        ax.set(title=_title(name), xlabel="end of life, cycles", ylabel="foretold: median, 90 %")
        ax.set(xlim=(0, LAST), ylim=(0, LAST), aspect="equal")
    pages.save(figure, path)


def _curves(path: Path, results: Mapping[str, Result]) -> None:
    from matplotlib.figure import Figure

    cells = 4
    figure = Figure(figsize=(3 * cells, 2.7 * len(results)), dpi=110, layout="constrained")
    for row, (name, result) in enumerate(results.items()):
        for k in range(cells):
            ax = figure.add_subplot(len(results), cells, row * cells + k + 1)
            made, points = result.arrays[f"curves-{k}"], result.settings["points"]
            low, high = interval(made.T)
            ax.fill_between(CYCLES, low, high, alpha=0.25, linewidth=0)
            ax.plot(CYCLES, np.median(made, 0), linewidth=1.6)
            ax.plot(CYCLES, result.arrays["true"][k], color="tab:orange", linewidth=1.2)
            if points:
                ax.plot(CYCLES[:points], made[0, :points], color="black", linewidth=2.5)
            ax.axhline(DEAD, color="0.5", linewidth=0.8, linestyle=":")
            ax.set(xlim=(0, LAST), ylim=(0, 104))
            if k == 0:
                ax.set_ylabel(f"{_title(name)}\ncapacity, %", fontsize=8)
            if row == len(results) - 1:
                ax.set_xlabel("cycle")
    pages.save(figure, path)


page = Page("How long a battery lives", jobs, write)
