"""What guidance did in each step, as a table and a plot."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from guidance.probe import MEASURES
from studio.runtime import files
from studio.sampling.sampler_spec import build_sampler

if TYPE_CHECKING:
    from studio.model.model import Model

WORDS = {
    "difference": "‖c − u‖",
    "cosine": "cosine of c and u",
    "ratio": "‖c‖ / ‖u‖",
    "scale": "scale that acted",
}


def averaged(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per step, the mean over micro-batches."""
    steps: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        steps[row["step"]].append(row)
    return [
        {
            "step": step,
            "t": found[0]["t"],
            "branch": found[0]["branch"],
            **{k: sum(r[k] for r in found) / len(found) for k in MEASURES},
        }
        for step, found in sorted(steps.items())
    ]


def check_guided(model: "Model", options: Mapping[str, Any]) -> None:
    """Raises ``ValueError`` where no time of the path is guided, for the options that `Model.sample`
    takes."""
    request, rules = model.request(**options)
    chosen = model.rules(request.guidance if rules is None else rules)
    path = model.denoiser.path
    times = [
        *build_sampler(request.sampler).times(path, request.num_steps)[:-1],
        *torch.linspace(0.001, 0.999, 999).tolist(),
    ]
    if not any(rule.needs and rule.active(t, path) for rule in chosen for t in times):
        raise ValueError("got --probe, but nothing is guided; pass --guidance, such as cfg=2.0")


def places(folder: Path, overwrite: bool = False) -> tuple[Path, Path]:
    """``probe.csv`` and ``probe.png``. Raises ``FileExistsError`` for files that are there unless
    ``overwrite``."""
    paths = folder / "probe.csv", folder / "probe.png"
    if not overwrite and any(p.exists() for p in paths):
        raise FileExistsError(f"{folder} holds a probe already; choose another --out or pass --overwrite")
    return paths


def save_probe(rows: Sequence[Mapping[str, Any]], folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write the table and the plot to their `places`."""
    from matplotlib.figure import Figure

    paths = places(folder, overwrite)
    table = averaged(rows)
    with files.replacing(paths[0]) as draft, open(draft, "w", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=["step", "t", "branch", *MEASURES])
        writer.writeheader()
        writer.writerows(table)
    figure = Figure(figsize=(10, 2.6), dpi=110, layout="constrained")
    for k, measure in enumerate(MEASURES):
        ax = figure.add_subplot(1, len(MEASURES), k + 1)
        ax.plot([r["t"] for r in table], [r[measure] for r in table], marker="o", markersize=3)
        ax.set_title(
            WORDS[measure].replace("u", "weak")
            if table[0]["branch"] == "weak" and measure != "scale"
            else WORDS[measure],
            fontsize=9,
        )
        ax.set_xlabel("t")
    with files.replacing(paths[1]) as draft:
        figure.savefig(draft, format="png", metadata={"Software": None})
    return list(paths)
