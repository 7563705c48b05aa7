"""EDM's preconditioning on every path: finite where there is nothing but noise and at the data, theirs on
their own path, exact for Gaussian data."""

from typing import Any

import pytest
import torch
from mixture import points
from thinned import thinned
from torch import Tensor, nn

from backbones import Cond, NoiseSource
from samplers import Batch, Denoiser, EDMPath, LinearPath, LipmanPath, Objective, TrigPath, VPPath, build
from samplers.heads.parameterization import EDM, Direct
from samplers.paths import Path, sigma_of

PATHS: dict[str, Path] = {
    "linear": LinearPath(),
    "noisy": LinearPath(sigma=0.1),
    "lipman": LipmanPath(),
    "trig": TrigPath(),
    "vp": VPPath(),
    "cosine": VPPath(schedule="cosine"),
    "zero": VPPath(zero_snr=True),
    "edm": EDMPath(),
}
every_path = pytest.mark.parametrize("where", list(PATHS))


class Says(nn.Module):
    """A network that says ``out`` times its input."""

    def __init__(self, out: float = 0.0):
        super().__init__()
        self.out = nn.Parameter(torch.tensor(out))

    def forward(self, x: Tensor, t: Tensor, cond: Cond, ctx: Any = None) -> Tensor:
        assert bool(torch.isfinite(x).all()) and bool(torch.isfinite(t).all())
        return self.out * x


@every_path
def test_finite_from_end_to_end(where: str) -> None:
    """Prediction, every space it is read in, its error and its weights, in float32 as in training, gradients
    included; held-out bins reach both ends."""
    path, x, data = PATHS[where], points(9, 3).float(), points(9, 3, seed=1).float()
    t = torch.linspace(path.t_start, 1, 9, dtype=torch.float64)
    for weight in ("uniform", "velocity", "min_snr", "edm"):
        if weight == "velocity" and where != "linear":
            continue
        for space in (EDM(sigma_data=0.7), Direct("velocity") if where == "linear" else Direct("data")):
            net = Says(0.3)
            loss = Objective(path, space, weight=weight).loss(net, Batch(data), NoiseSource(range(9)), t=t)
            loss.per_sample[:-1].mean().backward()
            assert bool(torch.isfinite(loss.per_sample).all()) and bool(torch.isfinite(net.out.grad).all()), (
                weight,
                space,
            )  # type: ignore[arg-type]
    for time in (t, *t.tolist()):
        prediction = EDM(sigma_data=0.7).predict(Says(0.3), x, time, Cond(), path)
        for name in ("data", "noise", "velocity", "v", "score"):
            assert bool(torch.isfinite(prediction.to(name)).all()), (name, time)


@every_path
def test_the_formula_and_what_the_error_is_of(where: str) -> None:
    """c_skip, c_out and c_in at inner times; the error is F less its target (sigma·data −
    sigma_data²·alpha·noise)/(sigma_data·√T)."""
    path, d, data, noise = PATHS[where], 0.7, points(5, 2), points(5, 2, seed=1)
    t = torch.linspace(path.t_start, 1, 7, dtype=torch.float64)[1:-1]
    c = path.coefficients(t)
    a, s = c.alpha[:, None], c.sigma[:, None]
    x, total = a * data + s * noise, s**2 + d**2 * a**2
    made = EDM(sigma_data=d).predict(Says(0.3), x, t, Cond(), path)
    said = 0.3 * x / total.sqrt()
    torch.testing.assert_close(
        made.value, d**2 * a / total * x + s * d / total.sqrt() * said, rtol=1e-6, atol=1e-6
    )
    error = EDM(sigma_data=d).error(made, data, noise)
    torch.testing.assert_close(
        error, said - (s * data - d**2 * a * noise) / (d * total.sqrt()), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        error.square(),
        (made.value - data).square() * EDM(sigma_data=d).factor(c)[:, None],
        rtol=1e-5,
        atol=1e-9,
    )


def test_on_their_own_path_it_is_theirs_to_the_byte() -> None:
    path, d, x = EDMPath(), 0.5, points(64, 2).float()
    t = (
        torch.rand(64, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * (1 - path.t_start)
        + path.t_start
    )
    sigma = sigma_of(path, t)
    total = sigma**2 + d**2
    skip, out, inp = (v.float()[:, None] for v in (d**2 / total, sigma * d / total.sqrt(), total.rsqrt()))
    said = EDM().predict(Says(0.3), x, t, Cond(), path).value
    assert torch.equal(said, skip * x + out * (torch.tensor(0.3) * (inp * x)))
    assert torch.equal(EDM().factor(path.coefficients(t)), total / (sigma * d).clamp_min(1e-8) ** 2)


@pytest.mark.parametrize(
    "where, sampler", thinned(4, list(PATHS), ["ddim", "ddpm", "euler", "heun", "dpmpp_2m"])
)
def test_gaussian_data_need_no_network(where: str, sampler: str) -> None:
    """For N(0, sigma_data²) the best F is 0, and samples have that deviation."""
    path, d, n = PATHS[where], 0.7, 4000
    model = Denoiser(Says(0.0), path, EDM(sigma_data=d)).requires_grad_(False)
    noise = NoiseSource(range(n))
    x = path.prior_scale * noise.normal((1,), stream="prior", dtype=torch.float32)
    samples = build(sampler).sample(model, x, noise=noise, num_steps=100)
    assert float(samples.mean()) == pytest.approx(0, abs=0.06)
    assert float(samples.std()) == pytest.approx((d**2 + 0.1**2) ** 0.5 if where == "noisy" else d, rel=0.08)


def test_refused() -> None:
    for value in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="got sigma_data=.*, expected a positive number"):
            EDM(sigma_data=value)
