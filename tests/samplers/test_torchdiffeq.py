"""torchdiffeq's solvers behind the sampler's interface: accuracy, steps, stopping, errors."""

import threading
from typing import Any

import pytest
import torch
from mixture import Mixture, gaussian, points
from scipy.integrate import solve_ivp
from thinned import thinned
from torch import Tensor

from backbones import Cond, RunContext
from samplers import EDMPath, FunctionDenoiser, LinearPath, Prediction, VPPath, build
from samplers.solvers.adaptive import ADAPTIVE, FIXED

MIX, X = Mixture(), points(16)


def fine(path: LinearPath) -> Tensor:
    """scipy's DOP853 on u = (D − x)/(1 − t), up to t = 1 − 1e-9."""

    def field(t: float, y: Any) -> Any:
        x = torch.tensor(y).view(-1, 2)
        return ((MIX.denoise(x, t, 1 - t) - x) / (1 - t)).flatten().numpy()

    y = solve_ivp(field, (0, 1 - 1e-9), X.flatten().numpy(), method="DOP853", rtol=1e-10, atol=1e-10).y[:, -1]
    return torch.tensor(y).view(-1, 2)


@pytest.fixture(scope="module")
def exact() -> Tensor:
    return fine(LinearPath())


@pytest.mark.parametrize("method", ADAPTIVE)
def test_adaptive_methods_reach_their_tolerance(exact: Tensor, method: str) -> None:
    tolerance = 1e-4 if method in ("fehlberg2", "adaptive_heun", "bosh3") else 1e-8
    sampler = build("torchdiffeq", method=method, rtol=tolerance, atol=tolerance)
    limit = 300 * tolerance if method == "fehlberg2" else 30 * tolerance  # its error estimate is a rough one
    assert float((sampler.sample(MIX.denoiser(LinearPath()), X) - exact).abs().max()) < limit


@pytest.mark.parametrize(
    "method, limit", [("euler", 0.2), ("midpoint", 5e-3), ("heun2", 5e-3), ("heun3", 2e-3), ("rk4", 1e-5)]
)
def test_fixed_methods_step_on_the_grid(exact: Tensor, method: str, limit: float) -> None:
    steps = list(build("torchdiffeq", method=method).steps(MIX.denoiser(LinearPath()), X, num_steps=32))
    assert float((steps[-1].x - exact).abs().max()) < limit
    assert [(s.index, s.num_steps, s.t, s.s) for s in steps] == [
        (i, 32, i / 32, (i + 1) / 32) for i in range(32)
    ]


