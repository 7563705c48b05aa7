"""Bridges against the closed form between Gaussians: conversions, regression targets, solvers, and the table
of I²SB."""

import math
from typing import Any

import pytest
import torch
from thinned import thinned
from torch import Tensor

from backbones import Cond, NoiseSource, RunContext
from samplers import Batch, build, build_objective
from samplers.gaussian_bridge import GaussianBridge, root
from samplers.paths.bridge import BrownianBridge, I2SBPath
from samplers.solvers.bridge import Reversed

CASES = [f"d{d}.eps{e}" for d in (1, 2, 5) for e in ("0.1", "1", "5")]


def bridge_of(golden: Any, case: str) -> tuple[GaussianBridge, dict[str, Tensor]]:
    tensors, _ = golden("gaussian_sb")
    own = {k.removeprefix(f"{case}."): v.double() for k, v in tensors.items() if k.startswith(f"{case}.")}
    eps = float(case.partition("eps")[2])
    return GaussianBridge(own["a"], own["A"], own["b"], own["B"], sigma=math.sqrt(eps)), own


def example(d: int = 2, sigma: float = 0.8) -> GaussianBridge:
    make = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, d, generator=make, dtype=torch.float64)
    m, n = torch.randn(2, d, d, generator=make, dtype=torch.float64)
    eye = torch.eye(d, dtype=torch.float64)
    return GaussianBridge(a, 0.3 * m @ m.mT + 0.4 * eye, b, 0.3 * n @ n.mT + 0.4 * eye, sigma=sigma)


def draw(bridge: GaussianBridge, count: int, which: str = "source") -> tuple[Tensor, NoiseSource]:
    noise = NoiseSource(range(count))
    mean, cov = (bridge.a, bridge.A) if which == "source" else (bridge.b, bridge.B)
    return mean + noise.normal((len(mean),), stream="start", dtype=torch.float64) @ root(cov), noise


