"""Known entries: every query sees them at its own time, and taking steps again (RePaint) makes the free
entries fit them; exact truths on Gaussians."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from thinned import thinned
from torch import Tensor

import samplers
from backbones import Cond, NoiseSource
from backbones.registry import resolve
from samplers import EDMPath, FunctionDenoiser, LinearPath, Prediction, VPPath, build

PATHS = {"linear": LinearPath(), "cosine": VPPath(schedule="cosine"), "edm": EDMPath()}
KINDS = {n: resolve(samplers.REGISTRY, n, "sampler") for n in samplers.REGISTRY}
FROM_NOISE = [n for n, kind in KINDS.items() if "noise" in kind.starts and "euclid" in kind.spaces]
WRAPPED = (
    "UniPCMultistepScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
)
EVERY = [(n, {}) for n in FROM_NOISE] + [("edm_heun", {"s_churn": 20.0}), ("ddim", {"eta": 1.0})]
EVERY += [("diffusers", {"scheduler": s}) for s in WRAPPED] + [
    ("torchdiffeq", {"method": m}) for m in ("rk4", "midpoint", "dopri5")
]
R, Y = 0.9, 1.5  # the correlation of two entries of deviation 1; the first is known
COV = torch.tensor([[1, R], [R, 1]], dtype=torch.float64)
MEAN, VAR = R * Y, 1 - R**2


class Draws(NoiseSource):
    """Keeps (step, stream) of every draw."""

    seen: list[tuple[int, str]]

    def normal(self, shape: Sequence[int] = (), *, stream: str, dtype: torch.dtype = torch.float32) -> Tensor:
        self.seen.append((self.step, stream))
        return super().normal(shape, stream=stream, dtype=dtype)


def exact(path: Any) -> FunctionDenoiser:
    """The prior's denoiser: it knows of no known entries."""

    def predict(x: Tensor, t: Any, cond: Cond) -> Prediction:
        c = path.coefficients(t)
        gain = (
            c.alpha
            * COV
            @ torch.linalg.inv(c.alpha**2 * COV + c.sigma**2 * torch.eye(2, dtype=torch.float64))
        )
        return Prediction("data", x @ gain.T, x, t, path)

    return FunctionDenoiser(path, predict)


def trained(path: Any) -> FunctionDenoiser:
    """The denoiser of one that was trained with a clean first entry: it reads the second one's mean off
    it."""

    def predict(x: Tensor, t: Any, cond: Cond) -> Prediction:
        c, mean = path.coefficients(t), R * x[:, :1]
        free = mean + c.alpha * VAR / (c.alpha**2 * VAR + c.sigma**2) * (x[:, 1:] - c.alpha * mean)
        return Prediction("data", torch.cat([x[:, :1], free], 1), x, t, path)

    made = FunctionDenoiser(path, predict)
    made.known_trained = True
    return made


def filled(
    denoiser: FunctionDenoiser, name: str, num_steps: int, *, count: int = 512, **options: Any
) -> tuple[float, float, int]:
    """Mean and variance of the free entry, and the queries."""
    noise = NoiseSource(range(count))
    x = denoiser.path.prior_scale * noise.normal((2,), stream="prior", dtype=torch.float64)
    cond = Cond(
        known=torch.tensor([[True, False]]).expand(count, 2),
        given=torch.full((count, 2), Y, dtype=torch.float64),
    )
    *_, last = build(name, **options).steps(denoiser, x, cond, noise, num_steps=num_steps)
    assert bool((last.x[:, 0] == Y).all())
    return float(last.x[:, 1].mean()), float(last.x[:, 1].var()), last.evaluations


@pytest.mark.parametrize("spec, where", thinned(3, EVERY, list(PATHS)), ids=str)
def test_every_query_sees_them_at_its_own_time(spec: tuple[str, dict[str, Any]], where: str) -> None:
    """As noisy as the query, by one noise for all of the run; clean for a network that was trained with
    them."""
    (name, options), path = spec, PATHS[where]
    noise = NoiseSource(range(4))
    fixed = noise.normal((2,), stream="known", dtype=torch.float64)[:, 0]
    cond = Cond(
        known=torch.tensor([[True, False]]).expand(4, 2), given=torch.full((4, 2), Y, dtype=torch.float64)
    )
    for made in (exact, trained):
        inner, seen = made(path), []

        def predict(x: Tensor, t: Any, cond: Cond, inner: Any = inner, seen: list[Any] = seen) -> Prediction:
            seen.append((x[:, 0].clone(), path.coefficients(float(t))))
            return inner.predict(x, t, cond)

        asked = FunctionDenoiser(path, predict)
        asked.known_trained = inner.known_trained
        x = path.prior_scale * noise.normal((2,), stream="prior", dtype=torch.float64)
        last = build(name, **options).sample(asked, x, cond, noise, num_steps=6)
        assert len(seen) >= 6 and bool((last[:, 0] == Y).all())
        for entry, c in seen:
            want = torch.full_like(entry, Y) if inner.known_trained else c.alpha * Y + c.sigma * fixed
            torch.testing.assert_close(entry, want, rtol=1e-9, atol=1e-9)


