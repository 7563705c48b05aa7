"""Curves (B, L) and (B, C, L), and rows (B, n, d) as curves of each of their numbers: floats, kept exactly.
Shown together, a panel a channel."""

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from studio.tasks.base import Task
from studio.tasks.views import Seen, View, save

PANELS = 6  # channels of a sheet
FEW = 20  # of fewer curves no quantiles are drawn
EACH, ASIDE = 24, 4  # curves in panels of their own, and such panels in a row
LINES = 6  # curves that are drawn beside the quantiles


class CurvesTask(Task):
    """``dtype``: of the data, and of files of samples."""

    name, array, together, previewed = "curves", "values", True, 256
    measures: Any = "studio.evaluation.series_measures:CURVES"

    def __init__(self, *, dtype: str = "float32"):
        self.dtype = dtype

    @classmethod
    def misfit(cls, array: np.ndarray) -> str:
        return "" if array.ndim in (2, 3) and array.dtype.kind == "f" else "floats (N, L) or (N, C, L)"

    def shows(self, shape: Sequence[int]) -> bool:
        return len(shape) in (1, 2)

    def pictures(self, values: Tensor) -> list[Image.Image]:
        """One plot of all samples."""
        return [self.sheet(values)]

    def sheet(
        self, values: Tensor, *, columns: int | None = None, captions: Sequence[str] = ()
    ) -> Image.Image:
        return _panels(self._drawn(values))

    def views(self, shape: Sequence[int]) -> tuple[View, ...]:
        return (View("One by one", "sheet.each.png", "picture", self._each),)

    def _each(self, path: Path, seen: Seen) -> None:
        """The first few in panels of their own, on the same axes; channels in colours."""
        from matplotlib.figure import Figure

        channels = self._drawn(seen.values[:EACH])
        rows = math.ceil(channels.shape[1] / ASIDE)
        figure = Figure(figsize=(2 * ASIDE, 0.4 + 1.4 * rows), dpi=120, layout="constrained")
        for k, axes in enumerate(figure.subplots(rows, ASIDE, squeeze=False, sharex=True, sharey=True).flat):
            axes.set_visible(k < channels.shape[1])
            if k < channels.shape[1]:
                axes.plot(channels[:, k].T, linewidth=1)
                axes.set_title(f"seed {seen.recipes[k]['seed']}", fontsize=8)
        save(path, figure)

    def frames(self, steps: Sequence[Tensor], *, captions: Sequence[str] = ()) -> Iterator[Image.Image]:
        """On axes that hold them all."""
        drawn = [self._drawn(values) for values in steps]
        spans = [(np.nanmin(one), np.nanmax(one)) for one in np.stack(drawn, axis=1)]
        return (_panels(channels, spans) for channels in drawn)

    def _drawn(self, values: Tensor) -> np.ndarray:
        return self.channels(values.cpu().double().numpy())[:PANELS]

    def channels(self, values: np.ndarray) -> np.ndarray:
        """(C, N, L)."""
        return values[None] if values.ndim == 2 else values.swapaxes(0, 1)


class RowsTask(CurvesTask):
    """Rows (B, n, d), 0 on padding."""

    name = "rows"
    measures = "studio.evaluation.series_measures:ROWS"

    @classmethod
    def misfit(cls, array: np.ndarray) -> str:
        return "" if array.ndim == 3 and array.dtype.kind == "f" else "floats (N, n, d), 0 on padding"

    def shows(self, shape: Sequence[int]) -> bool:
        return len(shape) == 2

    def channels(self, values: np.ndarray) -> np.ndarray:
        """(d, N, n), NaN on padding, as long as the longest."""
        real = (values != 0).any(-1)
        longest = max(int(real.sum(1).max()), 1)
        return np.moveaxis(np.where(real[..., None], values, np.nan)[:, :longest], -1, 0)


def _panels(channels: np.ndarray, spans: Sequence[tuple[float, float]] = ()) -> Image.Image:
    """Of (C, N, L) a panel each; ``spans``: of what, from below to above."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 1 + 2 * len(channels)), dpi=120, layout="tight")
    panels = figure.subplots(len(channels), squeeze=False, sharex=True).flat
    for k, (axes, one) in enumerate(zip(panels, channels)):
        draw(axes, one)
        if spans:
            low, high = spans[k]
            edge = 0.05 * (high - low) or 1.0
            axes.set_ylim(low - edge, high + edge)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def draw(axes: Any, curves: np.ndarray) -> None:
    """Of (N, L): the median, bands of 50 and 90% of the curves at each place, and the first few; of few
    curves all of them."""
    places = np.arange(curves.shape[1])
    many = len(curves) >= FEW
    if many:
        low, quarter, middle, three, high = np.nanquantile(curves, (0.05, 0.25, 0.5, 0.75, 0.95), axis=0)
        axes.fill_between(places, low, high, color="tab:blue", alpha=0.15, linewidth=0)
        axes.fill_between(places, quarter, three, color="tab:blue", alpha=0.25, linewidth=0)
        axes.plot(places, middle, color="tab:blue", linewidth=2)
    for curve in curves[: LINES if many else FEW]:
        axes.plot(places, curve, color="black" if many else None, linewidth=0.7, alpha=0.7)
    axes.margins(x=0)
