"""Backbones drawn: the Ramachandran plot, and traces of the Cα as pictures and as SVG, without anything from
the network."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from studio.recipes.protein.placing import place, real
from studio.runtime import files
from studio.tasks.views import Seen, table

ACROSS, PANEL = 4, 220  # panels in a row, and pixels of one
FEW = 12  # traces of a sheet
COUNT = 400  # chains of the data, beside the samples
TURN, TICKS = (-180, 180), (-180, 0, 180)


def traces(angles: np.ndarray) -> list[np.ndarray]:
    """Of (N, n, 6) the Cα of each chain, (n, 3) Å about its centre, its longest axis first, then the next:
    what is nearer to the eye has a greater third number."""
    made = []
    for atoms, there in zip(place(angles), real(angles)):
        ca = atoms[there, 1]
        ca = ca - ca.mean(0)
        axes = np.linalg.svd(ca, full_matrices=False)[2]
        if np.linalg.det(axes) < 0:  # a mirrored helix would turn the other way
            axes[2] *= -1
        made.append(ca @ axes.T)
    return made


def colour(share: float) -> tuple[int, int, int]:
    """Blue at the chain's beginning, by green and yellow to red at its end."""
    stops = np.array([[40, 90, 200], [30, 160, 130], [200, 170, 30], [200, 60, 50]])
    at = share * (len(stops) - 1)
    k = min(int(at), len(stops) - 2)
    red, green, blue = (stops[k] + (at - k) * (stops[k + 1] - stops[k])).round().astype(int).tolist()
    return red, green, blue


def svg(angles: np.ndarray, captions: Sequence[str]) -> str:
    """A trace of each chain, what is nearer drawn later and thicker."""
    drawn = traces(angles)
    rows = -(-len(drawn) // ACROSS)
    wide, high = PANEL * min(ACROSS, len(drawn)), (PANEL + 18) * rows
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" '
        f'height="{high}">',
        f'<rect width="{wide}" height="{high}" fill="white"/>',
    ]
    for k, (ca, caption) in enumerate(zip(drawn, captions)):
        left, top = PANEL * (k % ACROSS), (PANEL + 18) * (k // ACROSS)
        scale = 0.46 * PANEL / max(float(np.abs(ca[:, :2]).max()), 1.0)
        x, y = left + PANEL / 2 + scale * ca[:, 0], top + 18 + PANEL / 2 - scale * ca[:, 1]
        depth = (ca[:, 2] - ca[:, 2].min()) / max(float(np.ptp(ca[:, 2])), 1e-6)
        parts.append(
            f'<text x="{left + 6}" y="{top + 14}" font-family="sans-serif" font-size="12">{caption}</text>'
        )
        for i in np.argsort(depth[:-1] + depth[1:], kind="stable").tolist():
            red, green, blue = colour(i / max(len(ca) - 2, 1))
            parts.append(
                f'<path d="M{x[i]:.1f} {y[i]:.1f}L{x[i + 1]:.1f} {y[i + 1]:.1f}" '
                f'stroke="rgb({red},{green},{blue})" stroke-width="{1.5 + 2.5 * depth[i]:.1f}" '
                'stroke-linecap="round"/>'
            )
    return "\n".join([*parts, "</svg>", ""])


def sheet(angles: np.ndarray) -> Image.Image:
    """The Ramachandran plot of all, and traces of the first few."""
    from matplotlib.figure import Figure

    shown = traces(angles[:FEW])
    rows = max(2, -(-len(shown) // ACROSS))
    figure = Figure(figsize=(2 * rows + 1.6 * ACROSS, 1.8 * rows), dpi=100, layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=[2 * rows, 1.6 * ACROSS])
    left, right = halves
    scatter(left.subplots(), angles)
    for k, axes in enumerate(right.subplots(rows, ACROSS, squeeze=False).flat):
        axes.set_axis_off()
        if k < len(shown):
            trace(axes, shown[k])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def trace(axes: Any, ca: np.ndarray) -> None:
    """One chain's Cα on axes of matplotlib's."""
    from matplotlib.collections import LineCollection

    steps = np.stack([ca[:-1, :2], ca[1:, :2]], 1)
    colours = np.array([colour(i / max(len(steps) - 1, 1)) for i in range(len(steps))]) / 255
    order = np.argsort(ca[:-1, 2] + ca[1:, 2])
    axes.add_collection(
        LineCollection([*steps[order]], colors=colours[order], linewidths=2, capstyle="round")
    )
    axes.autoscale_view()
    axes.set_aspect("equal")


def scatter(axes: Any, angles: np.ndarray, title: str = "") -> None:
    """(phi, psi) in degrees."""
    degrees = np.rad2deg(angles[..., :2].reshape(-1, 2))
    axes.scatter(*degrees.T, s=2, alpha=0.4, linewidths=0)
    axes.set(xlim=TURN, ylim=TURN, xticks=TICKS, yticks=TICKS, xlabel="φ", ylabel="ψ", title=title)
    axes.set_aspect("equal")


def ramachandran(path: Path, seen: Seen) -> None:
    """The plot, beside that of the data where it is here."""
    from matplotlib.figure import Figure

    data = seen.maker.data(COUNT)
    panels = {"samples": seen.values} | ({} if data is None else {"data": data})
    figure = Figure(figsize=(4.2 * len(panels), 4.4), dpi=120, layout="constrained")
    for axes, (name, values) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels.items()):
        scatter(axes, values.numpy(), name)
    with files.replacing(path) as draft:
        figure.savefig(draft, format="png")


def numbers(path: Path, seen: Seen) -> None:
    """A row for each chain."""
    from studio.recipes.protein.measures import clashes, helical
    from studio.recipes.protein.placing import radius

    angles = seen.values.double().numpy()
    atoms, there = place(angles), real(angles)
    found = zip(seen.recipes, atoms, there, radius(atoms), helical(angles).sum(1))
    rows = (
        [recipe["seed"], int(rows.sum()), f"{r:.1f}", clashes(chain[rows]), f"{h / rows.sum():.2f}"]
        for recipe, chain, rows, r, h in found
    )
    table(path, ["seed", "residues", "radius of gyration (Å)", "clashes", "share in helices"], rows)
