"""Flows walked from the data to their source: latents and log densities, held against closed forms."""

import math
from typing import Any

import pytest
import torch
from mixture import Mixture, correlated, gaussian, points
from thinned import thinned
from torch import Tensor

from backbones import Cond, NoiseSource, RunContext
from samplers import (
    Denoiser,
    EDMPath,
    FunctionDenoiser,
    LinearPath,
    LipmanPath,
    Prediction,
    TrigPath,
    VPPath,
    build,
)
from samplers.heads.parameterization import velocity
from samplers.paths.angles import GeodesicPath
from samplers.solvers.backward import latent, steps_back, times_back
from samplers.solvers.likelihood import divergence, log_density

PATHS = {"linear": LinearPath(), "trig": TrigPath(), "vp": VPPath(), "edm": EDMPath()}
MIXTURE = Mixture((0.4, 0.6), ((-1.5, 0.5), (1.0, -1.0)), (0.35, 0.6))


def signs(count: int, like: Tensor, seed: int = 0) -> Tensor:
    """(K, B, ...) of ±1."""
    drawn = torch.rand(count, *like.shape, generator=torch.Generator().manual_seed(seed))
    return (drawn < 0.5).to(like) * 2 - 1


def density(
    path: Any, data: Tensor, *, sampler: str = "heun", steps: int = 60, of: Mixture = MIXTURE
) -> Tensor:
    return log_density(build(sampler), of.denoiser(path), data, num_steps=steps)[:, 0]


@pytest.mark.parametrize("path, sampler", thinned(2, list(PATHS), ["heun", "rk4"]))
def test_the_density_of_a_mixture(path: str, sampler: str) -> None:
    """What is left is the start: alpha there is 0.006 (vp), or noise of 80 hides a mean of 1 (edm)."""
    data = points(24)
    steps = 30 if sampler == "rk4" and path != "edm" else 60
    found = density(PATHS[path], data, sampler=sampler, steps=steps)
    error = (found - MIXTURE.log_prob(data)).abs().max()
    start = {"vp": 0.025, "edm": 0.03}.get(path, 0)
    assert error < start + ({"vp": 0.04, "edm": 0.1}.get(path, 0.01) if sampler == "heun" else 5e-4)
    assert found.dtype == torch.float64


def test_the_density_to_any_digit() -> None:
    data = points(4)
    adaptive = build("torchdiffeq", method="dopri8", rtol=1e-6, atol=1e-6)
    found = log_density(adaptive, MIXTURE.denoiser(LinearPath()), data)[:, 0]
    torch.testing.assert_close(found, MIXTURE.log_prob(data), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "sampler, order", [("euler", 1), ("ab2", 2), ("midpoint", 2), ("heun", 2), ("rk4", 4)]
)
def test_the_density_converges_at_the_solvers_order(sampler: str, order: int) -> None:
    one, data = Mixture((1.0,), ((0.5, -0.2),), (0.7,)), points(16)
    errors = [
        float(
            (density(LinearPath(), data, sampler=sampler, steps=n, of=one) - one.log_prob(data)).abs().mean()
        )
        for n in (10, 20)
    ]
    assert order - 0.35 < math.log2(errors[0] / errors[1]) < order + 0.6


def test_the_density_is_of_what_the_sampler_draws() -> None:
    """From a later start the prior is as wide as the states there, and the noise of sigma_min is in it."""
    one, data = gaussian(0.0, 1.0, 3), points(6, 3)
    late = log_density(build("rk4", lambda_min=-1.0), one.denoiser(TrigPath()), data, num_steps=5)[:, 0]
    torch.testing.assert_close(late, one.log_prob(data), rtol=0, atol=1e-5)  # of variance 1 everywhere
    noisy = density(LipmanPath(sigma_min=0.5), data, sampler="rk4", steps=20, of=one)
    torch.testing.assert_close(noisy, one.log_prob(data, s=0.5), rtol=0, atol=1e-5)


def test_hutchinsons_estimate_is_unbiased() -> None:
    """Of a correlated Gaussian, whose Jacobian is not diagonal; of a diagonal one every probe is exact."""
    cov = torch.tensor([[1.0, 0.8, 0.3], [0.8, 1.0, 0.5], [0.3, 0.5, 1.0]], dtype=torch.float64)
    exact, data = correlated(LinearPath(), torch.zeros(3, dtype=torch.float64), cov), points(4, 3)
    heun = build("heun")
    want = log_density(heun, exact, data, num_steps=6)
    probes = signs(64, data)
    found = log_density(heun, exact, data, num_steps=6, probes=probes)
    error = found.std(1) / math.sqrt(64)
    assert (error > 1e-3).all() and ((found.mean(1) - want[:, 0]).abs() < 4 * error).all()
    alone = gaussian(0.3, 0.5, 3).denoiser(LinearPath())
    torch.testing.assert_close(
        log_density(heun, alone, data, num_steps=6, probes=probes[:2]),
        log_density(heun, alone, data, num_steps=6).expand(-1, 2),
    )


