"""Negative binomial regression: the method of moments, maximum likelihood, a trained posterior and the exact
one, on the same simulations."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.model.loading import load as load_model
from studio.recipes.posterior import nb_estimates as estimates
from studio.recipes.posterior.check import calibration
from studio.reproduce import page as pages
from studio.reproduce.jobs import Job, Outcome, Page, Result
from studio.tasks import build

METHODS = ("method of moments", "maximum likelihood", "posterior, trained", "posterior, exact")


def jobs(quick: bool) -> list[Job]:
    sets = 10 if quick else 500
    ranks = {"sets": 20 if quick else 1000, "draws": 19 if quick else 99}
    return [
        *(Job(f"method-{i}", one, {"method": m, "sets": sets, "seed": 1}, 2) for i, m in enumerate(METHODS)),
        Job("ranks", ranked, ranks, 2),
    ]


def one(settings: Mapping[str, Any], work: Path) -> Outcome:
    method = {
        METHODS[0]: lambda: estimates.moments,
        METHODS[1]: lambda: estimates.likelihood,
        METHODS[2]: lambda: estimates.posterior(load_model("nb-regression", device="cpu")),
        METHODS[3]: lambda: estimates.exact,
    }[settings["method"]]()
    (row,) = estimates.compared({settings["method"]: method}, sets=settings["sets"], seed=settings["seed"])
    return {k: v for k, v in row.items() if k != "method"}, {}


def ranked(settings: Mapping[str, Any], work: Path) -> Outcome:
    found = calibration(load_model("nb-regression", device="cpu"), build("nb-regression"), **settings)
    return {f"p {k}": p for k, p in enumerate(found["p"])}, {"ranks": found["ranks"]}


def write(results: Mapping[str, Result], folder: Path) -> str:
    pages.write_csv(folder / "table.csv", list(results.values()), ("method", "sets"))
    rows = [{"method": r.settings["method"], **r.values} for r in results.values() if "method" in r.settings]
    count = next(iter(results.values())).settings["sets"]
    parts = [
        f"{count:,} new simulations of 2 to 12 replicates a group, the same for all: root mean square error "
        "of each parameter, how often its 90 % interval holds it, how often that of a log fold change of 0 "
        "does not hold 0 (`type_1`, a tenth where it is right), milliseconds a set, one after the other.",
        pages.table(rows),
    ]
    if "ranks" in results:
        told = ", ".join(f"{v:.3f}" for v in results["ranks"].values.values())
        parts.append(
            f"Calibration of the trained posterior, p of its ranks: {told}; it certifies nothing alone."
        )
    return "\n\n".join(parts)


page = Page("Negative binomial regression", jobs, write)
