"""The variance exploding path of Karras et al. 2206.00364."""

import torch
from torch import Tensor

from samplers.paths.clock import Level
from samplers.paths.coefficients import Coefficients, Time, as_time, check_begin, check_steps, no_spacing
from samplers.paths.gaussian import Gaussian


class EDMPath(Gaussian):
    """Variance exploding, alpha = 1, sigma = (1 − t)/t, i.e. t = 1/(1 + sigma) (Karras et al. 2206.00364).
    The network sees ln(sigma)/4.

    The grid is theirs: sigma_i^(1/rho) evenly spaced from sigma_max to sigma_min, then 0.
    """

    native, clock = "data", Level()

    def __init__(self, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0):
        if not 0 < sigma_min < sigma_max:
            raise ValueError(
                f"got sigma_min={sigma_min}, sigma_max={sigma_max}, expected 0 < sigma_min < sigma_max"
            )
        self.sigma_min, self.sigma_max, self.rho = sigma_min, sigma_max, rho
        self.t_start, self.prior_scale = 1 / (1 + sigma_max), sigma_max
        self.karras = {"sigma_min": sigma_min, "sigma_max": sigma_max, "rho": rho}

    @property
    def last_trained(self) -> float:
        return 1 / (1 + self.sigma_min)

    def open_end(self, s: float) -> bool:
        """Also at the data, where the network's clock, the logarithm of the noise, has no value."""
        return s == 1 or super().open_end(s)

    def coefficients(self, t: Time) -> Coefficients:
        t = as_time(t)
        return Coefficients(torch.ones_like(t), (1 - t) / t, torch.zeros_like(t), -1 / t**2)

    def log_snr(self, t: Time) -> Tensor:
        t = as_time(t)
        return 2 * (t.log() - (1 - t).log())

    def time_of(self, log_snr: Time) -> Tensor:
        return torch.sigmoid(as_time(log_snr) / 2)

    def network_time(self, t: Time) -> Tensor:
        t = as_time(t)
        return ((1 - t) / t).clamp_min(1e-20).log() / 4

    def grid(self, num_steps: int, spacing: str | None = None, *, begin: float | None = None) -> list[float]:
        check_steps(num_steps)
        no_spacing(spacing, "EDM")
        start = check_begin(begin, self.t_start, 1 / (1 + self.sigma_min))
        highest = self.sigma_max if start == self.t_start else 1 / start - 1
        a, b = highest ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        sigmas = [(a + i / max(num_steps - 1, 1) * (b - a)) ** self.rho for i in range(num_steps)]
        return [1 / (1 + s) for s in sigmas] + [1.0]
