"""Pictures of many pictures: the contact sheet and the heat maps of a sweep, and what a bridge made of its
sources."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from studio.runtime import files
from studio.tasks.base import Task


class Axis(Protocol):
    """See `studio.evaluation.sweep.Axis`."""

    @property
    def key(self) -> str: ...
    @property
    def values(self) -> tuple[str, ...]: ...


def contact_sheet(path: Path, axes: Sequence[Axis], pictures: Mapping[tuple[int, ...], Path]) -> None:
    """One picture per combination: the first axis to the right, the second downwards, further ones as blocks
    below each other."""
    first = Image.open(next(iter(pictures.values())))
    width, height, gap, edge, head = first.width, first.height, 6, 150, 20
    columns = len(axes[0].values)
    rows = sorted({place[1:] for place in pictures})
    sheet = Image.new("RGB", (edge + columns * (width + gap), head + len(rows) * (height + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, value in enumerate(axes[0].values):
        draw.text(
            (edge + i * (width + gap) + 2, 4), f"{axes[0].key} = {value}"[: max(8, width // 6)], fill="black"
        )
    for j, rest in enumerate(rows):
        lines = [f"{a.key} = {a.values[k]}" for a, k in zip(axes[1:], rest)]
        draw.multiline_text(
            (4, head + j * (height + gap) + 4), "\n".join(line[:24] for line in lines), fill="black"
        )
        for i in range(columns):
            with Image.open(pictures[(i, *rest)]) as picture:
                sheet.paste(picture.convert("RGB"), (edge + i * (width + gap), head + j * (height + gap)))
    with files.replacing(path) as draft:
        sheet.save(draft, format="PNG")


def heat_map(path: Path, name: str, axes: Sequence[Axis], grid: np.ndarray) -> None:
    """``grid`` by the axes' order; a panel for each combination of the axes after the second; the numbers
    stand in the cells."""
    from matplotlib.figure import Figure

    shape = (*grid.shape, 1) if grid.ndim == 1 else grid.shape
    panels = grid.reshape(*shape[:2], -1)
    labels = (
        [""]
        if grid.ndim < 3
        else [
            ", ".join(f"{a.key}={a.values[i]}" for a, i in zip(axes[2:], place))
            for place in np.ndindex(*grid.shape[2:])
        ]
    )
    figure = Figure(
        figsize=((1.6 + 0.8 * shape[0]) * len(labels), 1.6 + 0.5 * shape[1]), dpi=110, layout="constrained"
    )
    low, high = np.nanmin(grid), np.nanmax(grid)
    for k, label in enumerate(labels):
        ax = figure.add_subplot(1, len(labels), k + 1)
        ax.imshow(panels[:, :, k].T, aspect="auto", cmap="viridis", vmin=low, vmax=high)
        ax.set_xticks(range(shape[0]), axes[0].values)
        ax.set_xlabel(axes[0].key)
        ax.set_yticks(range(shape[1]), axes[1].values if len(axes) > 1 else [""])
        ax.set_ylabel(axes[1].key if len(axes) > 1 else "")
        ax.set_title(f"{name} {label}".strip())
        for i, j in np.ndindex(*shape[:2]):
            value = panels[i, j, k]
            if np.isfinite(value):
                bright = high > low and (value - low) / (high - low) > 0.6
                ax.text(
                    i,
                    j,
                    f"{value:.3g}",
                    ha="center",
                    va="center",
                    color="black" if bright else "white",
                    fontsize=8,
                )
    with files.replacing(path) as draft:
        figure.savefig(draft, format="png")


def before_and_after(task: Task, sources: Tensor | None, values: Tensor) -> Image.Image:
    """A sheet of samples; of a bridge, rows of sources with rows of what became of them below."""
    if sources is None or task.together:
        return task.sheet(values)
    columns = min(10, len(values))
    rows = []
    for a in range(0, len(values), columns):
        for part in (sources[a : a + columns], values[a : a + columns]):
            white = 1 if values.is_floating_point() else 255
            blank = torch.full((columns - len(part), *values.shape[1:]), white, dtype=values.dtype)
            rows.append(torch.cat([part.to(values), blank]))
    return task.sheet(torch.cat(rows), columns=columns)
