"""DPM-Solver++ (Lu et al. 2211.01095): exponential integrators of the data prediction in λ =
log(alpha/sigma).

With h = λ_s − λ_t, so that e^{−h} = (alpha_t sigma_s)/(sigma_t alpha_s):

    order 1   x_s = (sigma_s/sigma_t) x − alpha_s (e^{−h} − 1) D0
    order 2M  … − ½ alpha_s (e^{−h} − 1) D1,   D1 = (D0 − D₋₁)/r,  r = h₋/h

The first step and the step into sigma = 0 are of first order.
"""

import math
from typing import Any

from torch import Tensor

from backbones.types import Noise
from samplers.solvers.base import Predict, Sampler


class DPMpp1(Sampler):
    """First order; with ``spacing`` leading or linspace its grid is DPM-Solver++'s (n + 1 points without the
    last)."""

    def grid(self, path: Any, num_steps: int) -> list[float]:
        if not path.tabled:
            return super().grid(path, num_steps)
        return path.grid(
            num_steps, self.spacing, extra=1, begin=None if self.lambda_min is None else self.begin_time(path)
        )

    def step(
        self, x: Tensor, t: float, s: float, predict: Predict, noise: Noise | None, history: list[Any]
    ) -> Tensor:
        prediction = predict(x, t)
        data, path = self.bound(prediction.to("data")), prediction.path
        now, then = path.coefficients(t), path.coefficients(s)
        factor = now.alpha * then.sigma / now.sigma - then.alpha  # alpha_s (e^{−h} − 1), finite at both ends
        out = then.sigma / now.sigma * x - factor * data
        h = float(path.log_snr(s) - path.log_snr(t)) / 2
        correction = self.correction(data, h, history)
        return out if correction is None or float(then.sigma) == 0 else out - 0.5 * factor * correction

    def correction(self, data: Tensor, h: float, history: list[Any]) -> Tensor | None:
        return None


class DPMpp2M(DPMpp1):
    """Second order, multistep: one evaluation a step."""

    def correction(self, data: Tensor, h: float, history: list[Any]) -> Tensor | None:
        before = history[-1] if history else None
        history[:] = [(h, data)]
        if before is None or not math.isfinite(before[0]):
            return None
        return (data - before[1]) * (h / before[0])
