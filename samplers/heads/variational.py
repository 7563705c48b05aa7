"""The variational bound of a DDPM with a learned variance (Nichol & Dhariwal 2102.09672, section 3.1), in
bits per dimension.

L_k = KL(q(x_{k−1} | x_k, data) ‖ p(x_{k−1} | x_k)) for k > 0 and −log p(data | x_0) for k = 0, the latter a
Gaussian binned to 256 grey levels.
"""

import math
from typing import Any

import torch
from torch import Tensor

from samplers.paths.coefficients import expand
from samplers.prediction import Prediction


def log_variances(path: Any, k: Tensor) -> tuple[Tensor, Tensor]:
    """(log beta_k, log posterior variance_k), the latter clipped at k = 0 to that of k = 1; shape of k,
    float64."""
    bar = torch.cat([torch.ones(1, dtype=torch.float64), path.alpha_bar])
    small = path.betas * (1 - bar[:-1]) / (1 - bar[1:])
    small[0] = small[1]
    k = k.long()
    return path.betas.to(k.device)[k].log(), small.to(k.device)[k].log()


def log_variance_of(prediction: Prediction, k: Tensor) -> Tensor:
    """(B, ...) log variance of the learned-range head: f·log beta + (1 − f)·log posterior variance, f = (head
    + 1)/2."""
    large, small = log_variances(prediction.path, k)
    f = (prediction.head("variance") + 1) / 2
    return f * expand(large, f) + (1 - f) * expand(small, f)


def _normal_kl(mean: Tensor, log_var: Tensor, mean2: Tensor, log_var2: Tensor) -> Tensor:
    return 0.5 * (
        log_var2 - log_var - 1 + (log_var - log_var2).exp() + (mean - mean2) ** 2 * (-log_var2).exp()
    )


def _cdf(x: Tensor) -> Tensor:
    """The tanh approximation of the normal CDF that ADM's likelihoods use."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _binned_nll(data: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    inverse = (-log_std).exp()
    upper, lower = _cdf(inverse * (data - mean + 1 / 255)), _cdf(inverse * (data - mean - 1 / 255))
    log_p = torch.where(
        data < -0.999,
        upper.clamp_min(1e-12).log(),
        torch.where(data > 0.999, (1 - lower).clamp_min(1e-12).log(), (upper - lower).clamp_min(1e-12).log()),
    )
    return -log_p


def bound(prediction: Prediction, data: Tensor) -> Tensor:
    """(B,) term of the bound at the prediction's time, in bits per dimension. The mean is detached: it trains
    the variance only."""
    path: Any = prediction.path
    if not path.tabled:
        raise ValueError("the variational bound of a learned variance needs a VP path; use path: vp")
    k = path.index(prediction.t).round().long().clamp(0, path.size - 1).to(data.device).expand(len(data))
    bar = torch.cat([torch.ones(1, dtype=torch.float64), path.alpha_bar]).to(data.device)
    b, now, before = path.betas.to(data.device)[k], bar[k + 1], bar[k]
    c_data, c_x = before.sqrt() * b / (1 - now), (1 - b).sqrt() * (1 - before) / (1 - now)
    guess = prediction.to("data").detach()
    true_mean = expand(c_data, data) * data + expand(c_x, data) * prediction.x
    mean = expand(c_data, data) * guess + expand(c_x, data) * prediction.x
    log_var = log_variance_of(prediction, k)
    kl = _normal_kl(true_mean, expand(log_variances(path, k)[1], data), mean, log_var)
    nll = _binned_nll(data, mean, 0.5 * log_var)
    first = (k == 0).view(-1, *[1] * (data.ndim - 1))
    return torch.where(first, nll, kl).flatten(1).mean(1) / math.log(2)
