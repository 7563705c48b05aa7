"""Which balanced weights come nearest to exact transport at few steps? Eight Gaussians → moons, the recipe in
the plane.

Tried: lower temperatures, temperatures from an effective sample size, plans over this batch and the batches
before it (``memory``), and potentials from beyond the batch (`studio.reproduce.potentials`). Beside them
pairs that are *drawn* from the entropic plan of the batch at the same temperatures instead of weighted, which
is `sinkhorn`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.reproduce import page as pages
from studio.reproduce import wcfm
from studio.reproduce.jobs import Job, Page, Result

METHODS: dict[str, Any] = {
    "ot": {"name": "ot"},
    **{f"eps-{e}": {"name": "gibbs", "eps": e, "balance": 10} for e in (1.0, 0.5, 0.25)},
    **{f"ess-{e}": {"name": "gibbs", "ess": e, "balance": 10} for e in (0.5, 0.3, 0.15)},
    "memory-3-eps-0.5": {"name": "gibbs", "eps": 0.5, "balance": 10, "memory": 3},
    "rounds-50-eps-0.25": {"name": "gibbs", "eps": 0.25, "balance": 50},
    **{f"fitted-eps-{e}": {"name": "potentials", "eps": e, "anchors": 2048} for e in (1.0, 0.5, 0.25)},
    **{f"learned-eps-{e}": {"name": "potentials", "eps": e} for e in (1.0, 0.5, 0.25)},
    **{
        f"drawn-eps-{e}": {"name": "sinkhorn", "reg": e, "cost": "l2", "iterations": 10}
        for e in (1.0, 0.5, 0.25)
    },
}
MARKS = ("w2_euler1", "w2_euler4", "w2_euler10", "w2_converged")


def jobs(quick: bool) -> list[Job]:
    size = {"steps": 40, "batch": 64, "count": 160} if quick else {"steps": 6000, "batch": 256, "count": 1500}
    return [
        Job(
            f"points-moons-{name}-{seed}",
            wcfm.points,
            {"pair": "moons", "coupling": coupling, "seed": seed, **size},
            1.0,
        )
        for seed in range(1 if quick else 3)
        for name, coupling in METHODS.items()
    ]


def write(results: Mapping[str, Result], folder: Path) -> str:
    pages.write_csv(folder / "table.csv", list(results.values()), ("coupling", "seed"))
    group = "points-moons"
    heads = dict(zip(MARKS, ("W2, Euler 1", "W2, Euler 4", "W2, Euler 10", "W2, RK4×50"))) | {
        "pe": "PE",
        "npe": "NPE",
        "ess": "ESS",
        "tilt_source": "tilt of sources",
        "tilt_data": "tilt of data",
    }
    rows = [{"method": m} | {k: wcfm.of(results, group, m, k) or None for k in heads} for m in METHODS]
    for row in rows:
        times = [
            r.seconds for r in results.values() if r.name.rpartition("-")[0] == f"{group}-{row['method']}"
        ]
        row["seconds"] = f"{sum(times) / len(times):.0f}"
    curves = {
        m: (wcfm.EULER, [wcfm.of(results, group, m, f"w2_euler{n}") for n in wcfm.EULER]) for m in METHODS
    }
    floor = pages.mean_error(wcfm.of(results, group, "ot", "floor"))[0]
    title = "eight Gaussians → moons"
    pages.lines(
        folder / "steps.png",
        {title: curves},
        x="Euler steps",
        y="W2 to held-out points",
        levels={title: floor},
    )
    means = {m: pages.mean_error(wcfm.of(results, group, m, "w2_euler4"))[0] for m in METHODS}
    weighted = {m: v for m, v in means.items() if m != "ot" and not m.startswith("drawn")}
    best = min(weighted, key=lambda m: weighted[m])
    told = [
        pages.compare(
            m,
            wcfm.of(results, group, m, "w2_euler4"),
            "OT",
            wcfm.of(results, group, "ot", "w2_euler4"),
            "W2 after four Euler steps",
        )
        for m in METHODS
        if m != "ot"
    ]
    told.append(
        f"Nearest to OT ({means['ot']:.3f}) of all weights: {best}, {weighted[best]:.3f} after four steps."
    )
    return "\n\n".join(
        [
            INTRO.format(floor=floor),
            pages.table(rows, {"method": "method", **heads, "seconds": "seconds a run"}),
            "\n".join(f"- {t}" for t in told),
            "![W2 against steps](steps.png)",
        ]
    )


INTRO = """Balanced W-CFM keeps independent pairs and weighs them by a plan with uniform marginals on the \
batch. How near can it come to pairing by exact transport? The
recipe is that of the page on W-CFM: three seeds with the same weights at the start, batches and times for \
all; W2 of two true sets is {floor:.3f}. `memory-3` balances
over this batch and the three before it; `ess` sets the temperature in every batch; `fitted` has its \
potentials from 2,048 other points of either side, `learned` from a network
that learns them beside the flow; `drawn` pairs by drawing from the plan. NPE stands beside PE and W2."""

page = Page("Balanced weights against exact transport", jobs, write)
