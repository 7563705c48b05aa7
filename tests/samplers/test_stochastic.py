"""Karras et al.'s Algorithm 2 written out, the law of the reverse SDE by quadrature, and the orders of
both."""

import math
from typing import Any

import pytest
import torch
from mixture import Mixture, gaussian, points
from scipy.integrate import solve_ivp
from thinned import thinned
from torch import Tensor

from backbones import Cond, NoiseSource, RecordedNoise
from samplers import EDMPath, FunctionDenoiser, LinearPath, Prediction, TrigPath, VPPath, build
from samplers.paths import sigma_of

MIX, X = Mixture(), points(16)
NOISE = [points(16, seed=100 + i) for i in range(40)]
PATHS = {"linear": LinearPath(), "trig": TrigPath(), "vp": VPPath(), "edm": EDMPath()}
every_path = pytest.mark.parametrize("where", list(PATHS))


def published(x: Tensor, sigmas: list[float], churn: float, low: float, high: float, scale: float) -> Tensor:
    """Algorithm 2: y = D-form, sigma truth, one noise a step where it is churned."""
    n, used = len(sigmas) - 1, iter(NOISE)
    for a, b in zip(sigmas[:-1], sigmas[1:]):
        gamma = min(churn / n, math.sqrt(2) - 1) if low <= a <= high else 0.0
        hat = a * (1 + gamma)
        if gamma > 0:
            x = x + math.sqrt(hat**2 - a**2) * scale * next(used)
        d = (x - MIX.denoise(x, 1.0, hat)) / hat
        after = x + (b - hat) * d
        if b > 0:
            after = x + (b - hat) * (d + (after - MIX.denoise(after, 1.0, b)) / b) / 2
        x = after
    return x


@pytest.mark.parametrize("num_steps", [3, 18])
@pytest.mark.parametrize(
    "churn, low, high, scale",
    [(0.0, 0.0, math.inf, 1.0), (40.0, 0.05, 50.0, 1.003), (5.0, 0.0, math.inf, 1.0), (3.0, 0.1, 1.0, 0.9)],
)
def test_algorithm_2(num_steps: int, churn: float, low: float, high: float, scale: float) -> None:
    path = EDMPath()
    sigmas = [(1 - t) / t for t in path.grid(num_steps)]
    sampler = build("edm_heun", s_churn=churn, s_min=low, s_max=high, s_noise=scale)
    steps = list(
        sampler.steps(MIX.denoiser(path), 80 * X, noise=RecordedNoise({"step": NOISE}), num_steps=num_steps)
    )
    torch.testing.assert_close(
        steps[-1].x, published(80 * X, sigmas, churn, low, high, scale), rtol=1e-8, atol=1e-8
    )
    assert steps[-1].evaluations == 2 * num_steps - 1
    if churn == 0:
        torch.testing.assert_close(
            steps[-1].x,
            build("heun").sample(MIX.denoiser(path), 80 * X, num_steps=num_steps),
            rtol=1e-8,
            atol=1e-8,
        )


@pytest.mark.parametrize("where", ["linear", "trig", "vp"])
@pytest.mark.parametrize("churn", [0.0, 6.0])
def test_on_other_paths_it_steps_in_the_noise_level(where: str, churn: float) -> None:
    """The same loop in y = x/alpha over the path's own levels; levels fall less than tenfold a step there."""
    path, n = PATHS[where], 24
    times = path.grid(n)
    c = path.coefficients(times[1])
    sampler = build("edm_heun", s_churn=churn)
    levels = [float(sigma_of(path, t)) for t in times]
    steps = list(
        sampler.steps(
            MIX.denoiser(path),
            float(torch.hypot(c.alpha, c.sigma)) * X,
            noise=RecordedNoise({"step": NOISE}),
            num_steps=n,
            start=1,
        )
    )
    y = float(torch.hypot(c.alpha, c.sigma)) * X / c.alpha
    used = iter(NOISE)
    for a, b in zip(levels[1:-1], levels[2:]):
        hat = a * (1 + min(churn / n, math.sqrt(2) - 1))
        if churn:
            hat = float(sigma_of(path, path.time_of(-2 * math.log(hat))))  # a table has a noisiest level
            y = y + math.sqrt(hat**2 - a**2) * next(used)
        d = (y - MIX.denoise(y, 1.0, hat)) / hat
        after = y + (b - hat) * d
        y = after if b == 0 else y + (b - hat) * (d + (after - MIX.denoise(after, 1.0, b)) / b) / 2
    torch.testing.assert_close(steps[-1].x, y, rtol=1e-6, atol=1e-6)
    assert steps[-1].evaluations == 2 * (n - 1) - 1


