"""What every registered sampler keeps on every path. A new entry is picked up by itself."""

import math
from typing import Any

import pytest
import torch
from mixture import Mixture, correlated, gaussian, points, root
from thinned import thinned
from torch import Tensor

import samplers
from backbones import Cond, NoiseSource
from backbones.registry import resolve
from samplers import EDMPath, LinearPath, VPPath, build
from samplers.spaces.euclid import Euclid

PATHS = {
    "linear": LinearPath(),
    "vp": VPPath(),
    "cosine": VPPath(schedule="cosine"),
    "zero": VPPath(zero_snr=True),
    "edm": EDMPath(),
}
KINDS = {n: resolve(samplers.REGISTRY, n, "sampler") for n in samplers.REGISTRY}
FROM_NOISE = [n for n, kind in KINDS.items() if "noise" in kind.starts and "euclid" in kind.spaces]
every_sampler = pytest.mark.parametrize("name", FROM_NOISE)
every_path = pytest.mark.parametrize("where", list(PATHS))
MIX = Mixture()


def variants(name: str) -> list[dict[str, Any]]:
    return {
        "ddim": [{}, {"eta": 1.0}],
        "ddpm": [{}, {"variance": "fixed_large"}],
        "torchdiffeq": [{}, {"method": "rk4"}],
    }.get(name, [{}])


def is_random(sampler: Any) -> bool:
    """Whether two sets of draws give two results."""
    path = LinearPath()
    a, b = (
        sampler.sample(MIX.denoiser(path), points(2), noise=NoiseSource(seeds), num_steps=3)
        for seeds in ([0, 1], [2, 3])
    )
    return not torch.equal(a, b)


@pytest.mark.parametrize("name, where, num_steps", thinned(5, FROM_NOISE, list(PATHS), [1, 2, 3]))
def test_few_steps(name: str, where: str, num_steps: int) -> None:
    """Finite, and the grid is kept, in float32 as in float64."""
    path = PATHS[where]
    for options in variants(name):
        for dtype in (torch.float32, torch.float64):
            noise = NoiseSource(range(16))
            x = Euclid().start(noise, (2,), scale=path.prior_scale, dtype=dtype)[0]
            steps = list(
                build(name, **options).steps(MIX.denoiser(path), x, noise=noise, num_steps=num_steps)
            )
            assert bool(torch.isfinite(steps[-1].x).all()) and steps[-1].x.dtype == dtype
            # the large variance is large between two far levels; else nothing ends farther out than it began
            if "variance" not in options:
                assert float(steps[-1].x.abs().max()) < max(12.0, float(x.abs().max()))
            assert steps[-1].s == 1.0 and all(
                a.s == pytest.approx(b.t, abs=1e-12) for a, b in zip(steps, steps[1:])
            )
            for step in steps:
                assert (
                    step.t < step.s
                    and step.index < step.num_steps
                    and bool(torch.isfinite(step.data_hat).all())
                )
            assert all(a.evaluations < b.evaluations for a, b in zip(steps, steps[1:]))


@pytest.mark.parametrize("name, where", thinned(5, FROM_NOISE, list(PATHS)))
def test_the_flow_or_the_law_of_a_gaussian(name: str, where: str) -> None:
    """Deterministic samplers carry a m + √(a² v + s²) z to m + √v z for each z; random ones reproduce mean
    and variance."""
    path, m, std = PATHS[where], 0.7, 0.5
    model, n = gaussian(m, std).denoiser(path), 4096
    for options in variants(name):
        sampler = build(name, **options)
        times = sampler.times(path, 250)
        c, noise = path.coefficients(times[0]), NoiseSource(range(n))
        z = Euclid().start(noise, (1,), dtype=torch.float64)[0]
        x = sampler.sample(
            model, c.alpha * m + (c.alpha**2 * std**2 + c.sigma**2).sqrt() * z, noise=noise, num_steps=250
        )
        assert abs(float(x.mean()) - m) < 0.01 + 4 * std / math.sqrt(n)
        assert abs(float(x.std()) / std - 1) < 0.02 + 4 / math.sqrt(2 * n)
        if is_random(sampler):
            assert abs(float(((x - m) * z).mean()) / std) < 0.6  # the start is partly forgotten
        else:
            assert (
                float((x - m - std * z).abs().max()) < 0.06
                and float((x - m - std * z).square().mean().sqrt()) < 0.012
            )


@pytest.mark.parametrize("name, where", thinned(3, FROM_NOISE, ["linear", "vp", "edm"]))
def test_the_covariance_of_a_gaussian(name: str, where: str) -> None:
    """Of a correlated one: a mean + (a² cov + s² I)^½ z goes to mean + cov^½ z for each z, or has that
    law."""
    path, n = PATHS[where], 2048
    mean, cov = (
        torch.tensor([0.7, -0.4], dtype=torch.float64),
        torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=torch.float64),
    )
    for options in variants(name):
        sampler, noise = build(name, **options), NoiseSource(range(n))
        c, z = (
            path.coefficients(sampler.times(path, 200)[0]),
            Euclid().start(noise, (2,), dtype=torch.float64)[0],
        )
        start = c.alpha * mean + z @ root(c.alpha**2 * cov + c.sigma**2 * torch.eye(2, dtype=torch.float64))
        x = sampler.sample(correlated(path, mean, cov), start, noise=noise, num_steps=200)
        if is_random(sampler):
            spread = ((cov.diag()[:, None] * cov.diag() + cov**2) / n).sqrt()  # of a sample covariance
            assert bool(((x.T.cov() - cov).abs() < 0.01 + 4 * spread).all())
            assert bool(((x.mean(0) - mean).abs() < 0.01 + 4 * (cov.diag() / n).sqrt()).all())
        else:
            assert float((x - mean - z @ root(cov)).square().mean().sqrt()) < 0.02


