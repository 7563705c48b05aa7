"""Angles: the space, its two paths, and what the solvers make of them, against closed forms."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from wrapped import TAU, Wrapped, moment

from backbones import Cond, NoiseSource
from guidance import Guided, parse
from samplers import Batch, FunctionDenoiser, Objective, Prediction, build, build_objective, spaces
from samplers.heads.angles import Onward, WrappedNoise
from samplers.heads.plain import Target
from samplers.paths.angles import GeodesicPath, WrappedVPPath
from samplers.reparameterised import on_path
from samplers.spaces.torus import Torus, wrap

LAW = Wrapped()
EVEN = spaces.build("torus", prior="uniform")
FLAT = {  # order of each solver of a flow on a flat space, and the steps at which it shows
    "euler": (1, {}, 32),
    "ab2": (2, {}, 32),
    "midpoint": (2, {}, 16),
    "heun": (2, {}, 16),
    "rk4": (4, {}, 8),
    "torchdiffeq": (4, {"method": "rk4"}, 8),
}


def grid(n: int) -> Tensor:
    """(n, 1) even places of the circle: means over them are exact but for a tiny rest."""
    return ((torch.arange(n, dtype=torch.float64) + 0.5) * TAU / n - math.pi)[:, None]


# ---- the space ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wrapping(dtype: torch.dtype) -> None:
    """Into [−π, π) as doubles count, the same place of the circle, and what lies there keeps its bits."""
    x = torch.linspace(-30, 30, 4001, dtype=dtype)
    x = torch.cat([x, torch.tensor([math.pi, -math.pi, 3 * math.pi, 0.0], dtype=dtype)])
    y = wrap(x)
    assert float(y.double().min()) >= -math.pi and float(y.double().max()) < math.pi
    assert y.dtype == dtype and torch.equal(wrap(y), y)
    turns = (y.double() - x.double()) / TAU
    assert float((turns - turns.round()).abs().max()) < (5e-7 if dtype == torch.float32 else 1e-14)
    inside = x.double().abs() < 3.14159
    assert torch.equal(y[inside], x[inside])


def test_priors_have_their_moments() -> None:
    noise = NoiseSource(range(20000))
    for sigma in (0.5, 1.0, 2.0):
        x, _ = Torus(sigma=sigma).start(noise, (1,))
        assert abs(moment(x) - math.exp(-(sigma**2) / 2)) < 0.02
    even, _ = EVEN.start(noise, (2,))
    assert all(abs(complex(torch.exp(1j * k * even.double()).mean())) < 0.02 for k in (1, 2, 3))
    assert even.dtype == torch.float32 and float(even.abs().max()) < math.pi
    alone, _ = EVEN.start(NoiseSource([7]), (2,))
    assert torch.equal(alone[0], even[7])


def test_the_mean_way_from_the_prior() -> None:
    """Against the mean over draws; of an even prior there is none."""
    x = torch.linspace(-3.1, 3.1, 9, dtype=torch.float64)
    for space in (EVEN, Torus(), Torus(sigma=0.4), Torus(sigma=2.5)):
        draws, _ = space.start(NoiseSource(range(40000)), (), dtype=torch.float64)
        found = space.difference(x[:, None], draws).mean(1)
        torch.testing.assert_close(space.mean_way(x), found, rtol=0, atol=0.05)


def test_spaces_by_name() -> None:
    made: Any = spaces.build("torus", prior="uniform")
    assert made.name == "torus" and made.geometry == "flat" and made.prior == "uniform"
    assert spaces.build("euclid").name == "euclid"
    for options, message in (
        ({"prior": "flat"}, "got the prior 'flat' of angles, expected one of wrapped_normal, uniform"),
        ({"sigma": 0.0}, "got sigma=0.0 of the angles' prior, expected a positive number"),
        ({"prior": "uniform", "sigma": 2.0}, "got sigma=2.0 for a uniform prior, which has none"),
        ({"pior": "uniform"}, "unknown option 'pior'.*did you mean 'prior'"),
    ):
        with pytest.raises(ValueError, match=message):
            spaces.build("torus", **options)


def test_the_objective_and_the_model_are_on_the_space_that_is_asked_for() -> None:
    for space in (EVEN, {"name": "torus", "prior": "uniform"}):
        found = build_objective("geodesic", space=space)
        assert found.space.prior == found.path.space.prior == "uniform"  # type: ignore[attr-defined]
        assert Objective(GeodesicPath(), Target("velocity"), space=space).path.space.prior == "uniform"
    plain = build_objective("geodesic", space="torus").path
    assert plain.space == "torus" and plain.same_as(GeodesicPath())
    assert not found.path.same_as(plain)
    with pytest.raises(ValueError, match="got another prior on the path wrapped_vp"):
        build_objective("wrapped_vp", "noise", space={"name": "torus", "prior": "uniform"})
    with pytest.raises(
        ValueError, match="got the space torus on the path LinearPath, whose law is on euclid"
    ):
        build_objective("linear", space={"name": "torus"})


# ---- the geodesic path ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", FLAT)
def test_order_of_convergence(name: str) -> None:
    """Twice the steps, 2^order less of an error, on starts from all about the circle."""
    path, (order, options, steps), x = GeodesicPath().on(EVEN), FLAT[name], grid(32)
    model = LAW.flow(path)
    exact = build("rk4").sample(model, x, num_steps=96)

    def error(n: int) -> float:
        found = build(name, **options).sample(model, x, num_steps=n)
        return float(EVEN.difference(found, exact).square().mean().sqrt())

    coarse, fine = error(steps), error(2 * steps)
    assert abs(math.log2(coarse / fine) - order) < 0.35, (coarse, fine)


@pytest.mark.parametrize("says", ["velocity", "data"])
@pytest.mark.parametrize("name", FLAT)
def test_a_wrapped_normal_law_comes_back(name: str, says: str) -> None:
    """In its mean direction and resultant length, across the seam, whatever the network says; where the data
    are known at the end, the last slope is the mean way from the prior."""
    path, x = GeodesicPath().on(EVEN), grid(64)
    order, options, steps = FLAT[name]
    found = build(name, **options).sample(LAW.flow(path, says), x, num_steps=steps)
    assert abs(moment(found) - LAW.moment) < {1: 0.03, 2: 0.004, 4: 0.0005}[order]
    assert float(found.abs().max()) <= math.pi


def test_from_a_wrapped_normal_prior_too() -> None:
    path = GeodesicPath().on(Torus(sigma=0.8))
    z = torch.special.ndtri((torch.arange(400, dtype=torch.float64) + 0.5) / 400)[:, None]
    found = build("heun").sample(LAW.flow(path), wrap(0.8 * z), num_steps=24)
    assert abs(moment(found) - LAW.moment) < 0.01


def test_states_lie_on_the_shortest_way_and_predictions_agree() -> None:
    path, noise = GeodesicPath().on(EVEN), NoiseSource(range(64))
    data, (source, _) = wrap(3 + 0.5 * noise.normal((3,), stream="data").double()), EVEN.start(noise, (3,))
    t = noise.uniform(stream="t", dtype=torch.float64)
    pairs: Any = type("Pairs", (), {"source": source.double(), "data": data, "cond": Cond()})
    state = path.state(EVEN, pairs, t, noise)
    way = state.targets["velocity"]
    assert float(way.abs().max()) <= math.pi
    on_the_way = EVEN.difference(state.x, source.double())
    torch.testing.assert_close(on_the_way, t[:, None] * way)
    seen = Prediction("velocity", way, state.x, t, path)
    assert float(EVEN.difference(seen.to("data"), data).abs().max()) < 1e-12
    back = seen.with_("data", seen.to("data")).to("velocity")
    torch.testing.assert_close(back, way, rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="from which noise does not follow on this path"):
        seen.to("noise")


class Constant(torch.nn.Module):
    def __init__(self, value: float):
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(value))

    def forward(self, x: Tensor, t: Tensor, cond: Any = None, ctx: Any = None) -> Tensor:
        return self.value.expand_as(x)


HEADS: dict[str, Any] = {
    "velocity": (GeodesicPath().on(EVEN), Target("velocity")),
    "data": (GeodesicPath().on(EVEN), Onward()),
    "noise": (WrappedVPPath(schedule="cosine"), WrappedNoise()),
}


@pytest.mark.parametrize("head", HEADS)
def test_turns_of_the_data_change_nothing(head: str) -> None:
    """The loss of data, and of the same by whole turns of the circle, and what is predicted of it."""
    path, parameterization = HEADS[head]
    objective, net = Objective(path, parameterization), Constant(0.7)
    noise = NoiseSource(range(32))
    data = wrap(3 * noise.normal((2,), stream="data", dtype=torch.float64))
    turns = noise.uniform((2,), stream="turns", dtype=torch.float64).mul(9).floor() - 4
    a, b = (objective.loss(net, Batch(d), noise).per_sample for d in (data, wrap(data + TAU * turns)))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    single, turned = data.float(), wrap(data + TAU * turns).float()
    assert torch.equal(single, turned)  # as training sees them: to the bit


@pytest.mark.parametrize("head", HEADS)
def test_known_angles_are_not_learned(head: str) -> None:
    path, parameterization = HEADS[head]
    objective, net, noise = Objective(path, parameterization), Constant(0.7), NoiseSource(range(8))
    data = EVEN.start(noise, (2,), stream="data")[0]
    known = torch.tensor([True, False]).expand(8, 2)
    half, t = objective.loss(net, Batch(data, Cond(known=known)), noise), torch.full((8,), 0.5)
    assert bool((half.per_sample > 0).all())
    state = objective.state(objective.sample_pairs(Batch(data, Cond(known=known)), noise), t, noise)
    assert torch.equal(state.x[:, 0], data[:, 0]) and not torch.equal(state.x[:, 1], data[:, 1])
    whole = objective.loss(net, Batch(data, Cond(known=torch.ones_like(known))), noise)
    assert not whole.per_sample.any()


# ---- the wrapped path -----------------------------------------------------------------------------


@pytest.mark.parametrize("name, options", [("ddpm", {}), ("ddim", {}), ("ddim", {"eta": 1.0})])
def test_the_wrapped_path_gives_back_moments(name: str, options: dict[str, Any]) -> None:
    """Mean direction and resultant length, of data that keeps off the seam as the published angles do, and
    every state lies in [−π, π)."""
    law, path, noise = Wrapped(0.8, 0.5), WrappedVPPath(schedule="cosine", num=200), NoiseSource(range(4000))
    x, _ = Torus().start(noise, (1,), dtype=torch.float64)
    for step in build(name, **options).steps(law.noise(path), x, noise=noise, num_steps=100):
        assert float(step.x.abs().max()) < math.pi
    assert abs(moment(step.x) - law.moment) < 0.03


def test_wrapped_states_and_the_published_loss() -> None:
    """x = wrap(√ᾱ data + √(1 − ᾱ) noise), and the smooth L1 loss of the difference on the circle."""
    path, noise = WrappedVPPath(schedule="cosine"), NoiseSource(range(16))
    objective = build_objective({"name": "wrapped_vp", "schedule": "cosine"}, "noise")
    assert isinstance(objective.parameterization, WrappedNoise)
    data, t = EVEN.start(noise, (2,), stream="data")[0], path.even(noise.uniform(stream="t").double())
    pairs = objective.sample_pairs(Batch(data), noise)
    state, c = objective.state(pairs, t, noise), path.coefficients(t)
    straight = c.alpha[:, None] * data + c.sigma[:, None] * pairs.source
    torch.testing.assert_close(state.x.double(), wrap(straight), rtol=0, atol=1e-5)
    gap = wrap(0.7 - pairs.source).abs()
    beta = 0.1 * math.pi
    expected = torch.where(gap < beta, gap**2 / (2 * beta), gap - beta / 2).mean(1)
    found = objective.loss(Constant(0.7), Batch(data), noise, t=t, pairs=pairs).per_sample
    torch.testing.assert_close(found, expected)
    plain = Objective(path, WrappedNoise(beta=0.0)).loss(Constant(0.7), Batch(data), noise, t=t, pairs=pairs)
    torch.testing.assert_close(plain.per_sample, gap.square().mean(1))
    with pytest.raises(ValueError, match="got beta=-1.0 of the loss, expected radians from 0"):
        WrappedNoise(beta=-1.0)


# ---- refusals -------------------------------------------------------------------------------------


def test_what_follows_a_flow_does_not_step_the_wrapped_path() -> None:
    model, x, noise = Wrapped().noise(WrappedVPPath()), torch.zeros(2, 1), NoiseSource([0, 1])
    with pytest.raises(ValueError, match="Heun follows the flow of a path, got WrappedVPPath of torus"):
        build("heun").sample(model, x, noise=noise)
    with pytest.raises(ValueError, match="got the path TrigPath for a model on WrappedVPPath, whose states"):
        on_path(model, "trig")


@pytest.mark.parametrize(
    "line, message",
    [
        (
            "apg(scale=2.0)",
            "got APG in the space data for a model of torus, where only velocity can be added",
        ),
        ("tcfg,cfg=2.0", "got Tangential in the space noise for a model of torus"),
        ("cfg=2.0,interval_sigma=0.1:1", "GeodesicPath has no factors of data and noise, and so no levels"),
    ],
)
def test_rules_that_add_angles_are_refused(line: str, message: str) -> None:
    path = GeodesicPath()
    model = FunctionDenoiser(path, lambda x, t, c: Prediction("velocity", torch.zeros_like(x), x, t, path))
    with pytest.raises(ValueError, match=message):
        Guided(model, parse(line))
    Guided(model, parse("cfg=2.0,interval=0.1:0.9"))


def test_padding_stays_at_zero() -> None:
    """In starts, steps and the loss; without padding nothing changes."""
    valid = torch.arange(5) < torch.tensor([3, 5])[:, None]
    for space in (Torus(), Torus(prior="uniform")):
        x, _ = space.start(NoiseSource([3, 4]), (5, 2), Cond(valid=valid))
        plain, _ = space.start(NoiseSource([3, 4]), (5, 2))
        assert torch.equal(x, plain * valid[..., None]) and not x[0, 3:].any()
        assert torch.equal(
            space.project(plain + TAU, Cond(valid=valid)), wrap(plain + TAU) * valid[..., None]
        )
        error = torch.ones(2, 5, 2)
        error[0, 3:] = 100
        assert space.reduce(error, Cond(valid=valid)).tolist() == [1, 1]
