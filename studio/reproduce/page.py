"""How results become a page: tables, comparisons in words, plots, and the block that says how it was made."""

import csv
import datetime
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from studio.reproduce.jobs import Result
from studio.runtime import files

MARK = "<!-- written by studio reproduce"
Row = Mapping[str, Any]


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error s/√n; the error of a single value is NaN."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1) / math.sqrt(len(array))) if len(
        array
    ) > 1 else math.nan


def shown(values: Sequence[float] | float, digits: int = 3) -> str:
    """``0.317 ± 0.012`` of several seeds, ``0.317`` of one."""
    if isinstance(values, int | float):
        return f"{values:.{digits}f}"
    mean, error = mean_error(values)
    return f"{mean:.{digits}f}" + (f" ± {error:.{digits}f}" if math.isfinite(error) else "")


def compare(name: str, values: Sequence[float], other: str, others: Sequence[float], what: str) -> str:
    """A sentence on the paired differences of seeds: a difference counts where it is beyond twice its
    standard error and has one sign in all pairs.

    Raises ``ValueError`` for lists of different lengths.
    """
    if len(values) != len(others) or not values:
        raise ValueError(f"got {len(values)} and {len(others)} values to compare, expected pairs")
    differences = [a - b for a, b in zip(values, others)]
    mean, error = mean_error(differences)
    told = (
        f"{mean:+.3f}"
        + (f" ± {error:.3f}" if math.isfinite(error) else "")
        + f" ({len(differences)} seed{'s' * (len(differences) > 1)})"
    )
    if not math.isfinite(error):
        return f"{what}: {name} differs from {other} by {told}; one seed says nothing of chance."
    if abs(mean) > 2 * error and len({math.copysign(1, d) for d in differences}) == 1:
        return f"{what}: {name} is {'lower' if mean < 0 else 'higher'} than {other} by {told}."
    return f"{what}: no clear difference between {name} and {other}, {told}."


def table(rows: Sequence[Row], columns: Mapping[str, str] | None = None) -> str:
    """Markdown; ``columns`` names keys and their headings, by default all keys. A missing cell is a dash."""
    heads = dict(columns) if columns is not None else {k: k for row in rows for k in row}
    lines = ["| " + " | ".join(heads.values()) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(_cell(row.get(k)) for k in heads) + " |" for row in rows)])


def _cell(value: Any) -> str:
    return "–" if value is None else shown(value) if isinstance(value, list | tuple | float) else str(value)


def write_csv(path: Path, results: Sequence[Result], keys: Sequence[str] = ()) -> None:
    """A row per job: its name, the settings named by ``keys``, every number it found."""
    columns = list(
        dict.fromkeys(k for r in results for k, v in r.values.items() if isinstance(v, int | float))
    )
    with files.replacing(path) as draft, open(draft, "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["job", *keys, *columns, "seconds"])
        for r in results:
            writer.writerow(
                [
                    r.name,
                    *(r.settings.get(k, "") for k in keys),
                    *(r.values.get(c, "") for c in columns),
                    r.seconds,
                ]
            )


def lines(
    path: Path,
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[Sequence[float]]]]],
    *,
    x: str,
    y: str,
    levels: Mapping[str, float] | None = None,
    marks: Sequence[float] = (),
) -> None:
    """A panel each: curves by name, ``(xs, values of the seeds at each x)``, with standard errors;
    ``levels``: a horizontal line by panel; ``marks`` of the lower axis, by default every x there is."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    # inches for legends that would cover the curves
    aside = 1.4 * sum(len(curves) > 10 for curves in panels.values())
    figure = Figure(figsize=(5.2 * len(panels) + aside, 4.2), dpi=110, layout="constrained")
    for k, (title, curves) in enumerate(panels.items()):
        ax = figure.add_subplot(1, len(panels), k + 1)
        for i, (name, (xs, values)) in enumerate(curves.items()):
            pairs = [mean_error(v) for v in values]
            errors = [0.0 if math.isnan(e) else e for _, e in pairs]
            ax.errorbar(
                xs,
                [m for m, _ in pairs],
                errors,
                label=name,
                marker="osv^D<>pX*"[i % 10],
                markersize=4,
                capsize=2,
                color=f"C{i % 10}",
                linestyle="-" if i < 10 else "--",
            )
        if levels and title in levels:
            ax.axhline(levels[title], color="black", linestyle=":", linewidth=1, label="real against real")
        ax.set(title=title, xlabel=x, ylabel=y, xscale="log", yscale="log")
        ticks = marks or sorted({v for xs, _ in curves.values() for v in xs})
        ax.set_xticks(ticks, [f"{v:g}" for v in ticks])
        ax.minorticks_off()
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
        ax.yaxis.set_major_formatter("{x:g}")
        beside: dict[str, Any] = (
            {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if len(curves) > 10 else {}
        )
        ax.legend(fontsize=7, **beside)
    save(figure, path)


def scatters(path: Path, panels: Mapping[str, np.ndarray], behind: np.ndarray, *, columns: int = 5) -> None:
    """Points (N, 2) a panel, over the true ones in grey."""
    from matplotlib.figure import Figure

    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(2.4 * columns, 2.5 * rows), dpi=110, layout="constrained")
    limit = 1.25 * float(np.abs(behind).max())
    for k, (title, points) in enumerate(panels.items()):
        ax = figure.add_subplot(rows, columns, k + 1)
        ax.scatter(behind[:, 0], behind[:, 1], s=2, color="0.8", linewidths=0)
        ax.scatter(points[:, 0], points[:, 1], s=2, color="C0", linewidths=0)
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])
        ax.set_title(title, fontsize=8)
    save(figure, path)


def bars(path: Path, groups: Mapping[str, Mapping[str, Sequence[float]]], *, y: str) -> None:
    """A group of bars each, one per name, with standard errors; the height is on a log scale."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(n for g in groups.values() for n in g))
    figure = Figure(figsize=(1.8 + 1.3 * len(groups), 3.8), dpi=110, layout="constrained")
    ax = figure.add_subplot()
    for i, name in enumerate(names):
        pairs = [mean_error(g[name]) if name in g else (math.nan, math.nan) for g in groups.values()]
        places = np.arange(len(groups)) + (i - (len(names) - 1) / 2) * 0.8 / len(names)
        ax.bar(
            places,
            [m for m, _ in pairs],
            0.8 / len(names),
            yerr=[0.0 if math.isnan(e) else e for _, e in pairs],
            label=name,
            capsize=2,
        )
    ax.set(ylabel=y, yscale="log")
    ax.set_xticks(range(len(groups)), groups, fontsize=8)
    ax.legend(fontsize=8)
    save(figure, path)