def test_churn_goes_no_higher_than_a_table() -> None:
    """The model is asked at times of the path only, and the published limit of √2 − 1 holds."""
    path, seen = VPPath(), []
    inner = MIX.denoiser(path)
    model = FunctionDenoiser(path, lambda x, t, cond: (seen.append(float(t)), inner.predict(x, t, cond))[1])
    build("edm_heun", s_churn=1e6).sample(model, X, noise=RecordedNoise({"step": NOISE}), num_steps=20)
    assert min(seen) >= 0 and max(seen) < 1
    sampler, t = build("edm_heun", s_churn=1e6), path.time(300)
    _, earlier = sampler.churn(X, t, RecordedNoise({"step": NOISE}), path, 20)
    assert float(sigma_of(path, earlier) / sigma_of(path, t)) == pytest.approx(math.sqrt(2), rel=1e-9)


@pytest.mark.parametrize("where", thinned(3, ["linear", "edm", "trig"]))
def test_edm_heun_is_of_order_two(where: str) -> None:
    """On the mixture, from noise to (nearly) data."""
    path = EDMPath(sigma_max=10.0, sigma_min=0.05) if where == "edm" else PATHS[where]
    y = path.prior_scale * X

    def field(sigma: float, y: Any) -> Any:
        x = torch.tensor(y).view(-1, 2)
        return ((x - MIX.denoise(x, 1.0, sigma)) / sigma).flatten().numpy()

    if where == "edm":
        truth = torch.tensor(
            solve_ivp(field, (10, 0.05), y.flatten().numpy(), method="DOP853", rtol=1e-12, atol=1e-12).y[
                :, -1
            ]
        ).view(-1, 2)
    else:
        truth = build("edm_heun").sample(MIX.denoiser(path), y, num_steps=1000)
    errors = []
    for n in (41, 81, 161) if where == "edm" else (40, 80, 160):
        states = [s.x for s in build("edm_heun").steps(MIX.denoiser(path), y, num_steps=n)]
        errors.append(float(((states[-2] if where == "edm" else states[-1]) - truth).norm(dim=1).mean()))
    for a, b in zip(errors, errors[1:]):
        assert math.log2(a / b) == pytest.approx(2, abs=0.5), errors


@every_path
def test_churn_keeps_the_law(where: str) -> None:
    path, n = PATHS[where], 6000
    noise = NoiseSource(range(n))
    z = noise.normal((1,), stream="prior", dtype=torch.float64)
    x = build("edm_heun", s_churn=20.0).sample(
        gaussian(0.7, 0.5).denoiser(path), path.prior_scale * z, noise=noise, num_steps=60
    )
    assert float(x.mean()) == pytest.approx(0.7, abs=0.04) and float(x.std()) == pytest.approx(0.5, rel=0.06)
    assert abs(float(((x - x.mean()) * z).mean())) / 0.5 < 0.9  # noise of the start is partly replaced
    still = build("edm_heun").sample(gaussian(0.7, 0.5).denoiser(path), path.prior_scale * z, num_steps=60)
    torch.testing.assert_close(still, 0.7 + 0.5 * z, rtol=0, atol=0.03)


# ---- the reverse SDE -----------------------------------------------------------------------------

LINE = Mixture((0.4, 0.6), ((-1.2,), (0.8,)), (0.4, 0.5))
GRID = torch.linspace(-6, 6, 601, dtype=torch.float64)[:, None]


def law(path: Any, num_steps: int, scale: float) -> tuple[float, float]:
    """E x² and E cos 2x of the samples on a line, without sampling: the density is carried through the
    Gaussian kernel of every step."""
    sampler, model = build("euler_maruyama", scale=scale), LINE.denoiser(path)
    p = torch.exp(-(GRID[:, 0] ** 2) / 2)
    times = sampler.times(path, num_steps)
    x = GRID
    for t, s in zip(times[:-1], times[1:]):
        predict = lambda x, t: model.predict(x, t, Cond())  # noqa: E731
        still, pushed = (
            sampler.step(GRID, t, s, predict, RecordedNoise({"step": [v * torch.ones_like(GRID)]}), [])
            for v in (0.0, 1.0)
        )
        std = (pushed - still)[:, 0]
        if s == 1:
            x = still
        elif float(std.max()) == 0:
            raise AssertionError("a step without noise")
        else:
            kernel = torch.exp(-((GRID.T - still) ** 2) / (2 * std[:, None] ** 2))
            p = p @ (kernel / kernel.sum(1, keepdim=True))
    p = p / p.sum()
    return float((p * x[:, 0] ** 2).sum()), float((p * (2 * x[:, 0]).cos()).sum())


