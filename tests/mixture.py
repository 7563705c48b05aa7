"""A Gaussian mixture whose denoiser, score and density are known in closed form on every path; float64.

For x = a·data + s·noise and components (w_k, m_k, std_k): var_k = a² std_k² + s², r_k ∝ w_k N(x; a m_k,
var_k) and E[data | x] = Σ r_k (m_k + a std_k² (x − a m_k) / var_k).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from backbones import Cond
from samplers import FunctionDenoiser, Prediction
from samplers.paths import Path, Time


@dataclass(frozen=True)
class Mixture:
    """``weights`` (K,), ``means`` (K, d), ``stds`` (K,) of isotropic components."""

    weights: tuple[float, ...] = (0.4, 0.6)
    means: tuple[tuple[float, ...], ...] = ((-1.5, 0.5), (1.0, -1.0))
    stds: tuple[float, ...] = (0.35, 0.6)

    @cached_property
    def _made(self) -> tuple[Tensor, Tensor, Tensor]:
        """Means (d, K, 1), variances and logarithms of the weights (K, 1)."""
        m, std, w = (torch.tensor(v, dtype=torch.float64) for v in (self.means, self.stds, self.weights))
        return m.T[..., None], std[:, None] ** 2, w.log()[:, None]

    def _terms(self, x: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Samples come last, as torch is quick along long rows."""
        m, v, w = self._made
        a, s = (torch.as_tensor(c, dtype=torch.float64).reshape(-1) for c in (a, s))  # (B or 1,)
        var = a**2 * v + s**2  # (K, B)
        off = x.double().T[:, None] - a * m  # (d, K, B)
        log = w - off.square().sum(0) / (2 * var) - x.shape[1] / 2 * (2 * math.pi * var).log()
        return log, off, a * v / var, m

    def denoise(self, x: Tensor, a: float | Tensor, s: float | Tensor) -> Tensor:
        """E[data | x], (B, d); ``a`` and ``s`` are numbers or (B,)."""
        log, off, gain, m = self._terms(x, a, s)
        return (log.softmax(0) * (m + gain * off)).sum(1).T.to(x.dtype).contiguous()

    def log_prob(self, x: Tensor, a: float | Tensor = 1.0, s: float | Tensor = 0.0) -> Tensor:
        return self._terms(x, a, s)[0].logsumexp(0)

    def denoiser(self, path: Path, space: str = "data") -> FunctionDenoiser:
        """The exact model on a path, emitting in any space."""

        def predict(x: Tensor, t: Time, cond: Cond) -> Prediction:
            c = path.coefficients(t)
            prediction = Prediction("data", self.denoise(x, c.alpha, c.sigma), x, t, path)
            return prediction if space == "data" else prediction.with_(space, prediction.to(space))

        return FunctionDenoiser(path, predict)


def gaussian(mean: float, std: float, dim: int = 1) -> Mixture:
    """One isotropic Gaussian. Its probability flow is x_t = a m + √(a² std² + s²) z with z constant in t."""
    return Mixture((1.0,), ((mean,) * dim,), (std,))


def correlated(path: Path, mean: Tensor, cov: Tensor) -> FunctionDenoiser:
    """The exact model of N(mean, cov), (d,) and (d, d): E[data | x] = mean + a cov (a² cov + s² I)⁻¹ (x − a
    mean), along the axes of cov."""
    spread, axes = torch.linalg.eigh(cov)

    def predict(x: Tensor, t: Time, cond: Cond) -> Prediction:
        c = path.coefficients(t)
        a, s = c.alpha.reshape(-1, 1), c.sigma.reshape(-1, 1)
        off = (x.double() - a * mean) @ axes * (a * spread / (a**2 * spread + s**2))
        return Prediction("data", (mean + off @ axes.T).to(x.dtype), x, t, path)

    return FunctionDenoiser(path, predict)


def root(cov: Tensor) -> Tensor:
    """The symmetric square root of a covariance."""
    values, vectors = torch.linalg.eigh(cov)
    return vectors @ values.sqrt().diag() @ vectors.T


def points(n: int = 16, dim: int = 2, seed: int = 0) -> Tensor:
    """(n, dim) standard normal float64 draws."""
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
