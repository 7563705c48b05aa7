"""Points in the plane: (B, d) float. Shown as a scatter plot."""

import io
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from samplers import FunctionDenoiser, Prediction
from samplers.paths import Path, Time
from samplers.prediction import expand
from studio.data.toy import MIXTURE
from studio.tasks import plane
from studio.tasks.base import Task
from studio.tasks.views import View


class PointsTask(Task):
    name, together, previewed = "points", True, 512
    measures = "studio.evaluation.point_measures:MEASURES"

    def pictures(self, values: Tensor) -> list[Image.Image]:
        """One scatter plot of all samples."""
        return [self.sheet(values)]

    def sheet(
        self, values: Tensor, *, columns: int | None = None, captions: Sequence[str] = ()
    ) -> Image.Image:
        return _scatter(_plane(values))

    def views(self, shape: Sequence[int]) -> tuple[View, ...]:
        """Of the plane where they lie and the flow, of all a table."""
        return plane.POINTS if tuple(shape) == (2,) else plane.POINTS[-1:]

    def frames(self, steps: Sequence[Tensor], *, captions: Sequence[str] = ()) -> Iterator[Image.Image]:
        """On axes that hold them all."""
        seen = [_plane(values) for values in steps]
        every = torch.cat(seen)
        low, high = every.amin(0), every.amax(0)
        edge = 0.05 * (high - low).max().clamp(min=1e-3)
        return (_scatter(points, (low - edge, high + edge)) for points in seen)


def _plane(values: Tensor) -> Tensor:
    """(B, 2) the first two numbers of samples (B, d)."""
    return F.pad(values[:, :2].cpu(), (0, max(0, 2 - values.shape[1])))


def _scatter(points: Tensor, box: tuple[Tensor, Tensor] | None = None) -> Image.Image:
    """``box``: the corners of what is seen; all of the points where there is none."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4), dpi=120, layout="tight")
    axes = figure.subplots()
    x, y = points.T.numpy()
    axes.scatter(x, y, s=4, alpha=0.5, linewidths=0)
    axes.set_aspect("equal")
    if box is not None:
        (left, bottom), (right, top) = (corner.tolist() for corner in box)
        axes.set(xlim=(left, right), ylim=(bottom, top))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


class VectorsTask(PointsTask):
    """Vectors (B, d) of any meaning, whose file calls them ``values``; the first two numbers are shown."""

    name, array = "vectors", "values"


def exact_mixture(path: Path, *, std: float = 1.0) -> FunctionDenoiser:
    """The exact denoiser of the ``mixture`` data, in units of ``std`` (the codec's scale).

    With x = a·data + s·noise, component k has variance a² v_k + s², responsibility r_k(x), and E[data | x] =
    Σ r_k (m_k + a v_k/var_k (x − a m_k)).
    """
    weights, means, stds = (
        torch.tensor(MIXTURE[k], dtype=torch.float64) for k in ("weights", "means", "stds")
    )
    means, variances = means / std, (stds / std) ** 2

    def fn(x: Tensor, t: Time, cond: object) -> Prediction:
        c = path.coefficients(t)
        a, s = (expand(v, x.double())[..., None] for v in (c.alpha, c.sigma))
        var = a**2 * variances[:, None] + s**2  # (K, 1) or (B, K, 1)
        offset = x.double()[:, None, :] - a * means  # (B, K, d)
        log = weights.log() - (offset**2 / (2 * var)).sum(-1) - x.shape[-1] / 2 * var.squeeze(-1).log()
        share = log.softmax(-1)[..., None]
        data = (share * (means + a * variances[:, None] / var * offset)).sum(1)
        return Prediction("data", data.to(x), x, t, path)

    return FunctionDenoiser(path, fn)
