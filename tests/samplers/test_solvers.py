"""Every fixed-step solver against its formula written out here in float64 on the exact mixture, and the
orders at which errors shrink."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from mixture import Mixture, points
from scipy.integrate import solve_ivp
from thinned import thinned
from torch import Tensor

from backbones import RecordedNoise
from samplers import EDMPath, LinearPath, VPPath, build

MIX, X = Mixture(), points(16)
NOISE = [points(16, seed=100 + i) for i in range(20)]
BAR = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])  # ᾱ at j = k + 1
LOG = np.log(BAR)
Place = tuple[float, float, float, float]


def linear(t: float) -> Place:
    """alpha, sigma and their slopes."""
    return t, 1 - t, 1.0, -1.0


def table(t: float) -> Place:
    """The same of the linear beta table at one of its entries; the slope of log ᾱ is the mean of its
    neighbours'."""
    j = round(1000 * (1 - t))
    assert abs(1000 * (1 - t) - j) < 1e-6
    slope = LOG[j] - LOG[j - 1] if j == 1000 else (LOG[j + 1] - LOG[j - 1]) / 2
    a, s = math.sqrt(BAR[j]), math.sqrt(1 - BAR[j])
    return a, s, -500 * a * slope, (500 * a * a * slope / s if s else math.inf)


def grid(n: int) -> list[float]:
    """Both paths' times of n steps: i/n is also the trailing grid of a table."""
    return [i / n for i in range(n + 1)]


def data_of(at: Callable[[float], Place], x: Tensor, t: float) -> Tensor:
    a, s, _, _ = at(t)
    return MIX.denoise(x, a, s)


def velocity(at: Callable[[float], Place], x: Tensor, t: float) -> Tensor:
    a, s, da, ds = at(t)
    d = MIX.denoise(x, a, s)
    return da * d if s == 0 else da * d + ds * (x - a * d) / s


def ode(name: str, at: Callable[[float], Place], x: Tensor, n: int) -> Iterator[Tensor]:
    u, before = lambda x, t: velocity(at, x, t), None
    for t, s in zip(grid(n)[:-1], grid(n)[1:]):
        h, k1 = s - t, u(x, t)
        open_end = math.isinf(at(s)[3]) if s == 1 else False
        if name == "euler" or (name == "ab2" and before is None) or (name == "heun" and open_end):
            x = x + h * k1
        elif name == "ab2":
            x = x + h * (1.5 * k1 - 0.5 * before)
        elif name == "midpoint" or (name == "rk4" and open_end):
            x = x + h * u(x + h / 2 * k1, t + h / 2)
        elif name == "heun":
            x = x + h * (k1 + u(x + h * k1, s)) / 2
        else:
            k2 = u(x + h / 2 * k1, t + h / 2)
            k3 = u(x + h / 2 * k2, t + h / 2)
            x = x + h * (k1 + 2 * k2 + 2 * k3 + u(x + h * k3, s)) / 6
        before = k1
        yield x


def ancestral(name: str, at: Callable[[float], Place], x: Tensor, n: int) -> Iterator[Tensor]:
    """On the table in ᾱ as published; on the line through y = x/alpha and its noise level (variance exploding
    form)."""
    kind, _, option = name.partition(" ")
    for i, (t, s) in enumerate(zip(grid(n)[:-1], grid(n)[1:])):
        d, z = data_of(at, x, t), NOISE[i] * (s < 1)
        (a, b, _, _), (a2, b2, _, _) = at(t), at(s)
        eps = (x - a * d) / b
        if at is table:
            bt, bp = BAR[round(1000 * (1 - t))], BAR[round(1000 * (1 - s))]
            small = (1 - bp) / (1 - bt) * (1 - bt / bp)
            if kind == "ddim":
                sd = float(option) * math.sqrt(small)
                x = math.sqrt(bp) * d + math.sqrt(max(1 - bp - sd**2, 0)) * eps + sd * z
            else:
                beta = 1 - bt / bp
                mean = math.sqrt(bp) * beta / (1 - bt) * d + math.sqrt(bt / bp) * (1 - bp) / (1 - bt) * x
                x = mean + math.sqrt(beta if option == "large" else small) * z
        else:
            level, tau = b2 / a2, 1 - (b2 / a2 * a / b) ** 2
            if kind == "ddim":
                v = float(option) ** 2 * level**2 * tau
                x = a2 * (d + math.sqrt(max(level**2 - v, 0)) * eps + math.sqrt(v) * z)
            else:
                y = d if a == 0 else x / a - tau * (x / a - d)
                sd = (
                    math.sqrt(b**2 - (a / a2 * b2) ** 2) if option == "large" else a2 * level * math.sqrt(tau)
                )
                x = a2 * y + sd * z
        yield x