@pytest.mark.parametrize("ours, theirs", [("euler", "euler"), ("midpoint", "midpoint"), ("heun", "heun2")])
def test_steps_are_those_of_our_own_solvers(ours: str, theirs: str) -> None:
    """Same states, same data predictions, same count of evaluations at every step."""
    model = MIX.denoiser(LinearPath())
    a, b = (
        list(build(ours).steps(model, X, num_steps=6)),
        list(build("torchdiffeq", method=theirs).steps(model, X, num_steps=6)),
    )
    for p, q in zip(a, b):
        torch.testing.assert_close(p.x, q.x, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(p.data_hat, q.data_hat, rtol=1e-10, atol=1e-10)
        assert p.evaluations == q.evaluations


def test_adaptive_steps() -> None:
    """They tile [0, 1] without leaving it, and their count of evaluations is the model's."""
    seen: list[float] = []
    inner = MIX.denoiser(LinearPath())

    def predict(x: Tensor, t: Any, cond: Cond) -> Prediction:
        seen.append(float(t))
        return inner.predict(x, t, cond)

    steps = list(
        build("torchdiffeq", method="dopri5").steps(FunctionDenoiser(LinearPath(), predict), X, num_steps=1)
    )
    assert len(steps) > 5 and steps[0].t == 0 and steps[-1].s == 1
    for a, b in zip(steps[:-1], steps[1:]):
        assert (
            a.s == pytest.approx(b.t, abs=1e-12) and a.evaluations < b.evaluations and b.index == a.index + 1
        )
        assert float((a.x - b.x).abs().max()) > 0
    assert steps[-1].evaluations == len(seen) and min(seen) >= 0 and max(seen) <= 1


@pytest.mark.parametrize("where, method", thinned(2, ["vp", "cosine", "edm"], ["dopri5", "rk4"]))
def test_other_paths(where: str, method: str) -> None:
    """The flow of a Gaussian is x_t = a m + √(a² v + s²) z; the model is not asked below its last table entry
    or sigma_min."""
    path: Any = {"vp": VPPath(), "cosine": VPPath(schedule="cosine"), "edm": EDMPath()}[where]
    seen: list[float] = []
    data, m, std = gaussian(0.7, 0.5, 2), 0.7, 0.5
    inner, z = data.denoiser(path), points(8)

    def predict(x: Tensor, t: Any, cond: Cond) -> Prediction:
        seen.append(float(t))
        return inner.predict(x, t, cond)

    times = build("torchdiffeq").times(path, 200)
    c = path.coefficients(times[0])
    x = c.alpha * m + (c.alpha**2 * std**2 + c.sigma**2).sqrt() * z
    steps = list(
        build("torchdiffeq", method=method, rtol=1e-7, atol=1e-7).steps(
            FunctionDenoiser(path, predict), x, num_steps=200
        )
    )
    assert steps[-1].s == 1 and steps[-1].evaluations == len(seen)
    torch.testing.assert_close(steps[-1].x, m + std * z, rtol=0, atol=2e-3)
    assert max(seen) <= (path.time(0) if isinstance(path, VPPath) else 1 / (1 + path.sigma_min)) + 1e-12


@pytest.mark.parametrize("path", [VPPath(), EDMPath()], ids=["vp", "edm"])
def test_the_open_end_is_the_data_prediction(path: Any) -> None:
    """Not the state there, which still carries the noise of the last entry or of sigma_min."""
    m, std, z = 0.7, 0.05, points(8)
    a, b = (
        path.coefficients(t)
        for t in (0.3, path.time(0) if isinstance(path, VPPath) else 1 / (1 + path.sigma_min))
    )
    at = [c.alpha * m + (c.alpha**2 * std**2 + c.sigma**2).sqrt() * z for c in (a, b)]
    sampler = build("torchdiffeq", method="dopri5", rtol=1e-9, atol=1e-9)
    sampler.times = lambda path, num_steps: [0.3, 1.0]
    expected = gaussian(m, std, 2).denoise(at[1], b.alpha, b.sigma)
    assert float((expected - at[1]).abs().max()) > 5e-5
    torch.testing.assert_close(
        sampler.sample(gaussian(m, std, 2).denoiser(path), at[0]), expected, rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("method, atol", [("rk4", 1e-10), ("dopri5", 1e-5)])
def test_batches_agree_within_the_tolerance(method: str, atol: float) -> None:
    """Fixed grids exactly; an adaptive one shares its step size, so only as far as it was asked to be
    accurate."""
    sampler, model = build("torchdiffeq", method=method, rtol=1e-7, atol=1e-7), MIX.denoiser(LinearPath())
    torch.testing.assert_close(
        sampler.sample(model, X[5:6]), sampler.sample(model, X)[5:6], rtol=0, atol=atol
    )


@pytest.mark.parametrize("num_steps", [1, 2])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_few_steps_on_a_table(num_steps: int, spacing: str) -> None:
    for method in ("rk4", "dopri5"):
        x = build("torchdiffeq", method=method, spacing=spacing).sample(
            MIX.denoiser(VPPath()), X, num_steps=num_steps
        )
        assert bool(torch.isfinite(x).all()) and float((x - X).abs().max()) > 0


def workers() -> set[threading.Thread]:
    return set(threading.enumerate())


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_closing_the_generator_stops_the_worker(method: str) -> None:
    before, calls = workers(), []
    inner = MIX.denoiser(LinearPath())

    def predict(x: Tensor, t: Any, cond: Cond) -> Prediction:
        calls.append(t)
        return inner.predict(x, t, cond)

    run = build("torchdiffeq", method=method).steps(FunctionDenoiser(LinearPath(), predict), X, num_steps=500)
    next(run)
    assert len(workers() - before) == 1
    run.close()
    assert workers() == before
    made = len(calls)
    assert made < 60  # it had not run ahead of the reader
    assert len(calls) == made


def test_errors_of_the_model_reach_the_caller() -> None:
    before, inner = workers(), MIX.denoiser(LinearPath())

    def predict(x: Tensor, t: Any, cond: Cond) -> Prediction:
        if float(t) > 0.5:
            raise RuntimeError("the network is out of order")
        return inner.predict(x, t, cond)

    run, got = (
        build("torchdiffeq", method="rk4").steps(FunctionDenoiser(LinearPath(), predict), X, num_steps=10),
        [],
    )
    with pytest.raises(RuntimeError, match="out of order"):
        for step in run:
            got.append(step)
    assert 3 <= len(got) <= 5 and workers() == before


def test_a_run_leaves_no_trace_in_the_next() -> None:
    """A context that another run left at its end is reset: the start of a step is known for fixed methods
    only."""
    seen: list[float | None] = []

    class Watching(FunctionDenoiser):
        def predict(self, x: Tensor, t: Any, cond: Cond, ctx: RunContext | None = None) -> Prediction:
            seen.append(ctx.t)
            return super().predict(x, t, cond, ctx)

    ctx, model = RunContext(t=0.9, step=40), Watching(LinearPath(), MIX.denoiser(LinearPath()).fn)
    build("torchdiffeq", method="dopri5").sample(model, X, ctx=ctx)
    assert set(seen) == {None}
    seen.clear()
    build("torchdiffeq", method="heun2").sample(model, X, ctx=ctx, num_steps=4)
    assert seen == [0.0, 0.0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75] and (ctx.step, ctx.num_steps) == (4, 4)


def test_refusals() -> None:
    for options, message in (
        ({"method": "dopri6"}, f"got method 'dopri6', expected one of {', '.join(ADAPTIVE + FIXED)}"),
        ({"rtol": 0.0}, "expected positive tolerances"),
        ({"atol": -1.0}, "expected positive tolerances"),
    ):
        with pytest.raises(ValueError, match=message):
            build("torchdiffeq", **options)
    cond = Cond(known=torch.ones(16, 2, dtype=torch.bool), given=X)
    with pytest.raises(ValueError, match="known entries are re-noised for this model, which needs noise"):
        build("torchdiffeq").sample(MIX.denoiser(LinearPath()), X, cond)


@pytest.mark.parametrize("where, method", thinned(2, ["linear", "vp", "edm"], ["dopri5", "rk4"]))
def test_alone_every_sample_is_what_it_is_by_itself(where: str, method: str) -> None:
    """Bit for bit, whatever its company; steps come sample by sample, and only the very last one says that it
    is the last."""
    path = {"linear": LinearPath(), "vp": VPPath(), "edm": EDMPath()}[where]
    x, queries = path.prior_scale * X[:3], [0]
    inner = MIX.denoiser(path)

    def predict(x: Tensor, t: Any, cond: Cond) -> Prediction:
        assert len(x) == 1 and cond.label.shape == (1,)
        queries[0] += 1
        return inner.predict(x, t, cond)

    model, cond = FunctionDenoiser(path, predict), Cond(label=torch.arange(3))
    steps = list(build("torchdiffeq", method=method, alone=True).steps(model, x, cond, num_steps=12))
    assert steps[-1].evaluations == queries[0] and [s.index for s in steps] == list(range(len(steps)))
    assert [s.index + 1 == s.num_steps and s.s == 1 for s in steps] == [False] * (len(steps) - 1) + [True]
    assert (
        all(a.evaluations < b.evaluations for a, b in zip(steps, steps[1:]))
        and sum(s.s == 1 for s in steps) == 3
    )
    for i in range(3):
        by_itself = build("torchdiffeq", method=method).sample(
            model, x[i : i + 1], cond.index(slice(i, i + 1)), num_steps=12
        )
        assert torch.equal(steps[-1].x[i : i + 1], by_itself)
    before = x
    for step in steps:  # one row moves at a time
        assert step.x.shape == step.data_hat.shape == x.shape and torch.equal(step.prediction.x, before)
        assert int((step.x != before).any(1).sum()) == 1
        before = step.x


def test_alone_keeps_the_states_of_rules_apart() -> None:
    contexts: list[RunContext] = []

    class Watching(FunctionDenoiser):
        def predict(self, x: Tensor, t: Any, cond: Cond, ctx: RunContext | None = None) -> Prediction:
            ctx.states.setdefault("rule", []).append(float(x[0, 0]))
            contexts.append(ctx)
            return super().predict(x, t, cond, ctx)

    shared = RunContext()
    build("torchdiffeq", method="euler", alone=True).sample(
        Watching(LinearPath(), MIX.denoiser(LinearPath()).fn), X[:3], ctx=shared, num_steps=4
    )
    assert [len(c.states["rule"]) for c in contexts[::4]] == [4, 4, 4] and shared.states == {}


def test_the_last_step_knows_that_it_is_the_last() -> None:
    """Also where an adaptive method took fewer or more steps than asked for."""
    for num_steps in (1, 100):
        steps = list(build("torchdiffeq").steps(MIX.denoiser(LinearPath()), X, num_steps=num_steps))
        assert steps[-1].index + 1 == steps[-1].num_steps and [s.s == 1 for s in steps] == [False] * (
            len(steps) - 1
        ) + [True]
