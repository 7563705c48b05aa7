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
    made = {
        k: [r for n, r in results.items() if n.startswith(f"{k}-")] for k in ("real", "seed", "synthesis")
    }
    known = {k: r for k, r in results.items() if k.partition("-")[0] not in made}
    pages.write_csv(folder / "table.csv", list(results.values()), ("by", "points", "guidance", "seed"))
    _lives(folder / "lives.png", {k: known[k] for k in ("exact", "model", "permuted")})
    _curves(folder / "curves.png", {k: known[k] for k in ("model", "known-31")})
    _made(folder / "made.png", made["synthesis"])
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
            *_seeds(known, made["seed"]),
            *_synthesis(made["synthesis"]),
            *(_real(made["real"]) if made["real"] else [_without()]),
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


def _seeds(known: Mapping[str, Result], further: Sequence[Result]) -> list[str]:
    """The bundled model beside further trainings, and all of them with the error of their mean."""
    bundled = known["model"].values | {f"permuted {k}": v for k, v in known["permuted"].values.items()}
    every = [bundled, *(r.values for r in further)]
    seeds = ["0 (bundled)", *(str(r.settings["seed"]) for r in further)]
    columns = {k: v for k, v in COLUMNS.items() if k != "health_rmse"} | {
        "permuted rmse_share": "over the constant's, permuted"
    }
    rows: list[dict[str, Any]] = [{**found, "name": f"seed {seed}"} for seed, found in zip(seeds, every)]
    keys = [k for k in columns if k != "name"]
    rows.append({"name": "mean", **{k: [found[k] for found in every] for k in keys}})
    return [
        "## Three trainings",
        f"The committed config from other seeds, {further[0].settings['steps']:,} steps each, on the same "
        "new cells; the mean with its standard error.",
        pages.table(rows, columns),
    ]


def _synthesis(results: Sequence[Result]) -> list[str]:
    """What made curves are like, and what learns from them."""
    titles = {
        "law": "simulated cells",
        "free": "made, of no cell in particular",
        "given": "made, given matrices of other cells",
    }
    rows = []
    for r in results:
        kind, _, scale = r.name.removeprefix("synthesis-").partition("-")
        guided = f", guidance {scale}" if scale and float(scale) != 1 else ""
        rows.append({"name": titles[kind] + guided, **r.values})
    size = results[-1].settings
    columns = {
        "name": f"{size['count']:,} curves of",
        "precision": "precision",
        "recall": "recall",
        "frechet": "Fréchet, %²",
        "ridge made": "ridge taught by made, cycles",
        "ridge both": "by simulated and made",
        "ridge gain": "gain",
    }
    alone = results[-1].values["ridge real"]
    return [
        "## Synthesis",
        f"Beside {size['count']:,} other simulated curves: shares within balls to the third neighbour, the "
        "squared Fréchet distance of every eighth point; the first row is what there is to reach. A ridge "
        f"on five features of the matrix learns lives from {size['few']} simulated cells ({alone:.0f} cycles "
        f"of error on {size['pupils']} others), from four made lives for each of these, and from both; "
        "*gain*: the share of the error that goes away as made ones join. The model has seen 30,000 cells, "
        "the ridge has not.",
        pages.table(rows, columns),
        "![simulated and made curves, with the median and the 90 % band](made.png)",
    ]


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
        "life in cycles; a cell that was taken off the test alive counts as dead there, and a matrix of "
        "nothing but zeros as missing. *constant*: the mean "
        "of the set's other cells.",
        pages.table(errors),
        f"DiffBatt reports {PUBLISHED} cycles on average over its sets: other cells and other splits, so no "
        "number here stands beside it.",
        f"How often 90 % intervals hold the life; *widened* by {pages.shown(wide, 0)} cycles at both ends, "
        "as the cells that were left aside ask for:",
        pages.table(covers),
        "Does it help a ridge on the same five features to learn from lives that the model makes for the "
        "training cells (4 a cell)? All test cells; *gain*: the share of the error that goes away.",
        pages.table(_gains(results)),
    ]


def _gains(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row for each way to teach a ridge: its errors, and what made lives take off that of the real ones."""
    rows = []
    for key in (k for k in results[0].values if k.startswith("ridge/")):
        errors = [r.values[key] for r in results]
        gains = (
            [1 - e / r.values["ridge/real"] for e, r in zip(errors, results)] if "real and" in key else None
        )
        name = key.removeprefix("ridge/")
        rows.append({"a ridge that learns from": name, "RMSE, cycles": errors, "gain": gains})
    return rows


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
            ax.fill_between(CYCLES, low, high, alpha=0.25, linewidth=0, label="90 %")
            ax.plot(CYCLES, np.median(made, 0), linewidth=1.6, label="median")
            ax.plot(CYCLES, result.arrays["true"][k], color="tab:orange", linewidth=1.2, label="true")
            if points:
                ax.plot(CYCLES[:points], made[0, :points], color="black", linewidth=2.5, label="known")
            ax.axhline(DEAD, color="0.5", linewidth=0.8, linestyle=":")
            ax.set(xlim=(0, LAST), ylim=(0, 104))
            if k == 0:
                ax.set_ylabel(f"{_title(name)}\ncapacity, %", fontsize=8)
                ax.legend(fontsize=7, loc="lower left")
            if row == len(results) - 1:
                ax.set_xlabel("cycle")
    pages.save(figure, path)


def _made(path: Path, results: Sequence[Result]) -> None:
    from matplotlib.figure import Figure

    shown = [r for r in results if "made" in r.arrays]
    panels = [("simulated cells", shown[0].arrays["real"])]
    for r in shown:
        guidance = r.settings["guidance"]
        name = (
            "no cell in particular"
            if r.settings["by"] == "nothing"
            else f"given matrices, guidance {guidance:g}"
        )
        panels.append((name, r.arrays["made"]))
    figure = Figure(figsize=(3 * len(panels), 2.8), dpi=110, layout="constrained")
    for k, (name, curves) in enumerate(panels):
        ax = figure.add_subplot(1, len(panels), k + 1)
        low, high = interval(curves.T)
        ax.fill_between(CYCLES, low, high, alpha=0.25, linewidth=0)
        ax.plot(CYCLES, curves[:20].T, color="0.4", linewidth=0.5)
        ax.plot(CYCLES, np.median(curves, 0), linewidth=1.8)
        ax.axhline(DEAD, color="0.5", linewidth=0.8, linestyle=":")
        ax.set(xlim=(0, LAST), ylim=(0, 104), xlabel="cycle", ylabel="" if k else "capacity, %")
        ax.set_title(name, fontsize=9)
    pages.save(figure, path)


page = Page("How long a battery lives", jobs, write)