def dpmpp(name: str, at: Callable[[float], Place], x: Tensor, n: int) -> Iterator[Tensor]:
    def half_log_snr(t: float) -> float:
        a, s, _, _ = at(t)
        return -math.inf if a == 0 else math.inf if s == 0 else math.log(a / s)

    before: tuple[float, Tensor] | None = None
    for t, s in zip(grid(n)[:-1], grid(n)[1:]):
        h, d0 = half_log_snr(s) - half_log_snr(t), data_of(at, x, t)
        a, b, _, _ = at(s)
        step = b / at(t)[1] * x - a * math.expm1(-h) * d0
        if name == "dpmpp_2m" and before is not None and math.isfinite(before[0]) and s < 1:
            step = step - a * math.expm1(-h) / 2 * (d0 - before[1]) * h / before[0]
        before, x = (h, d0), step
        yield x


CASES: dict[str, tuple[Callable[..., Iterator[Tensor]], str, dict[str, Any]]] = {
    **{name: (ode, name, {}) for name in ("euler", "ab2", "midpoint", "heun", "rk4")},
    **{f"ddim {eta}": (ancestral, "ddim", {"eta": eta}) for eta in (0.0, 0.5, 1.0)},
    **{f"ddpm {kind}": (ancestral, "ddpm", {"variance": f"fixed_{kind}"}) for kind in ("small", "large")},
    **{name: (dpmpp, name, {}) for name in ("dpmpp_1", "dpmpp_2m")},
}


@pytest.mark.parametrize("case, where, n", thinned(2, list(CASES), ["linear", "vp"], [10, 20]))
def test_trajectories(case: str, where: str, n: int) -> None:
    loop, name, options = CASES[case]
    path, at = (LinearPath(), linear) if where == "linear" else (VPPath(), table)
    steps = list(
        build(name, **options).steps(MIX.denoiser(path), X, noise=RecordedNoise({"step": NOISE}), num_steps=n)
    )
    expected = list(loop(case, at, X, n))
    assert len(steps) == n == len(expected)
    for step, x in zip(steps, expected):
        torch.testing.assert_close(step.x, x, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            step.data_hat,
            data_of(at, X if step.index == 0 else expected[step.index - 1], step.t),
            rtol=1e-9,
            atol=1e-9,
        )
    per_step = {"midpoint": 2, "heun": 2, "rk4": 4}.get(case, 1)
    saved = {"heun": 1, "rk4": 2}.get(case, 0) if where == "vp" else 0
    assert steps[-1].evaluations == per_step * n - saved


@pytest.fixture(scope="module")
def exact() -> Tensor:
    def field(t: float, y: Any) -> Any:
        return velocity(linear, torch.tensor(y).view(-1, 2), t).flatten().numpy()

    return torch.tensor(
        solve_ivp(field, (0, 1 - 1e-9), X.flatten().numpy(), method="DOP853", rtol=1e-11, atol=1e-11).y[:, -1]
    ).view(-1, 2)


@pytest.mark.parametrize(
    "name, order, n", [("euler", 1, 40), ("ab2", 2, 40), ("midpoint", 2, 40), ("heun", 2, 40), ("rk4", 4, 20)]
)
def test_orders_on_the_line(exact: Tensor, name: str, order: int, n: int) -> None:
    """Twice the steps, an error smaller by 2^order; along the whole path from noise to data."""
    errors = [
        float((build(name).sample(MIX.denoiser(LinearPath()), X, num_steps=m) - exact).norm(dim=1).mean())
        for m in (n, 2 * n, 4 * n)
    ]
    for a, b in zip(errors, errors[1:]):
        assert math.log2(a / b) == pytest.approx(order, abs=0.2 * order**0.5), errors


@pytest.mark.parametrize("name, order", [("ddim", 1), ("dpmpp_1", 1), ("dpmpp_2m", 2)])
def test_orders_in_log_snr(name: str, order: int) -> None:
    """On the EDM grid down to sigma_min, against dx/dσ = (x − D)/σ."""
    path, x = EDMPath(), 80 * X

    def field(sigma: float, y: Any) -> Any:
        x = torch.tensor(y).view(-1, 2)
        return ((x - MIX.denoise(x, 1.0, sigma)) / sigma).flatten().numpy()

    solution = solve_ivp(field, (80, 0.002), x.flatten().numpy(), method="DOP853", rtol=1e-11, atol=1e-11)
    truth = torch.tensor(solution.y[:, -1]).view(-1, 2)
    errors = []
    for n in (40, 80, 160):
        steps = list(build(name).steps(MIX.denoiser(path), x, num_steps=n))
        errors.append(float((steps[-2].x - truth).norm(dim=1).mean()))
    for a, b in zip(errors, errors[1:]):
        assert math.log2(a / b) == pytest.approx(order, abs=0.25), errors


