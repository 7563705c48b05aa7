"""Distances between two sets of features, from their moments or from a kernel; everything is added up in
float64.

Fréchet (FID, Heusel et al. 1706.08500): |m1 − m2|² + tr S1 + tr S2 − 2 tr (S1 S2)^½. With S1 = A Aᵀ and S2 =
B Bᵀ the last trace is the sum of the singular values of Aᵀ B, whose squares are the eigenvalues of Aᵀ S2 A:
no root of a matrix that is not symmetric, no imaginary parts, and no rounding blown up by a root of
eigenvalues near zero.

Kernel (KID, Bińkowski et al. 1801.01401): the unbiased squared MMD with k(x, y) = (x·y / d + 1)³. Inception
score (Salimans et al. 1606.03498): exp E KL(p(y|x) ‖ p(y)). The last two follow torch-fidelity to the order
of their random draws (its seed is 2020).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Array = Tensor | np.ndarray
CHUNK = 2048  # rows that are held in float64 at a time


def checked(features: Array, what: str = "features") -> Tensor:
    """(N, d) on the CPU, as it came or as float64 for integers. Raises ``ValueError`` for another shape, no
    rows, NaN or infinity."""
    x = torch.as_tensor(features).detach().cpu()
    if x.ndim != 2 or not x.numel():
        raise ValueError(
            f"got {what} of shape {tuple(x.shape)}, expected (N, d) with at least one row; flatten each "
            "sample to a vector"
        )
    x = x if x.dtype in (torch.float32, torch.float64) else x.double()
    if not bool(torch.isfinite(x).all()):
        bad = int((~torch.isfinite(x)).any(1).sum())
        raise ValueError(
            f"got {what} with NaN or infinity in {bad} of {len(x)} rows, expected finite numbers; look at "
            "those samples first"
        )
    return x


def same_width(a: Tensor, b: Tensor) -> None:
    """Raises ``ValueError`` unless both have the same number of columns."""
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(
            f"got features of {a.shape[-1]} and {b.shape[-1]} dimensions, expected the same; extract both "
            "with one extractor"
        )


def refuse_small(n: int, dim: int, allow_small: bool = False) -> None:
    """Raises ``ValueError`` when ``n`` samples cannot span ``dim`` dimensions: a Fréchet distance is then
    dominated by its bias."""
    if n < dim and not allow_small:
        raise ValueError(
            f"got {n} samples for features of {dim} dimensions, expected at least {dim}: the covariance "
            "would be singular and the distance biased; "
            "make more samples, use an extractor with fewer dimensions, or allow small sets and compare "
            "only numbers of the same N"
        )


class Moments:
    """Count, mean (d,) and covariance (d, d) of rows that come in batches or from several processes (Chan et
    al. 1983), in float64."""

    def __init__(self, dim: int | None = None):
        self.count, self.mean, self.scatter = (
            0,
            torch.zeros(dim or 0, dtype=torch.float64),
            torch.zeros(dim or 0, dim or 0, dtype=torch.float64),
        )

    @property
    def dim(self) -> int:
        return len(self.mean)

    @property
    def covariance(self) -> Tensor:
        """(d, d), divided by N − 1. Raises ``ValueError`` for fewer than two rows."""
        if self.count < 2:
            raise ValueError(f"got {self.count} samples, expected at least 2 for a covariance")
        return self.scatter / (self.count - 1)

    def update(self, batch: Array) -> "Moments":
        """Add rows (B, d); returns itself. Raises ``ValueError`` for NaN, infinity or another d."""
        x = checked(batch)
        for start in range(0, len(x), CHUNK):
            part = x[start : start + CHUNK].double()
            mean = part.mean(0)
            off = (part - mean).numpy()
            # numpy sees one array twice and computes one triangle
            self._add(len(part), mean, torch.from_numpy(off.T @ off))
        return self

    def merge(self, other: "Moments") -> "Moments":
        """Add what another process has seen; returns itself."""
        if other.count:
            self._add(other.count, other.mean, other.scatter)
        return self

    def without(self, part: "Moments") -> "Moments":
        """Of the rows that are not in ``part``, some of these rows. Raises ``ValueError`` unless at least two
        are left."""
        left = self.count - part.count
        if left < 2:
            raise ValueError(
                f"got {part.count} of {self.count} samples to take away, expected at least 2 to be left"
            )
        same_width(self.mean, part.mean)
        made, shift = Moments(), part.mean - self.mean
        made.count, made.mean = left, self.mean - shift * (part.count / left)
        made.scatter = (self.scatter - part.scatter).addr_(
            shift, shift, alpha=-part.count * self.count / left
        )
        return made

    def _add(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if not self.count:
            if self.dim:
                same_width(self.mean, mean)
            self.count, self.mean, self.scatter = count, mean.clone(), scatter.clone()
            return
        same_width(self.mean, mean)
        total, shift = self.count + count, mean - self.mean
        self.scatter = (self.scatter + scatter).addr_(shift, shift, alpha=self.count * count / total)
        self.mean, self.count = self.mean + shift * (count / total), total

    @classmethod
    def of(cls, features: Array) -> "Moments":
        """Of one array (N, d)."""
        return cls().update(features)

    @classmethod
    def given(cls, count: int, mean: Array, covariance: Array) -> "Moments":
        """From published statistics. Raises ``ValueError`` for shapes that do not fit, NaN, or a covariance
        that is not symmetric."""
        made = cls()
        mu, cov = torch.as_tensor(mean).double(), torch.as_tensor(covariance).double()
        if mu.ndim != 1 or tuple(cov.shape) != (len(mu), len(mu)):
            raise ValueError(
                f"got mean {tuple(mu.shape)} and covariance {tuple(cov.shape)}, expected (d,) and (d, d)"
            )
        if count < 2 or not bool(torch.isfinite(mu).all() & torch.isfinite(cov).all()):
            raise ValueError(f"got statistics of {count} samples, expected at least 2 and finite numbers")
        if float((cov - cov.T).abs().max()) > 1e-4 * float(cov.abs().max()):
            raise ValueError(
                "got a covariance that is not symmetric, expected one of samples; the file may be damaged"
            )
        made.count, made.mean, made.scatter = count, mu, (cov + cov.T) / 2 * (count - 1)
        return made


def frechet(a: Moments, b: Moments) -> float:
    """Squared Fréchet distance of the two Gaussians; at least 0, and 0 to rounding for equal moments. Raises
    ``ValueError`` when d differs."""
    same_width(a.mean, b.mean)
    first, second = a.covariance, b.covariance
    cross = torch.linalg.svdvals(factor(first).T @ factor(second)).sum()
    return max(0.0, float((a.mean - b.mean).square().sum() + first.trace() + second.trace() - 2 * cross))


def factor(covariance: Tensor) -> Tensor:
    """A (d, d) with A Aᵀ = covariance: Cholesky's where it exists, otherwise from eigenvectors with tiny
    negative eigenvalues set to 0."""
    lower, info = torch.linalg.cholesky_ex(covariance)
    if int(info) == 0:
        return lower
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()


def class_frechet(
    samples: Array,
    sample_labels: Sequence[int] | Array,
    reference: Array,
    reference_labels: Sequence[int] | Array,
    *,
    skip_small: bool = False,
) -> tuple[float, dict[int, float]]:
    """Mean over classes of the Fréchet distance within the class, and each class's own.

    Labels are (N,) and (M,) integers. Raises ``ValueError`` for a class of either side with fewer than two
    samples on one of them; ``skip_small`` leaves such classes out instead.
    """
    x, y = checked(samples, "samples"), checked(reference, "reference")
    same_width(x, y)
    p, q = (torch.as_tensor(v).cpu().long() for v in (sample_labels, reference_labels))
    if p.shape != (len(x),) or q.shape != (len(y),):
        raise ValueError(
            f"got labels {tuple(p.shape)} and {tuple(q.shape)}, expected one for each of {len(x)} samples "
            f"and {len(y)} references"
        )
    classes = sorted(set(p.tolist()) | set(q.tolist()))
    small = [c for c in classes if int((p == c).sum()) < 2 or int((q == c).sum()) < 2]
    if small and (not skip_small or len(small) == len(classes)):
        raise ValueError(
            f"got fewer than 2 samples of class {', '.join(map(str, small))} on one side, expected 2 of "
            "each; make more or skip_small=True"
        )
    each = {c: frechet(Moments.of(x[p == c]), Moments.of(y[q == c])) for c in classes if c not in small}
    return float(np.mean(list(each.values()))), each


def kernel_distance(
    x: Array, y: Array, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """KID: mean and standard deviation over random subsets (without replacement) of the unbiased squared MMD;
    it may be negative.

    Raises ``ValueError`` for sets smaller than ``subset_size``.
    """
    a, b = checked(x), checked(y)
    same_width(a, b)
    if subset_size < 2 or subsets < 1:
        raise ValueError(
            f"got subsets={subsets} of subset_size={subset_size}, expected at least 1 of at least 2"
        )
    if min(len(a), len(b)) < subset_size:
        raise ValueError(
            f"got {len(a)} and {len(b)} samples, expected at least subset_size={subset_size}; make more "
            "or lower subset_size"
        )
    draws = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        p, q = (
            v[torch.from_numpy(draws.choice(len(v), subset_size, replace=False))].double() for v in (a, b)
        )
        within = sum(float(k.sum() - k.trace()) for k in (cubic(p, p), cubic(q, q))) / (
            subset_size * (subset_size - 1)
        )
        values.append(within - 2 * float(cubic(p, q).mean()))
    return float(np.mean(values)), float(np.std(values))


def cubic(x: Tensor, y: Tensor) -> Tensor:
    """(N, d), (M, d) → (N, M): (x·y / d + 1)³."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def inception_score(
    logits: Array, *, splits: int = 10, shuffle: bool = True, seed: int = 0
) -> tuple[float, float]:
    """(N, K) logits → mean and standard deviation over ``splits`` equal parts, 1 (every sample the same
    classes) to K.

    The samples are shuffled first, so that sets sorted by class score as others do. Raises ``ValueError`` for
    fewer samples than splits.
    """
    x = checked(logits, "logits").double()
    if not 1 <= splits <= len(x):
        raise ValueError(f"got splits={splits} for {len(x)} samples, expected 1 to {len(x)}")
    if shuffle:
        x = x[torch.from_numpy(np.random.RandomState(seed).permutation(len(x)))]
    scores = []
    for i in range(splits):
        log_p = x[i * len(x) // splits : (i + 1) * len(x) // splits].log_softmax(1)
        log_q = log_p.logsumexp(0) - np.log(len(log_p))
        scores.append(float((log_p.exp() * (log_p - log_q)).sum(1).mean().exp()))
    return float(np.mean(scores)), float(np.std(scores))