def test_traces() -> None:
    a, x = torch.randn(5, 5, dtype=torch.float64), points(3, 5)
    value, trace = divergence(lambda y: (y @ a.T).sin(), x)
    torch.testing.assert_close(value, (x @ a.T).sin())
    torch.testing.assert_close(trace[:, 0], ((x @ a.T).cos() * a.diag()).sum(1))
    assert not value.requires_grad and not trace.requires_grad


class Energy:
    """A head whose answer is the gradient of a network's energy: the velocity of a Gaussian."""

    grad, variance = "input", None

    def predict(self, net: Any, x: Tensor, t: Any, cond: Cond, path: Any, ctx: Any = None) -> Prediction:
        from samplers.heads.gradient import slope

        assert ctx is None or ctx.double_backward
        return Prediction("score", -slope(lambda y: net(y, path.coefficients(t)), x), x, t, path)


class Quadratic(torch.nn.Module):
    def forward(self, x: Tensor, c: Any) -> Tensor:
        return x.square().sum(1) / (2 * (0.25 * c.alpha**2 + c.sigma**2))


def test_energies_are_differentiated_once_more() -> None:
    one, data = gaussian(0.0, 0.5, 2), points(5)
    model = Denoiser(Quadratic(), TrigPath(), Energy())  # type: ignore[arg-type]
    found = log_density(build("rk4"), model, data, num_steps=30)[:, 0]
    torch.testing.assert_close(found, one.log_prob(data), rtol=0, atol=1e-3)


def test_every_sample_by_itself() -> None:
    data = points(6)
    many, alone = density(VPPath(), data, steps=8), density(VPPath(), data[3:4], steps=8)
    torch.testing.assert_close(many[3:4], alone)


@pytest.mark.parametrize("path, sampler", thinned(3, list(PATHS), ["heun", "ddim", "torchdiffeq"]))
def test_the_latent_of_a_gaussian(path: str, sampler: str) -> None:
    """x_t = a m + √(a² v + s²) z with one z along the way."""
    way, mean, std, data = PATHS[path], 0.4, 0.7, points(6, 3)
    options = {"rtol": 1e-5, "atol": 1e-5} if sampler == "torchdiffeq" else {}
    found = latent(build(sampler, **options), gaussian(mean, std, 3).denoiser(way), data, num_steps=150)
    z, c = (data - mean) / std, way.coefficients(way.t_start)
    want = (c.alpha * mean + (c.alpha**2 * std**2 + c.sigma**2).sqrt() * z) / way.prior_scale
    torch.testing.assert_close(found, want, rtol=0, atol=8e-2 if sampler == "ddim" else 3e-3)


@pytest.mark.parametrize("sampler, order", [("euler", 1), ("ddim", 1), ("heun", 2), ("ab2", 2), ("rk4", 4)])
def test_there_and_back(sampler: str, order: int) -> None:
    """A run from the latent ends at the data, with an error that falls at the solver's order."""
    path, data = TrigPath(), points(12)
    model, errors = MIXTURE.denoiser(path), []
    for n in (40, 80) if order == 1 else (20, 40):
        solver = build(sampler)
        z = latent(solver, model, data, num_steps=n)
        back = solver.sample(model, z, num_steps=n, noise=NoiseSource(range(len(z))))
        errors.append(float((back - data).abs().mean()))
    assert math.log2(errors[0] / errors[1]) > order - 0.4 and errors[1] < 0.1


def test_grids_from_behind() -> None:
    heun, vp, edm = build("heun"), VPPath(), EDMPath()
    assert times_back(heun, LinearPath(), 2) == [1.0, 0.5, 0.0]
    assert times_back(heun, vp, 4) == [vp.time(0), *heun.times(vp, 4)[:-1][::-1]]
    assert times_back(heun, edm, 3) == heun.times(edm, 3)[:-1][::-1]  # its last level is sigma_min
    steps = [*steps_back(build("torchdiffeq", method="rk4"), MIXTURE.denoiser(edm), points(2), num_steps=4)]
    assert [s.t for s in steps] == pytest.approx(times_back(heun, edm, 4)[:-1])
    assert [s.s for s in steps] == pytest.approx(times_back(heun, edm, 4)[1:])


def test_what_has_no_way_back_is_refused() -> None:
    model, data = MIXTURE.denoiser(LinearPath()), points(2)
    for name, options in (("ddpm", {}), ("ddim", {"eta": 0.5}), ("dpmpp_2m", {}), ("euler_maruyama", {})):
        with pytest.raises(ValueError, match="leads to the data only; choose heun"):
            steps_back(build(name, **options), model, data)
    with pytest.raises(ValueError, match="does not follow slopes"):
        log_density(build("ddim"), model, data)
    with pytest.raises(ValueError, match="no smooth density"):
        log_density(build("heun", clip=1.0), model, data)
    angles = FunctionDenoiser(GeodesicPath(), lambda x, t, cond: Prediction("velocity", x, x, t, angles.path))
    with pytest.raises(ValueError, match="expected one that starts from Gaussian noise"):
        log_density(build("heun"), angles, data)
    bridge = Denoiser(torch.nn.Identity(), LinearPath(), velocity(), starts="source")
    with pytest.raises(ValueError, match="starts from data of its own"):
        log_density(build("heun"), bridge, data, ctx=RunContext())
