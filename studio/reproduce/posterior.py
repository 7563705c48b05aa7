"""How near a trained posterior comes to the exact one, for few observations and for many; and whether
calibration would have told."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from studio.model.loading import load as load_model
from studio.recipes.posterior.check import BINS, accuracy, calibration
from studio.reproduce import page as pages
from studio.reproduce.jobs import Job, Outcome, Page, Result, Unfinished
from studio.tasks import build
from studio.training.run import train

COUNTS = (2, 5, 10, 20)
SEEDS = (0, 1, 2)
SHOWN = {
    "rows": "rows",
    "kl": "KL to the exact posterior",
    "kl_floor": "of exact draws",
    "kl_prior": "of the prior",
    "kl_ridge": "of a ridge regression",
    "mean_error": "error of the mean, in deviations",
    "std_ratio": "ratio of deviations",
    "coverage": "90 % intervals hold",
}


def jobs(quick: bool) -> list[Job]:
    sets, draws = (4, 100) if quick else (300, 1000)
    measured = {"sets": sets, "draws": draws, "counts": list(COUNTS)}
    ranks = {"sets": 20 if quick else 1000, "draws": 19 if quick else 99}
    trained = {**measured, "overrides": ["train.minutes=null", "train.steps=20"] if quick else []}
    return [
        Job("bundled", bundled, measured, 10),
        Job("ranks", ranked, ranks, 2),
        *(Job(f"trained-s{s}", retrained, {**trained, "seed": s}, 18) for s in SEEDS[: 1 if quick else None]),
    ]


def bundled(settings: Mapping[str, Any], work: Path) -> Outcome:
    """The model that ships."""
    return _measured(load_model("posterior", device="cpu"), settings), {}


def retrained(settings: Mapping[str, Any], work: Path) -> Outcome:
    """One trained anew by its config, with a seed of its own."""
    folder, overrides = work / "run", [f"seed={settings['seed']}", *settings["overrides"]]
    made = train("posterior", overrides, out=folder, resume=(folder / "config.yaml").is_file(), quiet=True)
    if made.interrupted:
        raise Unfinished(f"stopped at step {made.step}")
    return {"step": made.step, **_measured(made.load(device="cpu"), settings)}, {}


def ranked(settings: Mapping[str, Any], work: Path) -> Outcome:
    found = calibration(load_model("posterior", device="cpu"), build("posterior"), **settings)
    values = {f"p {k}": p for k, p in enumerate(found["p"])}
    return {**values, "coverage": float(np.mean(found["coverage"]))}, {"ranks": found["ranks"]}


def _measured(model: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    task, values = build("posterior"), dict[str, Any]()
    for count in settings["counts"]:
        found = accuracy(model, task, count=count, sets=settings["sets"], draws=settings["draws"])
        values |= {f"{key}@{count}": value for key, value in found.items()}
    return {**values, "threads": torch.get_num_threads()}


def write(results: Mapping[str, Result], folder: Path) -> str:
    of = {name: r for name, r in results.items() if "counts" in r.settings}
    pages.write_csv(folder / "table.csv", list(results.values()), ("seed", "sets", "draws"))
    parts = [
        "Linear Gaussian: y = (1, 2t − 1, sin 2πt)·θ + 0.3 ε, θ ~ N(0, I). KL is of a Gaussian of the draws "
        "to the exact posterior, in nats; a result that is surely better than exact draws fails."
    ]
    for title, chosen in (
        ("The bundled model", [r for n, r in of.items() if n == "bundled"]),
        ("Trained anew, one for each seed", [r for n, r in of.items() if n != "bundled"]),
    ):
        if chosen:
            rows = [
                {"rows": k}
                | {key: [r.values[f"{key}@{k}"] for r in chosen] for key in SHOWN if key != "rows"}
                for k in COUNTS
            ]
            parts += [f"## {title}", pages.table(rows, SHOWN)]
    if "ranks" in results:
        parts += ["## Calibration", _ranks(results["ranks"], folder)]
    return "\n\n".join(parts)


def _ranks(found: Result, folder: Path) -> str:
    from matplotlib.figure import Figure

    ranks, draws, names = found.arrays["ranks"], found.settings["draws"], build("posterior").parameters
    figure = Figure(figsize=(9, 2.6), dpi=110, layout="constrained")
    for axes, name, column in zip(figure.subplots(1, len(names)), names, ranks.T):
        axes.hist(column, BINS, (-0.5, draws + 0.5), color="C0", alpha=0.7)
        axes.axhline(len(column) / BINS, color="black", linewidth=1, linestyle=":")
        axes.set_title(name, fontsize=9)
    pages.save(figure, folder / "ranks.png")
    told = ", ".join(f"{name} {found.values[f'p {k}']:.3f}" for k, name in enumerate(names))
    return (
        f"Ranks of the true parameters among {draws} draws, {len(ranks):,} new simulations, any number of "
        f"rows; p of a chi-square test in {BINS} bins: {told}. 90 % intervals hold "
        f"{found.values['coverage']:.3f}. A posterior that knows less than the observations tell passes this "
        "too, so it stands beside the table above, not in its place.\n\n![ranks](ranks.png)"
    )


page = Page("Posteriors for any number of observations", jobs, write)