@pytest.mark.parametrize("case", CASES)
def test_the_closed_form_is_the_recorded_one(golden: Any, case: str) -> None:
    bridge, own = bridge_of(golden, case)
    torch.testing.assert_close(bridge.cross, own["C"], rtol=1e-9, atol=1e-9)
    for i, t in enumerate(own["t"].tolist()):
        t = round(t, 6)
        torch.testing.assert_close(bridge.mean(t), own["mean_t"][i], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(bridge.cov(t), own["Sigma_t"][i], rtol=1e-9, atol=1e-9)
        p = bridge.predict(own["x_probe"], t, Cond())
        for space, key in (("drift", "drift_fwd"), ("backward", "drift_bwd"), ("velocity", "pf_velocity")):
            torch.testing.assert_close(p.to(space), own[key][i], rtol=1e-9, atol=1e-9)


def test_every_space_agrees_with_every_other() -> None:
    bridge = example(3)
    for t in (0.2, 0.5, 0.9):
        x = torch.randn(6, 3, dtype=torch.float64)
        p = bridge.predict(x, t, Cond())
        source, data = bridge.ends(x, t)
        torch.testing.assert_close(p.to("data"), data, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(p.to("source"), source, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            p.to("score"),
            -torch.linalg.solve(bridge.cov(t), (x - bridge.mean(t)).mT).mT,
            rtol=1e-9,
            atol=1e-9,
        )
        for space in ("data", "source"):
            one = type(p)(space, p.to(space), x, t, p.path)
            side = "drift" if space == "data" else "backward"
            torch.testing.assert_close(one.to(side), p.to(side), rtol=1e-9, atol=1e-9)
            with pytest.raises(ValueError, match="predicts .* only, from which velocity does not follow"):
                one.to("velocity")


def test_a_bridge_is_pinned_with_variance_sigma2_t_1mt() -> None:
    objective = build_objective({"name": "brownian", "sigma": 0.7}, "drift", "paired")
    n, source, data = 20000, torch.zeros(20000, 1), torch.full((20000, 1), 2.0)
    pairs = objective.sample_pairs(Batch(data, source=source), NoiseSource(range(n)))
    for t in (0.1, 0.5, 0.8):
        x = objective.state(pairs, torch.full((n,), t), NoiseSource(range(n))).x
        assert abs(float(x.mean()) - 2 * t) < 0.02 and abs(float(x.var()) - 0.49 * t * (1 - t)) < 0.01


@pytest.mark.parametrize("head", ["data", "drift", "velocity", "flow_score"])
@pytest.mark.parametrize("t", [0.15, 0.5, 0.9])
def test_targets_regress_to_the_exact_fields(head: str, t: float) -> None:
    """Pairs of the closed form: least squares of each head's target on x gives the closed form's field."""
    bridge, n = example(2), 60000
    noise = NoiseSource(range(n))
    joint = torch.cat([torch.cat([bridge.A, bridge.cross], 1), torch.cat([bridge.cross.mT, bridge.B], 1)])
    both = torch.cat([bridge.a, bridge.b]) + noise.normal((4,), stream="pair", dtype=torch.float64) @ root(
        joint
    )
    objective = build_objective({"name": "brownian", "sigma": bridge.sigma}, head, "paired")
    kept: dict[str, Tensor] = {}

    def net(x: Tensor, clock: Tensor, cond: Cond, ctx: RunContext | None = None) -> Tensor:
        kept["x"] = x
        assert float(clock[0]) == pytest.approx(1000 * t)
        return torch.zeros(len(x), 2 * objective.parameterization.channels, dtype=x.dtype)

    batch = Batch(both[:, 2:], source=both[:, :2])
    pairs = objective.sample_pairs(batch, noise)
    state = objective.state(pairs, torch.full((n,), t, dtype=torch.float64), noise)
    x = state.x
    p = objective.predict(net, state)
    targets = [-gap for _, gap, _ in objective.parameterization.differences(p, state)]
    exact = bridge.predict(x, t, Cond())
    want = {"data": [exact.to("data")], "drift": [exact.to("drift")], "velocity": [exact.to("velocity")]}.get(
        head, [exact.to("velocity"), exact.heads["half_score"]]
    )
    design = torch.cat([x, torch.ones(n, 1, dtype=x.dtype)], 1)
    for target, truth in zip(targets, want):
        fitted = design @ torch.linalg.lstsq(design, target).solution
        assert float((fitted - truth).square().mean().sqrt()) < 0.03 * max(1.0, float(target.std()))


@pytest.mark.parametrize("name, options, order", [("heun", {}, 2), ("euler", {}, 1), ("rk4", {}, 4)])
def test_the_flow_of_a_bridge_converges_at_its_order(name: str, options: dict[str, Any], order: int) -> None:
    bridge = example(2)
    x, _ = draw(bridge, 64)
    truth = build("rk4").sample(bridge.denoiser(), x, num_steps=400)
    errors = [
        float((build(name, **options).sample(bridge.denoiser(), x, num_steps=n) - truth).norm())
        for n in (8, 16, 32)
    ]
    for coarse, fine in zip(errors, errors[1:]):
        assert coarse / fine == pytest.approx(2**order, rel=0.35)
    ends = torch.cov(truth.mT)
    assert ends.shape == (2, 2)


def test_the_sde_converges_at_weak_order_1() -> None:
    """Mean and covariance of Euler–Maruyama on a linear drift, carried without sampling."""
    bridge = example(2)
    errors = []
    for n in (20, 40, 80):
        mean, cov = bridge.a.clone(), bridge.A.clone()
        for i in range(n):
            t, h = i / n, 1 / n
            zero = torch.zeros(1, 2, dtype=torch.float64)
            base = bridge.predict(zero, t, Cond()).to("drift")[0]
            gain = torch.stack(
                [
                    bridge.predict(e[None], t, Cond()).to("drift")[0] - base
                    for e in torch.eye(2, dtype=torch.float64)
                ],
                1,
            )
            step = torch.eye(2, dtype=torch.float64) + h * gain
            mean, cov = (
                step @ mean + h * base,
                step @ cov @ step.mT + h * bridge.sigma**2 * torch.eye(2, dtype=torch.float64),
            )
        errors.append(float((cov - bridge.B).norm() / bridge.B.norm()))
    assert (
        errors[0] / errors[1] == pytest.approx(2, rel=0.2)
        and errors[1] / errors[2] == pytest.approx(2, rel=0.2)
        and errors[2] < 0.05
    )


@pytest.mark.parametrize("name, backward", thinned(2, ["bridge", "bridge_sde"], [False, True]))
def test_sampling_reproduces_ends_and_pairing(name: str, backward: bool) -> None:
    bridge, n = example(2), 8000
    x, noise = draw(bridge, n, "data" if backward else "source")
    model = Reversed(bridge.denoiser()) if backward else bridge.denoiser()
    y = build(name).sample(model, x, noise=noise, num_steps=150)
    mean, cov, cross = (
        (bridge.a, bridge.A, bridge.cross.mT) if backward else (bridge.b, bridge.B, bridge.cross)
    )
    both = torch.cov(torch.cat([x, y], 1).mT)
    assert float((y.mean(0) - mean).abs().max()) < 0.03
    assert float((both[2:, 2:] - cov).norm() / cov.norm()) < 0.05
    assert float((both[:2, 2:] - cross).norm() / cross.norm()) < 0.06


@pytest.mark.parametrize(
    "name, num_steps, backward",
    thinned(3, ["bridge", "bridge_sde", "euler", "heun", "rk4", "midpoint", "ab2"], [1, 2, 3], [False, True]),
)
def test_few_steps_are_finite(name: str, num_steps: int, backward: bool) -> None:
    bridge = example(2)
    x, noise = draw(bridge, 16, "data" if backward else "source")
    model = Reversed(bridge.denoiser()) if backward else bridge.denoiser()
    steps = list(build(name).steps(model, x.float(), noise=noise, num_steps=num_steps))
    assert (
        steps[-1].s == 1.0 and bool(torch.isfinite(steps[-1].x).all()) and float(steps[-1].x.abs().max()) < 20
    )


def test_the_probability_flow_is_half_the_difference_of_the_drifts() -> None:
    p = example(2).predict(torch.randn(5, 2, dtype=torch.float64), 0.3, Cond())
    torch.testing.assert_close(p.to("velocity"), (p.to("drift") - p.to("backward")) / 2)


def test_the_table_of_i2sb() -> None:
    """Its published sums: 1,000 betas of .141 in all, standard deviation .3755 ahead of the last entry;
    symmetric; no beta is lost."""
    path = I2SBPath()
    assert path.total == pytest.approx(0.141, abs=5e-4) and math.sqrt(path.total) == pytest.approx(
        0.3755, abs=5e-5
    )
    t = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    torch.testing.assert_close(path.share(t) + path.share(1 - t), torch.ones_like(t))
    a, b, s = path.marginal(torch.tensor([0.5], dtype=torch.float64))
    assert float(a + b) == pytest.approx(1) and float(s) == pytest.approx(math.sqrt(path.total) / 2, rel=3e-3)
    assert path.grid(4)[0] == 0.0 and path.grid(4)[-1] == 1.0 and float(path.network_time(0.0)) == 999


@pytest.mark.parametrize("num_steps", [1, 2, 5, 50])
def test_i2sb_with_the_exact_data_ends_on_it(num_steps: int) -> None:
    """A prediction that knows the data brings every source to it; the law of what lies between is the
    bridge's."""
    from samplers.denoiser import FunctionDenoiser
    from samplers.prediction import Prediction

    path, n = I2SBPath(), 4000
    data, source = torch.full((n, 1), 0.5, dtype=torch.float64), torch.full((n, 1), -1.0, dtype=torch.float64)
    model = FunctionDenoiser(path, lambda x, t, cond: Prediction("data", data, x, t, path))
    model.starts = "source"
    steps = list(build("bridge").steps(model, source, noise=NoiseSource(range(n)), num_steps=num_steps))
    assert torch.equal(steps[-1].x, data)
    for step in steps[:-1]:
        m = float(path.share(step.s))
        assert abs(float(step.x.mean()) - (m * 0.5 - (1 - m))) < 0.02
        assert abs(float(step.x.std()) - path.sigma * math.sqrt(m * (1 - m))) < 0.02


def test_known_entries_are_clean_and_left_out_of_the_loss() -> None:
    objective = build_objective("i2sb", "displacement", "paired")
    known = torch.zeros(4, 1, 6, 6, dtype=torch.bool)
    known[..., :3] = True
    data, source = torch.randn(4, 1, 6, 6), torch.randn(4, 1, 6, 6)
    seen: list[Tensor] = []

    def net(x: Tensor, t: Tensor, cond: Cond, ctx: RunContext | None = None) -> Tensor:
        seen.append(x)
        out = torch.zeros_like(x)
        out[..., :3] = 1e6  # what it says of known entries does not matter
        return out

    loss = objective.loss(net, Batch(data, Cond(known=known), source), NoiseSource(range(4)))
    assert torch.equal(seen[0][..., :3], data[..., :3]) and float(loss.per_sample.max()) < 1e4


def test_the_network_reads_the_source_beside_x_where_it_is_told_to() -> None:
    objective = build_objective("i2sb", {"name": "displacement", "cond_source": True}, "paired")
    data, source = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)

    def net(x: Tensor, t: Tensor, cond: Cond, ctx: RunContext | None = None) -> Tensor:
        assert x.shape == (3, 4, 4, 4) and torch.equal(x[:, 2:], source)
        return x[:, :2]

    objective.loss(net, Batch(data, source=source), NoiseSource(range(3)))
    with pytest.raises(ValueError, match="reads the source beside x"):
        objective.parameterization.predict(net, data, 0.5, Cond(), objective.path)


def test_entropic_pairs_take_the_temperature_of_their_reference() -> None:
    assert build_objective(
        {"name": "brownian", "sigma": 0.5}, "flow_score", "sinkhorn"
    ).coupling.reg == pytest.approx(0.5)
    assert (
        build_objective(
            {"name": "brownian", "sigma": 0.5}, "flow_score", {"name": "sinkhorn", "reg": 3.0}
        ).coupling.reg
        == 3.0
    )


@pytest.mark.parametrize("sigma", [0.7, 1.0])
def test_the_weighting_of_sf2m(sigma: float) -> None:
    """‖v − u‖² + ‖λ s + z‖² with λ = 2σ_t/σ², s the half score: by hand, and not the default."""

    def net(x: Tensor, t: Tensor, cond: Cond, ctx: RunContext | None = None) -> Tensor:
        return torch.cat([0.3 * x + 1, 0.5 * x.sin() - 1], 1)

    path = {"name": "brownian", "sigma": sigma}
    ours, plain = (
        build_objective(path, "flow_score", "paired", weight="sf2m"),
        build_objective(path, "flow_score", "paired"),
    )
    x, noise = (
        torch.randn(2, 16, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
        NoiseSource(range(16)),
    )
    batch, t = Batch(x[1], source=x[0]), torch.linspace(0.1, 0.9, 16, dtype=torch.float64)
    z, m = noise.normal((3,), stream="jitter", dtype=torch.float64), t[:, None]
    spread = sigma * (m * (1 - m)).sqrt()
    v, s = net(m * x[1] + (1 - m) * x[0] + spread * z, t, Cond()).chunk(2, 1)
    u = x[1] - x[0] + sigma * (1 - 2 * m) / (2 * (m * (1 - m)).sqrt()) * z
    wanted = ((v - u) ** 2 + (2 * spread / sigma**2 * s + z) ** 2).mean(1)
    torch.testing.assert_close(
        ours.loss(net, batch, noise, t=t).per_sample.double(), wanted, rtol=1e-5, atol=1e-6
    )
    assert float((plain.loss(net, batch, noise, t=t).per_sample - wanted).abs().max()) > 0.1


def test_refusals() -> None:
    bridge = example(2)
    x, noise = draw(bridge, 4)
    for call, message in (
        (
            lambda: build("ddpm").sample(bridge.denoiser(), x, noise=noise),
            "DDPM is for models that start from noise, got one that starts from source; choose bridge",
        ),
        (lambda: build("bridge").sample(bridge.denoiser(), x), "adds noise in its steps; pass noise"),
        (
            lambda: build("bridge").sample(bridge.denoiser(), x, noise=noise, num_steps=0),
            "got 0 steps, expected an integer of at least 1",
        ),
        (lambda: BrownianBridge(sigma=-1), "got sigma=-1, expected 0 or more"),
        (lambda: I2SBPath(steps=7), "expected an even number of steps"),
        (lambda: I2SBPath().grid(2000), "got 2000 steps, expected at most the table's 1000"),
        (
            lambda: build_objective("brownian", "velocity", "paired").loss(None, Batch(x), noise),
            "got a batch without a source, expected pairs",
        ),
        (lambda: build_objective("brownian", "velocty", "paired"), "did you mean 'velocity'"),
        (
            lambda: build_objective("brownian", "velocity", weight="edm"),
            "expected one of inverse_variance, sf2m, uniform",
        ),
        (
            lambda: build_objective("brownian", "velocity", weight="sf2m"),
            "weighs a flow and a score.* predict flow_score",
        ),
        (lambda: GaussianBridge(bridge.a, 0 * bridge.A, bridge.b, bridge.B), "not positive definite"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