def pictures(path: Path, rows: Mapping[str, np.ndarray]) -> None:
    """A row of (N, C, H, W) uint8 pictures by name."""
    from matplotlib.figure import Figure

    strips = {name: np.concatenate(list(values), axis=-1).transpose(1, 2, 0) for name, values in rows.items()}
    # beside names of 1.2 inches
    height = sum(7.8 * strip.shape[0] / strip.shape[1] + 0.12 for strip in strips.values())
    figure = Figure(figsize=(9, height), dpi=110, layout="constrained")
    for k, (name, strip) in enumerate(strips.items()):
        ax = figure.add_subplot(len(rows), 1, k + 1)
        ax.imshow(strip.squeeze(-1) if strip.shape[-1] == 1 else strip, cmap="gray", vmin=0, vmax=255)
        ax.set(xticks=[], yticks=[])
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=7)
    save(figure, path, tight=True)


def save(figure: Any, path: Path, *, tight: bool = False) -> None:
    """A figure as PNG, whole or not at all; ``tight``: cut to what is drawn, names beyond the edge too."""
    with files.replacing(path) as draft:
        figure.savefig(
            draft, format="png", metadata={"Software": None}, bbox_inches="tight" if tight else None
        )


def protocol(results: Sequence[Result], command: str) -> str:
    """The block at the end: what was run, how often, for how long and on what."""
    machines = [r.machine for r in results]

    def several(key: str) -> str:
        return ", ".join(sorted({str(m[key]) for m in machines if key in m}))

    sizes = {
        "minutes": "training minutes",
        "batch": "batch",
        "batch_size": "batch",
        "count": "samples",
        "num": "samples",
        "sampling_steps": "sampling steps",
    }
    largest: dict[str, Result] = {}  # of each group the job with most settings
    for r in results:
        group = r.name.partition("-")[0]
        largest[group] = max(largest.get(group, r), r, key=lambda job: len(job.settings))
    groups: dict[str, list[str]] = {}
    for name, r in largest.items():
        # nothing is trained there
        known = "sampling_steps" not in r.settings and {"model", "sampler", "scales"} & set(r.settings)
        trained = "sampling" if known else "training"
        text = ", ".join(
            f"{what} {r.settings[k]:g}"
            for k, what in ({"steps": f"{trained} steps"} | sizes).items()
            if k in r.settings
        )
        groups.setdefault(text, []).append(name)
    told_sizes = {", ".join(names): text for text, names in groups.items()}
    seeds = sorted({r.settings["seed"] for r in results if "seed" in r.settings})
    on_gpu = sum("gpu" in m for m in machines)
    gpu = f"{several('gpu')}, {'all' if on_gpu == len(machines) else on_gpu} of the jobs" if on_gpu else ""
    told = {
        "command": f"`{command}`",
        "jobs": f"{len(results)}, {sum(r.seconds for r in results) / 60:.1f} minutes in all, the longest "
        f"{max(r.seconds for r in results) / 60:.1f}",
        "seeds": ", ".join(map(str, seeds)),
        **{f"size of {group}": text for group, text in told_sizes.items()},
        "threads": several("threads"),
        "dtype": ", ".join(sorted({r.values["dtype"] for r in results if "dtype" in r.values})),
        "machine": f"{several('cpu')}, {several('cores')} cores",
        "GPU": gpu,
        "versions": f"drift-studio {several('studio')}, torch {several('torch')}, Python {several('python')}",
        "written": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }
    return "## Protocol\n\n" + "\n".join(f"- {k}: {v}" for k, v in told.items() if v)