@every_sampler
@every_path
def test_steps_report_what_happened(name: str, where: str) -> None:
    """``evaluations`` is the number of queries made, and ``data_hat`` the model's answer at the state that
    the step began from."""
    path, queries = PATHS[where], [0]
    inner = MIX.denoiser(path)

    def predict(x: Tensor, t: Any, cond: Cond) -> samplers.Prediction:
        queries[0] += 1
        return inner.predict(x, t, cond)

    for options in variants(name):
        # its thread is ahead of the reader
        queries[0], noise, ahead = 0, NoiseSource(range(4)), name == "torchdiffeq"
        x = path.prior_scale * points(4)
        for i, step in enumerate(
            build(name, **options).steps(
                samplers.FunctionDenoiser(path, predict), x, noise=noise, num_steps=4
            )
        ):
            assert (
                step.index == i
                and step.evaluations <= queries[0]
                and (ahead or step.evaluations == queries[0])
            )
            c = path.coefficients(step.prediction.t)
            torch.testing.assert_close(
                step.data_hat, MIX.denoise(step.prediction.x, c.alpha, c.sigma), rtol=1e-9, atol=1e-9
            )
            # an adaptive method keeps the slope at its start from the step before, and asks farther on
            if not ahead or options:
                torch.testing.assert_close(step.prediction.x, x, rtol=1e-9, atol=1e-9)
                assert float(step.prediction.t) == pytest.approx(step.t, abs=1e-12)
            x = step.x
        assert step.evaluations == queries[0]


@every_sampler
def test_both_modes_of_a_mixture(name: str) -> None:
    """The share of samples by component, at 100 steps from pure noise."""
    path, n = LinearPath(), 2000
    for options in variants(name):
        noise = NoiseSource(range(n))
        x = build(name, **options).sample(
            MIX.denoiser(path),
            Euclid().start(noise, (2,), dtype=torch.float64)[0],
            noise=noise,
            num_steps=100,
        )
        left = (x - torch.tensor(MIX.means[0])).norm(dim=1) < (x - torch.tensor(MIX.means[1])).norm(dim=1)
        assert abs(float(left.double().mean()) - 0.4) < 0.035
        torch.testing.assert_close(
            x[left].mean(0), torch.tensor(MIX.means[0], dtype=torch.float64), rtol=0, atol=0.1
        )


@every_sampler
def test_runs_do_not_touch_each_other(name: str) -> None:
    """Two runs of one sampler object, interleaved step by step, are what they are alone; the input is left as
    it was."""
    path, sampler = VPPath(), build(name)
    model, x = MIX.denoiser(path), points(4)
    kept = x.clone()

    def run(seed: int) -> Any:
        return sampler.steps(model, x + seed, noise=NoiseSource([seed] * 4), num_steps=5)

    alone = [[s.x for s in run(seed)] for seed in (0, 1)]
    mixed: list[list[Tensor]] = [[], []]
    for pair in zip(run(0), run(1)):
        for states, step in zip(mixed, pair):
            states.append(step.x)
    for a, b in zip(alone, mixed):
        for p, q in zip(a, b):
            assert torch.equal(p, q)
    assert torch.equal(x, kept)


@every_sampler
def test_conditions_reach_the_model(name: str) -> None:
    path, seen = LinearPath(), []
    inner = MIX.denoiser(path)
    model = samplers.FunctionDenoiser(
        path, lambda x, t, cond: (seen.append(cond), inner.predict(x, t, cond))[1]
    )
    cond = Cond(label=torch.tensor([3, 1]))
    build(name).sample(model, points(2), cond, NoiseSource([0, 1]), num_steps=2)
    assert seen and all(c is cond for c in seen)


class Tokens(Euclid):
    name, geometry = "tokens", "discrete"


class OnTokens(LinearPath):
    space = Tokens()


@every_sampler
def test_refusals(name: str) -> None:
    x = points(2)
    with pytest.raises(ValueError, match="steps, expected an integer of at least 1"):
        build(name).sample(MIX.denoiser(LinearPath()), x, noise=NoiseSource([0, 1]), num_steps=0)
    with pytest.raises(ValueError, match="applies to VP tables only"):
        build(name, spacing="leading").sample(MIX.denoiser(LinearPath()), x, noise=NoiseSource([0, 1]))
    with pytest.raises(ValueError, match="unknown option 'stpes'"):
        build(name, stpes=3)
    with pytest.raises(ValueError, match="got 9 steps on a table of 8; ask for at most 8"):
        build(name).sample(
            MIX.denoiser(VPPath(betas=torch.linspace(0.01, 0.5, 8))),
            x,
            noise=NoiseSource([0, 1]),
            num_steps=9,
        )
    with pytest.raises(
        ValueError,
        match=f"{type(build(name)).__name__} is for models of euclid.*, got one of tokens; choose another",
    ):
        build(name).sample(MIX.denoiser(OnTokens()), x)
