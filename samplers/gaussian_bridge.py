"""The Schrödinger bridge between two Gaussians in closed form (Bunne et al. 2202.05722; Mallasto et al.
2006.03416).

Between N(a, A) and N(b, B) with reference sigma dW and eps = sigma²:

    D = (4 A^½ B A^½ + eps² I)^½,   C = Cov(source, data) = ½ (A^½ D A^−½ − eps I)
    mean_t = (1 − t) a + t b,   S_t = (1 − t)² A + t² B + t(1 − t)(C + Cᵀ) + eps t(1 − t) I

and, with E[data | x] and E[source | x] linear in x, drifts, velocity and score as `samplers.paths.bridge` has
them.
"""

import torch
from torch import Tensor

from backbones.types import Cond
from samplers.denoiser import FunctionDenoiser
from samplers.paths.bridge import BrownianBridge
from samplers.paths.coefficients import Time
from samplers.prediction import Prediction


def root(matrix: Tensor, power: float = 0.5) -> Tensor:
    """(d, d) a power of a symmetric positive matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0) ** power) @ vectors.mT


class GaussianBridge:
    """``mean_*`` (d,) and ``cov_*`` (d, d), float64. ``cross`` (d, d) is Cov(source, data). Raises
    ``ValueError`` for a singular source."""

    def __init__(
        self,
        mean_source: Tensor,
        cov_source: Tensor,
        mean_data: Tensor,
        cov_data: Tensor,
        *,
        sigma: float = 1.0,
    ):
        self.a, self.A, self.b, self.B, self.sigma = (
            mean_source.double(),
            cov_source.double(),
            mean_data.double(),
            cov_data.double(),
            sigma,
        )
        if float(torch.linalg.eigvalsh(self.A)[0]) <= 0:
            raise ValueError("got a source covariance that is not positive definite, expected one that is")
        eye, half = torch.eye(len(self.a), dtype=torch.float64), root(self.A)
        d = root(4 * half @ self.B @ half + sigma**4 * eye)
        self.cross = 0.5 * (half @ d @ root(self.A, -0.5) - sigma**2 * eye)

    def mean(self, t: float) -> Tensor:
        return (1 - t) * self.a + t * self.b

    def cov(self, t: float) -> Tensor:
        c, eye = self.cross, torch.eye(len(self.a), dtype=torch.float64)
        return (
            (1 - t) ** 2 * self.A
            + t**2 * self.B
            + t * (1 - t) * (c + c.mT)
            + self.sigma**2 * t * (1 - t) * eye
        )

    def ends(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """E[source | x_t] and E[data | x_t], (B, d) each."""
        gain = torch.linalg.solve(self.cov(t), (x.double() - self.mean(t)).mT).mT  # (B, d)
        source = self.a + gain @ ((1 - t) * self.A + t * self.cross).mT
        return source, self.b + gain @ ((1 - t) * self.cross + t * self.B)

    def predict(self, x: Tensor, t: Time, cond: Cond) -> Prediction:
        """Flow and score at (B, d); t a float. The limits at the ends are taken at 1e-9 from them."""
        at = min(max(float(t), 1e-9), 1 - 1e-9)
        source, data = self.ends(x, at)
        ahead, behind = (data - x.double()) / (1 - at), (source - x.double()) / at
        half = {"half_score": ((ahead + behind) / 2).to(x)}
        return Prediction(
            "velocity", ((ahead - behind) / 2).to(x), x, t, BrownianBridge(sigma=self.sigma), half
        )

    def denoiser(self) -> FunctionDenoiser:
        denoiser = FunctionDenoiser(BrownianBridge(sigma=self.sigma), self.predict)
        denoiser.starts = "source"
        return denoiser