def karras(name: str, x: Tensor, sigmas: list[float]) -> Iterator[Tensor]:
    """Algorithm 1 of Karras et al. without its correction, with it, and with the midpoint in sigma; dx/dσ =
    (x − D)/σ."""

    def slope(x: Tensor, sigma: float) -> Tensor:
        return (x - MIX.denoise(x, 1.0, sigma)) / sigma

    before: tuple[float, Tensor] | None = None
    for a, b in zip(sigmas[:-1], sigmas[1:]):
        h, d = b - a, slope(x, a)
        if name == "midpoint":
            d_step = slope(x + h / 2 * d, a + h / 2)
        elif name == "heun" and b > 0:
            d_step = (d + slope(x + h * d, b)) / 2
        elif name == "ab2" and before is not None:
            d_step = d + h / (2 * before[0]) * (d - before[1])
        else:
            d_step = d
        before, x = (h, d), x + h * d_step
        yield x


@pytest.mark.parametrize("name", ["euler", "heun", "midpoint", "ab2"])
def test_on_the_edm_path_the_solvers_step_in_sigma(name: str) -> None:
    """And heun does not ask the network at sigma = 0: 2n − 1 evaluations, as published."""
    path, x = EDMPath(), 80 * X
    sigmas = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)] + [0.0]
    steps = list(build(name).steps(MIX.denoiser(path), x, num_steps=18))
    for step, expected in zip(steps, karras(name, x, sigmas)):
        torch.testing.assert_close(step.x, expected, rtol=1e-8, atol=1e-8)
    assert steps[-1].evaluations == {"euler": 18, "ab2": 18, "heun": 35, "midpoint": 36}[name]


@pytest.mark.parametrize("name, order", [("euler", 1), ("ab2", 2), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
def test_orders_in_sigma(name: str, order: int) -> None:
    path, x = EDMPath(sigma_max=10.0, sigma_min=0.05), 10 * X

    def field(sigma: float, y: Any) -> Any:
        x = torch.tensor(y).view(-1, 2)
        return ((x - MIX.denoise(x, 1.0, sigma)) / sigma).flatten().numpy()

    truth = torch.tensor(
        solve_ivp(field, (10, 0.05), x.flatten().numpy(), method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    ).view(-1, 2)
    errors = []
    for n in (41, 81, 161):
        *_, before, _ = build(name).steps(MIX.denoiser(path), x, num_steps=n)
        errors.append(float((before.x - truth).norm(dim=1).mean()))
    for a, b in zip(errors, errors[1:]):
        assert math.log2(a / b) == pytest.approx(order, abs=0.2 * order**0.5 + 0.1), errors


PATHS = {
    "linear": LinearPath(),
    "vp": VPPath(),
    "cosine": VPPath(schedule="cosine"),
    "zero": VPPath(zero_snr=True),
    "edm": EDMPath(),
}


@pytest.mark.parametrize("where", list(PATHS))
def test_relatives(where: str) -> None:
    """DDIM at eta = 1 is DDPM with the small variance, at eta = 0 it is first-order DPM-Solver++ and Euler in
    sigma/alpha; logs change nothing."""
    path = PATHS[where]
    model, x = MIX.denoiser(path), path.prior_scale * X

    def run(name: str, **options: Any) -> Tensor:
        return build(name, **options).sample(model, x, noise=RecordedNoise({"step": NOISE}), num_steps=15)

    close = {"rtol": 1e-8, "atol": 1e-8}
    torch.testing.assert_close(run("ddim", eta=1.0), run("ddpm"), **close)
    torch.testing.assert_close(run("ddim"), run("dpmpp_1"), **close)
    torch.testing.assert_close(run("ddpm", variance="fixed_small_log"), run("ddpm"), **close)
    assert float((run("ddpm") - run("ddpm", variance="fixed_large")).abs().max()) > 1e-3
    if where != "zero" and where != "linear":
        y, times = (
            x / path.coefficients(build("ddim").times(path, 15)[0]).alpha,
            build("ddim").times(path, 15),
        )
        for t, s in zip(times[:-1], times[1:]):
            c, level = (
                path.coefficients(t),
                [float(path.coefficients(v).sigma / path.coefficients(v).alpha) for v in (t, s)],
            )
            y = y + (level[1] - level[0]) * (y - MIX.denoise(c.alpha * y, c.alpha, c.sigma)) / level[0]
        torch.testing.assert_close(run("ddim"), y, **close)
