"""The page of `studio.reproduce.graph_control`: its tables, pictures and what they show."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from studio.data import load_data
from studio.reproduce import page as pages
from studio.reproduce.graph_control import DATA, NAMES, SAMPLER, VARIANTS, jobs
from studio.reproduce.jobs import Page, Result


def write(results: Mapping[str, Result], folder: Path) -> str:
    pages.write_csv(folder / "table.csv", list(results.values()), ("scale", "seed"))
    first = next(r for r in results.values() if r.name.startswith("sweep"))
    floor = floors(first.settings["num"])
    parts = [INTRO.format(num=first.settings["num"], steps=first.settings["steps"])]
    heads = {
        "scale": "guidance scale",
        "valid": "valid",
        "connected": "connected",
        "unique": "unique",
        "diversity": "diversity",
        **{f"mae_{n}": f"error of {n}" for n in NAMES},
    }
    label = {SAMPLER: "{:g}", "graph": "{:g}, ancestral steps alone"}
    rows = [
        {"scale": label[r.settings["sampler"]].format(r.settings["scale"]), **r.values}
        for r in results.values()
        if r.name.startswith("sweep")
    ]
    rows += [{"scale": name, **values} for name, values in floor.items()]
    best = min((r for r in rows[: -len(floor)] if "mae" in r), key=lambda r: r["mae"], default=None)
    parts += ["## Guidance scale", pages.table(rows, heads)]
    if best is not None:
        told = ", ".join(
            f"{n} {floor['a random training molecule'][f'mae_{n}'] / best[f'mae_{n}']:.1f}"
            for n in NAMES
            if f"mae_{n}" in best
        )
        parts.append(
            f"Lowest mean error at scale {best['scale']}; a random training molecule is farther off by "
            f"these factors: {told}."
        )
    parts += [
        "## Asked and obtained",
        _controls(results, folder),
        "## Noise and encoders",
        VARIED,
        _variants(results),
    ]
    return "\n\n".join(parts)


def floors(num: int) -> dict[str, dict[str, float]]:
    """Errors, in spreads, of a random training molecule and of the one that the training set has nearest to
    the targets (which is on target and not new)."""
    from studio.metrics import property_floors as of

    data = load_data(dict(DATA))
    spread = np.array(data.numeric_std)
    train, asked = data.train.numeric * spread, data.held_out.numeric[:num] * spread
    chance, nearest = of.random_molecules(asked, train), of.looked_up(asked, train, spread)[0]
    return {
        who: {f"mae_{n}": float(v / s) for n, v, s in zip(NAMES, values, spread)}
        for who, values in (
            ("a random training molecule", chance),
            ("looked up in the training set", nearest),
        )
    }


def _controls(results: Mapping[str, Result], folder: Path) -> str:
    from matplotlib.figure import Figure

    single = [r for r in results.values() if r.name.startswith("control") and len(r.settings["names"]) == 1]
    figure = Figure(figsize=(4 * len(single), 3.6), dpi=110, layout="constrained")
    for k, r in enumerate(single):
        ax = figure.add_subplot(1, len(single), k + 1)
        asked, got = r.arrays["asked"][:, 0], r.arrays["got"][:, 0]
        ax.plot([asked.min(), asked.max()], [asked.min(), asked.max()], color="0.7", zorder=0)
        for level in np.unique(asked):
            here = got[(asked == level) & ~np.isnan(got)]
            if len(here):
                ax.errorbar(level, here.mean(), here.std(), fmt="o", color="tab:blue", capsize=3)
        ax.set(title=r.settings["names"][0], xlabel="asked", ylabel="obtained, mean and spread")
    pages.save(figure, folder / "control.png")
    told = ["![asked against obtained](control.png)", ""]
    for r in (r for r in results.values() if r.name.startswith("control") and len(r.settings["names"]) == 2):
        a, b = r.settings["names"]
        rows = []
        for i, (x, y) in enumerate(r.arrays["grid"]):
            here = r.arrays["got"][(r.arrays["asked"] == (x, y)).all(1)]
            good = here[~np.isnan(here).any(1)]
            rows.append(
                {
                    "asked": f"{x:.2f}, {y:.2f}",
                    "near": str(int(r.arrays["near"][i])),
                    "valid": len(good) / len(here),
                    "a": float(good[:, 0].mean()) if len(good) else float("nan"),
                    "b": float(good[:, 1].mean()) if len(good) else float("nan"),
                }
            )
        told += [
            f"### {a} and {b} together",
            "",
            pages.table(
                rows,
                {
                    "asked": f"asked: {a}, {b}",
                    "near": "training molecules within a quarter spread",
                    "valid": "valid",
                    "a": f"obtained {a}",
                    "b": f"obtained {b}",
                },
            ),
            "",
        ]
    return "\n".join(told)


def _variants(results: Mapping[str, Result]) -> str:
    rows, found = [], {}
    for name in VARIANTS:
        own = [
            r.values
            for r in results.values()
            if r.name.rpartition("-")[0] == f"variant-{name.replace(', ', '-')}"
        ]
        found[name] = own
        for scale in ("1", "2"):
            rows.append(
                {"variant": name, "scale": scale}
                | {
                    k: [v[f"{k}@{scale}"] for v in own if f"{k}@{scale}" in v] or None
                    for k in ("valid", "connected", "mae")
                }
            )
    told = []
    base = found["corrected, fourier"]
    for name in list(VARIANTS)[1:]:
        for key, what in (("valid@1", "Validity without guidance"), ("mae@2", "Mean error at scale 2")):
            a, b = (
                [v[key] for v in found[name] if key in v],
                [v[key] for v in base[: len(found[name])] if key in v],
            )
            if len(a) == len(b) and a:
                told.append("- " + pages.compare(name, a, "corrected, fourier", b, what))
    return "\n".join(
        [
            pages.table(
                rows,
                {
                    "variant": "noise, encoder",
                    "scale": "scale",
                    "valid": "valid",
                    "connected": "connected",
                    "mae": "mean error",
                },
            ),
            "",
            *told,
        ]
    )


INTRO = """The bundled `moses-graph-dit`, asked for logP, QED and TPSA; {num} molecules a row with the \
properties of as many held-out ones as targets, {steps} steps, the same seeds.
Drawn by `graph(renoise=1)`, the model's own sampler, which draws every atom and bond anew from the \
predicted clean graph until the last tenth; a row by ancestral steps alone stands beside.
Valid means that RDKit sanitises the whole graph as it was made, without any correction; connected, that it \
is one molecule besides. Errors are mean absolute ones over the valid molecules, divided by the property's \
standard
deviation in the training set. A generator must be new *and* on target: the look-up in the training set is \
on target by construction and never new."""
VARIED = """A smaller network of kekulised molecules and without the pair head, 1,700 steps of 128 each, \
asked by 100 ancestral steps under guidance of the next state's probabilities (`cfg(space=logp)`)."""
page = Page("Molecules with the properties asked for", jobs, write)
