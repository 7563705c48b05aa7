"""What a plan leaves out, as a picture: evaluations to the right, layers downwards, and rows for the blocks
and the unconditional pass above them."""

from pathlib import Path
from typing import Any

import numpy as np

from backbones.caching.plan import AGAIN, BOTH, BRANCHES, FULL, LINE, STEPS, WINDOW, Plan
from studio.runtime import files

# what is computed, from all to nothing
SHADES = {FULL: 1.0, BRANCHES: 0.75, WINDOW: 0.5, BOTH: 0.3, LINE: 0.12, AGAIN: 0.06, STEPS: 0.0}
SAID = {
    FULL: "computed",
    BRANCHES: "shared with the conditional branch",
    WINDOW: "window and the rest of before",
    BOTH: "window, shared",
    STEPS: "as before",
    LINE: "foretold",
    AGAIN: "as before",
}


def heat_map(path: Path, plan: Plan, title: str) -> None:
    """Write the picture of a plan."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    rows = [(name, letters) for name, letters in (("blocks", plan.trunk), ("uncond", plan.uncond)) if letters]
    for layer in range(plan.layers):
        passed = plan.trunk or FULL * plan.total
        column = "".join(row[layer] for row in plan.attention)
        shown = "".join(c if p == FULL else p for c, p in zip(column, passed))
        rows.append((f"attention {layer}", shown))
    rows = rows or [("blocks", FULL * plan.total)]
    grid = np.array([[SHADES[c] for c in letters] for _, letters in rows])
    figure = Figure(figsize=(max(5.0, 1.8 + 0.17 * plan.total), 1.6 + 0.24 * len(rows)), layout="constrained")
    axes: Any = figure.subplots()
    colours = LinearSegmentedColormap.from_list("plan", ["#f3efe6", "#e0a458", "#1f4e5f"])
    axes.imshow(grid, cmap=colours, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    axes.set_xlabel("evaluation", fontsize=9)
    axes.set_title(title, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xticks(np.arange(-0.5, plan.total), minor=True)
    axes.set_yticks(np.arange(-0.5, len(rows)), minor=True)
    axes.grid(which="minor", color="white", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    there = dict.fromkeys(sorted({c for _, letters in rows for c in letters}, key=lambda c: -SHADES[c]))
    keys = [Patch(color=colours(SHADES[c]), label=SAID[c]) for c in there]
    figure.legend(
        handles=keys, loc="outside lower center", ncols=min(3, len(keys)), fontsize=7, frameon=False
    )
    files.write_bytes(path, lambda out: figure.savefig(out, format="png", dpi=120))
