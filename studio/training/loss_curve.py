"""The loss curve of a run, ``curve.png`` beside its metrics.jsonl."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.runtime import files

if TYPE_CHECKING:
    from matplotlib.ticker import Locator

NAME = "curve.png"


def points(run: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Steps and values of the training loss and of the held-out losses; lines that are cut or hold no number
    are left out."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    metrics = run / "metrics.jsonl"
    for line in metrics.read_text().splitlines() if metrics.is_file() else ():
        try:
            entry: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        for key, value in entry.items():
            if (key == "loss" or key.startswith("held_out")) and isinstance(value, int | float):
                steps, values = found.setdefault(key, ([], []))
                steps.append(entry.get("step", 0))
                values.append(value)
    return found


def marks(low: float, high: float) -> "Locator":
    """Where an axis of logarithms has its numbers, a handful of them: few powers of ten lie within less than
    a decade."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    if low < high < 10 * low:
        return MaxNLocator(5)
    return LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,))


def draw(run: Path) -> Path | None:
    """Draw it anew; None where no line has three points yet: two say all in metrics.jsonl."""
    found = points(run)
    if all(len(steps) < 3 for steps, _ in found.values()):
        return None
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, NullLocator

    figure = Figure(figsize=(6, 3.4), dpi=100)
    axes = figure.add_axes((0.14, 0.14, 0.83, 0.8))
    for key, (steps, values) in found.items():
        axes.plot(
            steps, values, marker="." if len(steps) < 20 else None, linewidth=1.2, label=key.replace("_", " ")
        )
    losses = [v for _, values in found.values() for v in values]
    if min(losses) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(marks(min(losses), max(losses)))
        axes.yaxis.set_minor_locator(NullLocator())
        # plain numbers; powers of ten would be set as mathematics, which takes longer than all the rest
        axes.yaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))  # most of the time goes into ticks
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with files.replacing(run / NAME) as draft:
        figure.savefig(draft, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 1})
    return run / NAME