def exact_law() -> tuple[float, float]:
    p = LINE.log_prob(GRID).exp()
    p = p / p.sum()
    return float((p * GRID[:, 0] ** 2).sum()), float((p * (2 * GRID[:, 0]).cos()).sum())


@pytest.mark.parametrize("scale, where", thinned(2, [0.5, 1.0], ["linear", "vp"]))
def test_euler_maruyama_is_of_weak_order_one(where: str, scale: float) -> None:
    """Twice the steps, half the error of an expectation."""
    truth = exact_law()
    ours = [law(PATHS[where], n, scale) for n in (20, 40, 80)]
    errors = [sum(abs(a - b) for a, b in zip(o, truth)) for o in ours]
    assert errors[-1] < 0.03 and all(1.6 < a / b < 2.7 for a, b in zip(errors, errors[1:])), errors


@every_path
def test_without_noise_it_is_euler(where: str) -> None:
    path = PATHS[where]
    x = path.prior_scale * X
    a, b = (
        build(name, **options).sample(MIX.denoiser(path), x, num_steps=12)
        for name, options in (("euler_maruyama", {"scale": 0.0}), ("euler", {}))
    )
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_one_step_of_the_reverse_sde() -> None:
    """dx = (u + ½g² score)dt + g dW with g² = −d(sigma²/alpha²)/dt·alpha²: 2(1 − t)/t on the line, beta on a
    table, 2σ dσ on EDM's."""
    z = NOISE[0]
    for path, t, s, amount in (
        (LinearPath(), 0.4, 0.41, 2 * 0.6 / 0.4 * 0.01),
        (EDMPath(), 1 / 4, 1 / 3.9, 2 * 3.0 * 0.1),
    ):
        model = MIX.denoiser(path)
        p = model.predict(X, t, Cond())
        out = build("euler_maruyama").step(
            X, t, s, lambda x, t, m=model: m.predict(x, t, Cond()), RecordedNoise({"step": [z]}), []
        )
        drift = 0.01 * p.to("velocity") if isinstance(path, LinearPath) else -0.1 * p.to("noise")
        torch.testing.assert_close(
            out, X + drift + amount / 2 * p.to("score") + math.sqrt(amount) * z, rtol=1e-9, atol=1e-9
        )
    path = VPPath()
    k = 500
    t, s = path.time(k), path.time(k - 1)
    c = path.coefficients(t)
    beta = -2 * float(c.d_alpha / c.alpha) * (t - s)  # −d ln ᾱ over the step, about beta_k
    assert beta == pytest.approx(float(path.betas[k]), rel=0.02)
    out = build("euler_maruyama").step(
        X, t, s, lambda x, t: MIX.denoiser(path).predict(x, t, Cond()), RecordedNoise({"step": [z]}), []
    )
    score = MIX.denoiser(path).predict(X, t, Cond()).to("score")
    torch.testing.assert_close(
        out, X + beta / 2 * X + beta * score + math.sqrt(beta) * z, rtol=1e-6, atol=1e-6
    )


def test_noise_never_exceeds_what_a_step_can_carry() -> None:
    """From far away in one step: the state still has the variance that belongs there, roughly."""
    for path in (VPPath(schedule="cosine"), LinearPath(), EDMPath()):
        n = 4000
        noise = NoiseSource(range(n))
        z = noise.normal((1,), stream="prior", dtype=torch.float64)
        for steps in (2, 4, 8):
            states = [
                s
                for s in build("euler_maruyama").steps(
                    gaussian(0.0, 1.0).denoiser(path), path.prior_scale * z, noise=noise, num_steps=steps
                )
            ]
            for state in states[:-1]:
                c = path.coefficients(state.s)
                assert float(state.x.std()) < 2.0 * float(torch.hypot(c.alpha, c.sigma))


def test_refusals() -> None:
    model = MIX.denoiser(LinearPath())
    for call, message in (
        (lambda: build("edm_heun", s_churn=-1.0), "got s_churn=-1.0"),
        (lambda: build("edm_heun", s_min=2.0, s_max=1.0), "s_min=2.0, s_max=1.0.*0 <= s_min <= s_max"),
        (lambda: build("euler_maruyama", scale=-0.5), "got scale=-0.5, expected 0"),
        (
            lambda: build("edm_heun", s_churn=5.0).sample(model, X),
            "EDMHeun adds noise in its steps; pass noise=",
        ),
        (lambda: build("euler_maruyama").sample(model, X), "EulerMaruyama adds noise in its steps"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert isinstance(build("edm_heun").sample(model, X, num_steps=3), Tensor) and isinstance(
        Prediction, type
    )
