"""The variational bound of a learned variance: KL and binned likelihood from scratch, its minimum, and what
it trains."""

import math

import pytest
import torch
from mixture import points
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from backbones import NoiseSource
from samplers import Batch, LinearPath, Objective, Prediction, VPPath
from samplers.heads.parameterization import noise as noise_output
from samplers.heads.variational import bound, log_variance_of, log_variances

PATH = VPPath()


def prediction(k: int, head: float | Tensor, *, data: Tensor, guess: Tensor) -> Prediction:
    t = PATH.time(k)
    c = PATH.coefficients(t)
    x = c.alpha * data + c.sigma * points(*data.shape, seed=5)
    return Prediction(
        "data", guess, x, t, PATH, {"variance": torch.as_tensor(head, dtype=torch.float64).expand_as(x)}
    )


@pytest.mark.parametrize("k", [1, 2, 300, 999])
@pytest.mark.parametrize("head", [-1.0, 0.3, 1.0])
def test_kl_of_two_gaussians(k: int, head: float) -> None:
    data, guess = points(6, 3).clamp(-1, 1), points(6, 3, 1).clamp(-1, 1)
    p = prediction(k, head, data=data, guess=guess)
    beta, now, before = (float(v) for v in (PATH.betas[k], PATH.alpha_bar[k], PATH.alpha_bar[k - 1]))
    small = beta * (1 - before) / (1 - now)

    def mean(d: Tensor) -> Tensor:
        return math.sqrt(before) * beta / (1 - now) * d + math.sqrt(1 - beta) * (1 - before) / (1 - now) * p.x

    f = (head + 1) / 2
    sd = math.exp(0.5 * (f * math.log(beta) + (1 - f) * math.log(small)))
    kl = kl_divergence(Normal(mean(data), math.sqrt(small)), Normal(mean(guess), sd))
    torch.testing.assert_close(bound(p, data), kl.mean(1) / math.log(2), rtol=1e-8, atol=1e-12)


def test_at_the_last_step_it_is_a_likelihood_of_grey_levels() -> None:
    """Near the normal CDF's own value (the tanh form is an approximation), and a distribution over the 256
    levels."""
    levels = torch.linspace(-1, 1, 256, dtype=torch.float64)[:, None]
    p = prediction(0, 0.2, data=levels, guess=torch.full_like(levels, 0.1))
    p = Prediction("data", p.value, torch.full_like(levels, 0.1), p.t, PATH, p.heads)
    bits = bound(p, levels)
    assert float((2**-bits).sum()) == pytest.approx(1.0, abs=1e-6)
    beta, now = float(PATH.betas[0]), float(PATH.alpha_bar[0])
    mean = beta / (1 - now) * 0.1  # alpha_bar before is 1: the mean is the guess itself
    normal = Normal(
        torch.tensor(mean, dtype=torch.float64), log_variance_of(p, torch.zeros(256)).mul(0.5).exp()[0, 0]
    )
    exact = -(normal.cdf(levels + 1 / 255) - normal.cdf(levels - 1 / 255)).log2()[:, 0]
    near = exact < 8  # farther out the tanh form has lighter tails
    assert int(near.sum()) > 5
    torch.testing.assert_close(bits[near], exact[near], rtol=2e-2, atol=3e-3)


def test_ends_count_all_that_lies_beyond() -> None:
    data = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    p = prediction(0, 0.0, data=data, guess=3 * data)
    p = Prediction("data", p.value, 3 * data, p.t, PATH, p.heads)
    torch.testing.assert_close(bound(p, data), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-9)


def test_no_bits_where_the_prediction_is_right() -> None:
    """With the true data and the posterior's own variance the KL is 0, and every other head costs more."""
    data = points(4, 3).clamp(-1, 1)
    for k in (1, 400):
        costs = [
            float(bound(prediction(k, h, data=data, guess=data), data).mean()) for h in (-1.0, -0.5, 0.5, 1.0)
        ]
        assert abs(costs[0]) < 1e-12 and costs == sorted(costs)


def test_variances_are_the_tables() -> None:
    large, small = log_variances(PATH, torch.tensor([0, 1, 500]))
    torch.testing.assert_close(large.exp(), PATH.betas[[0, 1, 500]])
    # entry 0 takes entry 1's
    posterior = [
        float(PATH.betas[k] * (1 - PATH.alpha_bar[k - 1]) / (1 - PATH.alpha_bar[k])) for k in (1, 1, 500)
    ]
    torch.testing.assert_close(small.exp(), torch.tensor(posterior, dtype=torch.float64))


def test_it_trains_the_variance_only() -> None:
    """The gradient to the mean is that of the squared error alone; the head's gradient scales with
    ``bound_weight``."""
    data, noise = points(8, 4).view(8, 1, 2, 2).clamp(-1, 1), NoiseSource(range(8))
    grads = {}
    for weight in (0.0, 1.0, 3.0):
        mean, head = (
            torch.zeros(8, 1, 2, 2, dtype=torch.float64, requires_grad=True),
            torch.zeros(8, 1, 2, 2, dtype=torch.float64, requires_grad=True),
        )
        objective = Objective(PATH, noise_output(variance="learned_range"), bound_weight=weight)
        objective.loss(
            lambda x, t, cond, ctx, m=mean, h=head: torch.cat([m, h], 1), Batch(data), noise
        ).per_sample.sum().backward()
        grads[weight] = (mean.grad, head.grad)
    torch.testing.assert_close(grads[1.0][0], grads[0.0][0])
    assert float(grads[0.0][1].abs().max()) == 0 and float(grads[1.0][1].abs().max()) > 0
    torch.testing.assert_close(grads[3.0][1], 3 * grads[1.0][1])


def test_its_own_gradient_leaves_the_mean_alone() -> None:
    """Also outside an objective: the bound detaches the data prediction and keeps the head."""
    data = points(4, 3).clamp(-1, 1)
    p = prediction(300, 0.2, data=data, guess=(0.5 * data).requires_grad_())
    head = p.heads["variance"].clone().requires_grad_()
    bound(Prediction("data", p.value, p.x, p.t, PATH, {"variance": head}), data).sum().backward()
    assert p.value.grad is None and float(head.grad.abs().min()) > 0


def test_needs_a_table() -> None:
    x = points(2, 2)
    with pytest.raises(ValueError, match="needs a VP path; use path: vp"):
        bound(Prediction("data", x, x, 0.5, LinearPath(), {"variance": x}), x)