SEVERAL: list[tuple[str, dict[str, Any]]] = [
    ("heun", {}),
    ("midpoint", {}),
    ("rk4", {}),
    ("edm_heun", {}),
    ("edm_heun", {"s_churn": 10.0}),
    ("torchdiffeq", {"method": "rk4"}),
    ("diffusers", {"scheduler": "HeunDiscreteScheduler", "lambda_min": -5.1}),
]


@pytest.mark.parametrize("spec, where", thinned(3, SEVERAL, list(PATHS)), ids=str)
def test_solvers_of_several_queries_find_the_conditional(
    spec: tuple[str, dict[str, Any]], where: str
) -> None:
    mean, variance, _ = filled(trained(PATHS[where]), spec[0], 30, **spec[1])
    assert mean == pytest.approx(MEAN, abs=0.06) and variance == pytest.approx(VAR, abs=0.04)


@pytest.mark.parametrize("name", ["ab2", "ddpm", "dpmpp_2m"])
def test_resampling_pays_at_equal_queries(name: str) -> None:
    """Ten steps taken five times against fifty: the conditional mean comes nearer by two fifths of what is
    missing, the variance as well."""
    for path in PATHS.values():
        once, again = filled(exact(path), name, 50), filled(exact(path), name, 10, resample=5)
        assert once[2] == again[2] == 50
        assert abs(again[0] - MEAN) < 0.6 * abs(once[0] - MEAN) and abs(again[1] - VAR) < abs(once[1] - VAR)


@pytest.mark.parametrize("where", ["linear", "edm", pytest.param("cosine", marks=pytest.mark.slow)])
def test_resampling_approaches_the_truth(where: str) -> None:
    means = [filled(exact(PATHS[where]), "ddpm", 20, resample=u)[0] for u in (1, 3, 15)]
    assert means[0] < means[1] < means[2] and means[2] == pytest.approx(MEAN, abs=0.08)


def test_jumps_draw_noise_of_their_own() -> None:
    """No page of a stream is drawn twice, and one that takes each step once draws as it did."""
    drawn = {}
    for resample in (1, 3):
        noise = Draws(range(3))
        noise.seen = []
        cond = Cond(
            known=torch.tensor([[True, False]]).expand(3, 2), given=torch.full((3, 2), Y, dtype=torch.float64)
        )
        build("ddpm", resample=resample).sample(
            exact(LinearPath()), torch.randn(3, 2, dtype=torch.float64), cond, noise, num_steps=5
        )
        drawn[resample] = noise.seen
        assert len(set(noise.seen)) == len(noise.seen)
    assert sum(stream == "jump" for _, stream in drawn[3]) == 10 and not any(
        stream == "jump" for _, stream in drawn[1]
    )
    assert set(drawn[1]) <= set(drawn[3])


@pytest.mark.parametrize("start", [0, 3])
def test_steps_are_counted_as_often_as_they_are_taken(start: int) -> None:
    """Against a loop by hand: history restarts where a step is taken again, so that ab2 is euler there."""
    path, n, u = LinearPath(), 6, 3
    denoiser, noise = exact(path), NoiseSource(range(3))
    cond = Cond(
        known=torch.tensor([[True, False]]).expand(3, 2), given=torch.full((3, 2), Y, dtype=torch.float64)
    )
    fixed = noise.normal((2,), stream="known", dtype=torch.float64)
    x = state = noise.normal((2,), stream="prior", dtype=torch.float64)
    steps = list(build("ab2", resample=u).steps(denoiser, x, cond, noise, num_steps=n, start=start))
    assert (
        [s.index for s in steps] == list(range(u * start, u * n))
        and {s.num_steps for s in steps} == {u * n}
        and steps[-1].evaluations == len(steps)
    )
    times, at = path.grid(n), iter(steps)

    def put(x: Tensor, t: float) -> Tensor:
        return torch.where(cond.known, t * cond.given + (1 - t) * fixed, x)

    state, before = put(state, times[start]), None
    for i in range(start, n):
        t, s = times[i], times[i + 1]
        for again in range(u):
            if again:
                z = noise.at(i + again * n).normal((2,), stream="jump", dtype=torch.float64)
                a = t / s
                state, before = put(a * state + ((1 - t) ** 2 - (a * (1 - s)) ** 2) ** 0.5 * z, t), None
            v = denoiser.predict(state, t, cond).to("velocity")
            state, before = put(state + (s - t) * (v if before is None else 1.5 * v - 0.5 * before), s), v
            torch.testing.assert_close(next(at).x, state, rtol=1e-9, atol=1e-9)


def test_refusals() -> None:
    cond = Cond(known=torch.ones(2, 2, dtype=torch.bool), given=torch.zeros(2, 2))
    for condition, denoiser in ((None, exact(LinearPath())), (cond, trained(LinearPath()))):
        with pytest.raises(ValueError, match="got resample=5, which is for known entries"):
            build("euler", resample=5).steps(denoiser, torch.zeros(2, 2), condition, NoiseSource(range(2)))
    for name, options in (
        ("torchdiffeq", {"resample": 2}),
        ("bridge", {"resample": 2}),
        ("euler", {"resample": 0}),
    ):
        with pytest.raises(ValueError, match="resample"):
            build(name, **options)
