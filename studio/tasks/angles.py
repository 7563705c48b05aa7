"""Angles: (B, d) or sequences (B, L, d), float32 radians in [−π, π), of sequences all places shown together.
One is shown as a rose, two as a scatter on their square, more as a histogram of each."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from studio.tasks import plane
from studio.tasks.base import Task
from studio.tasks.views import View

BINS = 48
SHOWN = 12  # histograms of a sheet


class AnglesTask(Task):
    name, together, previewed, array = "angles", True, 2048, "values"
    measures = "studio.evaluation.angle_measures:MEASURES"

    @classmethod
    def misfit(cls, array: np.ndarray) -> str:
        return "" if array.ndim in (2, 3) and array.dtype.kind == "f" else "float radians (N, d) or (N, L, d)"

    def pictures(self, values: Tensor) -> list[Image.Image]:
        """One plot of all samples."""
        return [self.sheet(values)]

    def views(self, shape: Sequence[int]) -> tuple[View, ...]:
        """Of pairs of angles where they lie."""
        return plane.ANGLES if shape[-1] == 2 else ()

    def sheet(
        self, values: Tensor, *, columns: int | None = None, captions: Sequence[str] = ()
    ) -> Image.Image:
        from matplotlib.figure import Figure

        angles = values.flatten(0, -2).cpu().numpy()
        shown = min(angles.shape[1], SHOWN)
        if angles.shape[1] <= 2:
            figure = Figure(figsize=(4, 4), dpi=120, layout="tight")
            draw(figure.subplots(subplot_kw={"projection": "polar"} if shown == 1 else {}), angles)
        else:
            figure = Figure(figsize=(6, 1.5 * math.ceil(shown / 3)), dpi=120, layout="tight")
            for k, axes in enumerate(figure.subplots(math.ceil(shown / 3), 3, squeeze=False).flat):
                if k < shown:
                    histogram(axes, angles[:, k])
                axes.set_visible(k < shown)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        return Image.open(buffer).convert("RGB")


def draw(axes: Any, angles: np.ndarray) -> None:
    """A rose of (N, 1) angles on polar axes, a scatter of (N, 2) on others."""
    if angles.shape[1] == 1:
        counts, edges = np.histogram(angles, BINS, (-math.pi, math.pi))
        axes.bar(edges[:-1], counts, width=2 * math.pi / BINS, align="edge")
        axes.set_yticklabels([])
        return
    axes.scatter(angles[:, 0], angles[:, 1], s=4, alpha=0.5, linewidths=0)
    axes.set_aspect("equal")
    _ticks(axes.set_xlim, axes.set_xticks)
    _ticks(axes.set_ylim, axes.set_yticks)


def histogram(axes: Any, angles: np.ndarray) -> None:
    axes.hist(angles, BINS, (-math.pi, math.pi))
    axes.set_yticks([])
    _ticks(axes.set_xlim, axes.set_xticks)


def _ticks(limits: Any, ticks: Any) -> None:
    limits(-math.pi, math.pi)
    ticks([-math.pi, 0, math.pi], ["−π", "0", "π"])
