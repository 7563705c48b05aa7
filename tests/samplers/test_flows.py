"""Flow-matching paths: torchcfm's recorded draws, their definitions, noise between the ends, and sampling on
them."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mixture import Mixture, gaussian, points
from thinned import thinned
from torch import Tensor

from backbones import Cond, NoiseSource, RecordedNoise
from samplers import Batch, LinearPath, LipmanPath, Objective, TrigPath, build, build_objective
from samplers.heads.parameterization import EDM, Direct
from samplers.paths.coefficients import mix
from samplers.paths.flows import Flow
from samplers.spaces.euclid import Euclid

MATCHERS = {
    "cfm_s0": LinearPath(),
    "cfm_s0.1": LinearPath(sigma=0.1),
    "target_s0": LipmanPath(sigma_min=0.0),
    "target_s0.1": LipmanPath(sigma_min=0.1),
    "vp_s0": TrigPath(),
    "vp_s0.1": TrigPath(sigma=0.1),
}
PATHS = {**MATCHERS, "lipman": LipmanPath(), "noisy": LinearPath(sigma=0.6)}
EVERY = ("euler", "heun", "ab2", "rk4", "ddim", "ddpm", "dpmpp_2m", "torchdiffeq")
every_path = pytest.mark.parametrize("path", list(PATHS.values()), ids=list(PATHS))


class Silent(torch.nn.Module):
    """Answers 0 and remembers what it saw."""

    def forward(self, x: Tensor, t: Tensor, cond: Cond, ctx: Any = None) -> Tensor:
        self.seen = x
        return torch.zeros_like(x)


@pytest.mark.parametrize("kind", ["", "img_"])
@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize("name", list(MATCHERS))
def test_recorded_matchers(golden: Callable[[str], Any], name: str, dtype: str, kind: str) -> None:
    """The state, its mean and the regression target. What Lipman's path calls noise is our source: theirs
    ignores x0."""
    g = {k.removeprefix(f"{dtype}."): v for k, v in golden("cfm_matchers")[0].items() if k.startswith(dtype)}
    x0, x1, t, eps = (g[f"in.{kind}{k}"] for k in ("x0", "x1", "t", "eps"))
    path, net = MATCHERS[name], Silent()
    batch = Batch(x1, source=eps if name.startswith("target") else x0)
    objective = Objective(path, Direct("velocity"))
    loss = objective.loss(net, batch, RecordedNoise({"jitter": [eps]}), t=t)
    limit = {"rtol": 0, "atol": 1e-12 if dtype == "f64" else 2e-6}
    torch.testing.assert_close(net.seen, g[f"{name}.{kind}xt"], **limit)
    c = path.ends(t)
    mean = c.alpha.view(-1, *[1] * (x1.ndim - 1)) * x1 + (
        0 if name.startswith("target") else c.sigma.view(-1, *[1] * (x1.ndim - 1)) * x0
    )
    torch.testing.assert_close(mean.to(x1), g[f"{name}.{kind}mu_t"], **limit)
    target = g[f"{name}.{kind}ut"]
    # theirs is 0/0 there
    rows = target.flatten(1).isfinite().all(1) & (t < 1 if name == "target_s0" else True)
    assert int(rows.sum()) >= len(t) - 2
    pairs = objective.sample_pairs(batch, RecordedNoise({"jitter": [eps]}))
    state = objective.state(pairs, t, RecordedNoise({"jitter": [eps]}))
    (_, ours, _), *_ = objective.parameterization.differences(objective.predict(net, state), state)
    ours = -ours
    torch.testing.assert_close(
        ours[rows], target[rows], rtol=1e-9 if dtype == "f64" else 1e-4, atol=limit["atol"] * 10
    )
    torch.testing.assert_close(
        loss.per_sample[rows],
        target[rows].square().flatten(1).mean(1),
        rtol=1e-6 if dtype == "f64" else 1e-4,
        atol=1e-6,
    )


@every_path
def test_slopes_and_noise_levels(path: Flow) -> None:
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    for f in (path.ends, path.coefficients):
        up, here, down = f(t + 1e-6), f(t), f(t - 1e-6)
        torch.testing.assert_close((up.alpha - down.alpha) / 2e-6, here.d_alpha, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close((up.sigma - down.sigma) / 2e-6, here.d_sigma, rtol=1e-7, atol=1e-7)
    c, ends = path.coefficients(t), path.ends(t)
    torch.testing.assert_close(c.sigma, (ends.sigma**2 + path.sigma**2).sqrt())
    torch.testing.assert_close(path.time_of(path.log_snr(t)), t, rtol=0, atol=1e-9)
    assert bool((path.log_snr(t).diff() > 0).all())
    assert float(path.time_of(math.inf)) == 1.0 and float(path.time_of(-math.inf)) == 0.0
    assert path.prior_scale == pytest.approx(float(path.coefficients(0.0).sigma), rel=1e-12)
    assert float(path.coefficients(1.0).alpha) == 1.0 and float(path.coefficients(0.0).alpha) == 0.0


def test_trig_is_variance_preserving_with_exact_ends() -> None:
    c = TrigPath().coefficients(torch.linspace(0, 1, 11, dtype=torch.float64))
    torch.testing.assert_close(c.alpha**2 + c.sigma**2, torch.ones(11, dtype=torch.float64))
    assert float(c.sigma[-1]) == 0 and float(c.d_alpha[-1]) == 0


def test_lipman_is_linear_at_zero() -> None:
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    a, b = LipmanPath(sigma_min=0.0).coefficients(t), LinearPath().coefficients(t)
    for field in ("alpha", "sigma", "d_alpha", "d_sigma"):
        assert torch.equal(getattr(a, field), getattr(b, field))
    assert float(LipmanPath(sigma_min=0.01).coefficients(1.0).sigma) == pytest.approx(0.01)


@pytest.mark.parametrize("path", [LinearPath(sigma=0.5), TrigPath(sigma=0.5)], ids=["linear", "trig"])
@pytest.mark.parametrize("kind", ["velocity", "noise", "data", "v", "edm"])
def test_the_regressed_field_is_the_paths_own(path: Flow, kind: str) -> None:
    """For a Gaussian source E[a' data + b' source | x] is the path's probability flow: the best affine
    predictor of every target at one time (the optimum for Gaussian data) is what the exact model of the path
    (a, √(b² + sigma²)) says in that space."""
    n, std, m, when = 60_000, 0.7, 0.4, 0.6
    data, noise = m + std * points(n, 1), NoiseSource(range(n))
    t = torch.full((n,), when, dtype=torch.float64)
    objective, net = Objective(path, EDM() if kind == "edm" else Direct(kind)), Silent()
    pairs = objective.sample_pairs(Batch(data), noise)
    state = objective.state(pairs, t, noise)
    silent, x = objective.predict(net, state), state.x
    jitter = noise.normal(data.shape[1:], stream="jitter", dtype=data.dtype)
    between = mix(path.ends(t), pairs.source, pairs.data)
    torch.testing.assert_close(x, between + path.sigma * jitter)
    ((_, lacking, _),) = objective.parameterization.differences(silent, state)
    target = -lacking  # of the network's output
    exact = gaussian(m, std).denoiser(path).predict(x, when, Cond())
    needed = target if kind == "edm" else exact.to(kind)
    if kind == "edm":
        skip, out, _ = objective.parameterization._scales(x, when, path)
        needed = (exact.to("data") - skip * x) / out
    features = torch.cat([torch.ones_like(x), x], 1)
    fitted = features @ torch.linalg.lstsq(features, target).solution
    torch.testing.assert_close(fitted, needed, rtol=0, atol=0.03 * float(target.std()))


def test_jitter_is_a_draw_of_its_own() -> None:
    """Same pairs with and without; its variance is sigma²."""
    data, noise = points(4000, 2), NoiseSource(range(4000))
    loud, quiet = Silent(), Silent()
    t = torch.rand(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a = Objective(LinearPath(sigma=0.3), Direct("velocity")).loss(loud, Batch(data), noise, t=t)
    b = Objective(LinearPath(), Direct("velocity")).loss(quiet, Batch(data), noise, t=t)
    difference = loud.seen - quiet.seen
    assert (
        float(difference.std()) == pytest.approx(0.3, rel=0.03)
        and abs(float((difference * quiet.seen).mean())) < 0.02
    )
    torch.testing.assert_close(a.per_sample, b.per_sample)  # the target does not see it
    assert float(a.logs["path_energy"]) == pytest.approx(float(b.logs["path_energy"]))


@pytest.mark.parametrize("where, name", thinned(4, list(PATHS), EVERY))
def test_samplers_run_on_every_flow(where: str, name: str) -> None:
    """From the prior, whose scale counts the noise between the ends, to data with that noise left in it."""
    path, m, std, n = PATHS[where], 0.7, 0.5, 4096
    noise = NoiseSource(range(n))
    z = Euclid().start(noise, (1,), dtype=torch.float64)[0]
    x = build(name).sample(gaussian(m, std).denoiser(path), path.prior_scale * z, noise=noise, num_steps=60)
    left = float(path.coefficients(1.0).sigma)
    if name == "ddpm":
        assert float(x.mean()) == pytest.approx(m, abs=0.05) and float(x.std()) == pytest.approx(
            math.hypot(std, left), rel=0.2
        )
    elif name in ("euler", "ddim", "ab2", "dpmpp_2m"):
        torch.testing.assert_close(x, m + math.hypot(std, left) * z, rtol=0, atol=0.12)
    else:
        torch.testing.assert_close(x, m + math.hypot(std, left) * z, rtol=0, atol=2e-3)


def test_orders_on_the_quarter_circle() -> None:
    path, x, mix = TrigPath(), points(16), Mixture()
    model = mix.denoiser(path)
    truth = build("torchdiffeq", method="dopri5", rtol=1e-10, atol=1e-10).sample(model, x)
    for name, order in (("euler", 1), ("heun", 2), ("rk4", 4)):
        errors = [
            float((build(name).sample(model, x, num_steps=n) - truth).norm(dim=1).mean())
            for n in (20, 40, 80)
        ]
        for a, b in zip(errors, errors[1:]):
            assert math.log2(a / b) == pytest.approx(order, abs=0.35 * order**0.5), (name, errors)


def test_configs_and_refusals() -> None:
    assert build_objective({"name": "linear", "sigma": 0.1}).path.sigma == 0.1
    assert isinstance(build_objective("trig").path, TrigPath)
    assert build_objective({"name": "lipman", "sigma_min": 0.01}).path.sigma_min == 0.01
    for bad, message in (
        ({"name": "linear", "sigma": -1.0}, "got sigma=-1.0, expected 0 or more"),
        ({"name": "lipman", "sigma_min": 1.0}, "got sigma_min=1.0, expected 0 to below 1"),
        ({"name": "trigg"}, "did you mean 'trig'"),
    ):
        with pytest.raises(ValueError, match=message):
            build_objective(bad)
    for path, word in ((TrigPath(), "trig"), (LipmanPath(), "lipman")):
        with pytest.raises(ValueError, match=f"leave it out on the {word} path"):
            path.grid(5, "leading")
    with pytest.raises(TypeError, match="subclass Flow"):
        Flow().coefficients(0.5)
