"""Views of samples in the plane: where they lie beside the data, and the flow that carried them there."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from studio.tasks.views import Seen, View, numbers, save

FEWEST, MOST = 16, 60  # bins along each side
COUNT = 4000  # of the data, beside the samples
SIDE = 18  # arrows along each side of the field
TIMES = (0.5, 0.9)
TURN = (-math.pi, math.pi)


def box_of(points: Tensor) -> list[tuple[float, float]]:
    """A square that holds points (N, 2), with room around: from and to, of both."""
    low, high = points.amin(0), points.amax(0)
    half = float(0.55 * (high - low).max().clamp(min=1e-3))
    return [(float(m) - half, float(m) + half) for m in (low + high) / 2]


def densities(path: Path, panels: dict[str, Tensor], box: list[tuple[float, float]]) -> None:
    """Histograms of points (N, 2) on one square and in one scale of colours, as fine as the fewest allow."""
    from matplotlib.figure import Figure

    bins = min(MOST, max(FEWEST, math.isqrt(min(map(len, panels.values())))))
    counts = {
        name: np.histogram2d(points[:, 0].numpy(), points[:, 1].numpy(), bins, box, density=True)[0].T
        for name, points in panels.items()
    }
    most = max(float(c.max()) for c in counts.values()) or 1.0
    figure = Figure(figsize=(4 * len(panels), 4.4), dpi=120, layout="constrained")
    for axes, (name, count) in zip(figure.subplots(1, len(panels), squeeze=False).flat, counts.items()):
        axes.imshow(count, origin="lower", extent=(*box[0], *box[1]), vmin=0, vmax=most, cmap="viridis")
        axes.set_title(name, fontsize=10)
    save(path, figure)


def density(path: Path, seen: Seen) -> None:
    """Of points in the plane, beside the data where that is here."""
    data = seen.maker.data(COUNT)
    panels = {"samples": seen.values} | ({} if data is None else {"data": data})
    densities(path, panels, box_of(torch.cat([*panels.values()])))


def angle_density(path: Path, seen: Seen) -> None:
    """The same of pairs of angles (..., 2), on the square that they turn round on."""
    data = seen.maker.data(COUNT)
    panels = {"samples": seen.values} | ({} if data is None else {"data": data})
    densities(path, {k: v.flatten(0, -2) for k, v in panels.items()}, [TURN, TURN])


def grid(box: list[tuple[float, float]]) -> Tensor:
    """(SIDE², 2) places of a square."""
    return torch.cartesian_prod(*(torch.linspace(*edges, SIDE) for edges in box))


def field(path: Path, seen: Seen) -> None:
    """The flow at a few times, and the samples; colours are speeds."""
    from matplotlib.figure import Figure

    places = grid(box_of(seen.values))
    figure = Figure(figsize=(4 * len(TIMES), 4.4), dpi=120, layout="constrained")
    for axes, t in zip(figure.subplots(1, len(TIMES)), TIMES):
        arrows = seen.maker.velocity(places, t)
        axes.scatter(*seen.values.T.numpy(), s=3, color="tab:gray", alpha=0.3, linewidths=0)
        axes.quiver(
            *places.T.numpy(), *arrows.T.numpy(), arrows.norm(dim=1).numpy(), cmap="viridis", width=0.006
        )
        axes.set_aspect("equal")
        axes.set_title(f"t = {t:g}", fontsize=10)
    save(path, figure)


POINTS = (
    View("Density", "sheet.density.png", "picture", density),
    View("Field", "sheet.field.png", "picture", field),
    View("Table", "sheet.csv", "table", numbers),
)
ANGLES = (View("Density", "sheet.density.png", "picture", angle_density),)
