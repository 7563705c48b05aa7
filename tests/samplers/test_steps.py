"""What all samplers share: grids, draws by seed, known entries, run context, gradients, and refusals that say
what to do."""

import math
from typing import Any

import pytest
import torch
from mixture import Mixture, points
from torch import Tensor, nn

import samplers
from backbones import Cond, NoiseSource, RecordedNoise, RunContext
from samplers import Denoiser, EDMPath, FunctionDenoiser, LinearPath, Prediction, Sampler, VPPath, build
from samplers.heads.parameterization import noise as noise_output
from samplers.heads.parameterization import velocity as velocity_output
from samplers.paths.graph import GraphPath
from samplers.spaces.euclid import Euclid

MIX = Mixture()
PATHS = {"linear": LinearPath(), "vp": VPPath(), "edm": EDMPath()}
OURS = [
    (name, {"eta": 0.5} if name == "ddim" else {})
    for name in samplers.REGISTRY
    if name not in ("torchdiffeq", "bridge", "bridge_sde", "graph", "masked")
]  # without steps to come between, or not from noise
every_path = pytest.mark.parametrize("path", list(PATHS.values()), ids=list(PATHS))
ours = pytest.mark.parametrize("name, options", OURS, ids=[n for n, _ in OURS])


def start(path: Any, noise: NoiseSource, dim: int = 2) -> Tensor:
    return Euclid().start(noise, (dim,), scale=path.prior_scale, dtype=torch.float64)[0]


@every_path
@ours
def test_a_seed_alone_is_the_seed_in_a_batch(path: Any, name: str, options: dict[str, Any]) -> None:
    def run(seeds: Any) -> Tensor:
        noise = NoiseSource(seeds)
        return build(name, **options).sample(MIX.denoiser(path), start(path, noise), noise=noise, num_steps=7)

    together = run(range(8))
    torch.testing.assert_close(run([5]), together[5:6], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(run([7, 2]), together[[7, 2]], rtol=1e-10, atol=1e-10)
    assert float((together[5] - together[6]).abs().max()) > 1e-3


@every_path
@pytest.mark.parametrize("trained", [True, False])
@ours
def test_known_entries_come_back(path: Any, trained: bool, name: str, options: dict[str, Any]) -> None:
    """Exactly, at the end; on the way clean for networks trained with them, else at the level of the current
    time with one fixed draw."""
    model, noise = MIX.denoiser(path), NoiseSource(range(4))
    model.known_trained = trained
    known = torch.tensor([[True, False], [False, True], [True, True], [False, False]])
    given = points(4, 2, 7)
    free = build(name, **options).sample(model, start(path, noise), noise=noise, num_steps=5)
    states = [
        s
        for s in build(name, **options).steps(
            model, start(path, noise), Cond(known=known, given=given), noise, num_steps=5
        )
    ]
    x = states[-1].x
    assert torch.equal(x[known], given[known])
    torch.testing.assert_close(x[3], free[3])
    assert float((x[0, 1] - free[0, 1]).abs()) > 1e-3  # what is known changes what is not
    fixed = noise.normal((2,), stream="known", dtype=torch.float64)
    for state in states:
        c = path.coefficients(state.s)
        level = given if trained else c.alpha * given + c.sigma * fixed
        torch.testing.assert_close(state.x[known], level[known], rtol=0, atol=1e-12)


def test_known_entries_are_in_place_at_the_first_query() -> None:
    seen: list[Tensor] = []
    model = FunctionDenoiser(
        LinearPath(),
        lambda x, t, cond: (
            seen.append(x.clone()),
            Prediction("velocity", torch.zeros_like(x), x, t, LinearPath()),
        )[1],
    )
    model.known_trained = True
    given = torch.full((3, 2), 9.0, dtype=torch.float64)
    cond = Cond(known=torch.tensor([True, False]).expand(3, 2), given=given)
    build("euler").sample(model, points(3), cond, num_steps=2)
    assert all(torch.equal(x[:, 0], given[:, 0]) for x in seen) and torch.equal(
        seen[0][:, 1], points(3)[:, 1]
    )


@pytest.mark.parametrize("trained", [True, False])
def test_a_trained_denoiser_says_how_known_entries_go_in(trained: bool) -> None:
    """What the network sees at the first entries of a run is the values themselves, or the values at the
    level of that time."""
    seen: list[Tensor] = []

    class Net(nn.Module):
        def forward(self, x: Tensor, t: Tensor, cond: Cond, ctx: Any = None) -> Tensor:
            seen.append(x)
            return torch.zeros_like(x)

    path, noise, given = VPPath(), NoiseSource(range(3)), points(3, seed=4)
    model = Denoiser(Net(), path, noise_output(), known_trained=trained)
    build("ddim").sample(
        model, points(3), Cond(known=torch.ones(3, 2, dtype=torch.bool), given=given), noise, num_steps=2
    )
    fixed = noise.normal((2,), stream="known", dtype=torch.float64)
    for x, t in zip(seen, path.grid(2)):
        c = path.coefficients(t)
        torch.testing.assert_close(
            x, given if trained else c.alpha * given + c.sigma * fixed, rtol=0, atol=1e-12
        )
    assert len(seen) == 2


def test_steps_and_start() -> None:
    path, x = VPPath(), points(4)
    model = MIX.denoiser(path)
    steps = list(build("ddim").steps(model, x, num_steps=10))
    assert [(s.index, s.num_steps, s.evaluations) for s in steps] == [(i, 10, i + 1) for i in range(10)]
    assert [s.t for s in steps] + [steps[-1].s] == path.grid(10) and all(
        a.s == b.t for a, b in zip(steps, steps[1:])
    )
    rest = list(build("ddim").steps(model, steps[3].x, num_steps=10, start=4))
    assert [s.index for s in rest] == list(range(4, 10))
    torch.testing.assert_close(rest[-1].x, steps[-1].x, rtol=1e-12, atol=1e-12)


def test_stochastic_steps_have_a_page_of_noise_each() -> None:
    """Stopping and going on from a state is the whole run: the draws belong to the step, not to what was
    drawn before."""
    path, noise, x = VPPath(), NoiseSource(range(4)), points(4)
    steps = list(build("ddpm").steps(MIX.denoiser(path), x, noise=noise, num_steps=6))
    rest = build("ddpm").sample(MIX.denoiser(path), steps[2].x, noise=noise, num_steps=6, start=3)
    assert torch.equal(rest, steps[-1].x)


def test_context_tells_the_step() -> None:
    seen: list[tuple[Any, ...]] = []

    class Watching(FunctionDenoiser):
        def predict(self, x: Tensor, t: Any, cond: Cond, ctx: RunContext | None = None) -> Prediction:
            seen.append((ctx.step, ctx.num_steps, ctx.evaluation, ctx.t, ctx.t_next, float(t), ctx.accepted))
            return super().predict(x, t, cond, ctx)

    build("heun").sample(Watching(LinearPath(), MIX.denoiser(LinearPath()).fn), points(2), num_steps=2)
    assert seen == [
        (0, 2, 0, 0.0, 0.5, 0.0, True),
        (0, 2, 1, 0.0, 0.5, 0.5, False),
        (1, 2, 0, 0.5, 1.0, 0.5, True),
        (1, 2, 1, 0.5, 1.0, 1.0, False),
    ]


def test_gradients() -> None:
    """None are kept, unless x asks for them: then the sampler can be differentiated."""
    path = LinearPath()
    assert not build("heun").sample(MIX.denoiser(path), points(2), num_steps=3).requires_grad
    x = points(2).requires_grad_()
    out = build("heun").sample(MIX.denoiser(path), x, num_steps=3)
    grad = torch.autograd.grad(out[0, 0], x)[0]
    h = torch.zeros_like(x)
    h[0, 1] = 1e-6
    with torch.no_grad():
        up, down = (
            build("heun").sample(MIX.denoiser(path), x + sign * h, num_steps=3)[0, 0] for sign in (1, -1)
        )
    assert (
        float(grad[0, 1]) == pytest.approx(float(up - down) / 2e-6, rel=1e-6)
        and float(grad[1].abs().max()) == 0
    )
    assert torch.is_grad_enabled()


def test_parameters_stay_out_of_the_graph() -> None:
    net = nn.Linear(2, 2).double()

    class Net(nn.Module):
        def forward(self, x: Tensor, t: Tensor, cond: Cond, ctx: Any = None) -> Tensor:
            return net(x)

    out = build("euler").sample(Denoiser(Net(), LinearPath(), velocity_output()), points(2), num_steps=2)
    assert not out.requires_grad and out.dtype == torch.float64


def test_denoiser_runs_low_precision_and_keeps_the_dtype() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: Tensor, t: Tensor, cond: Cond, ctx: Any = None) -> Tensor:
            out = self.layer(x)
            kinds.append(out.dtype)
            return out

    kinds: list[torch.dtype] = []
    net, x = Net(), points(3).float()
    low = Denoiser(net, LinearPath(), velocity_output(), dtype=torch.bfloat16).predict(x, 0.5, Cond()).value
    full = Denoiser(net, LinearPath(), velocity_output()).predict(x, 0.5, Cond()).value
    assert kinds == [torch.bfloat16, torch.float32] and low.dtype == torch.float32
    torch.testing.assert_close(low, full, rtol=2e-2, atol=2e-2)


def test_learned_variance_scales_the_noise() -> None:
    """Heads of −1 and 1 are the two fixed variances."""
    path, x, z = VPPath(), points(4).view(4, 2, 1, 1), points(4, seed=3).view(4, 2, 1, 1)

    class Net(nn.Module):
        def __init__(self, level: float):
            super().__init__()
            self.level = level

        def forward(self, x: Tensor, t: Tensor, cond: Cond, ctx: Any = None) -> Tensor:
            return torch.cat([0.3 * x, torch.full_like(x, self.level)], dim=1)

    def run(variance: str, level: float) -> Tensor:
        model = Denoiser(Net(level), path, noise_output(variance="learned_range"))
        return build("ddpm", variance=variance).sample(
            model, x, noise=RecordedNoise({"step": [z, -z]}), num_steps=3
        )

    torch.testing.assert_close(run("learned_range", -1.0), run("fixed_small", 0.0), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(run("learned_range", 1.0), run("fixed_large", 0.0), rtol=1e-10, atol=1e-10)


def test_clipping() -> None:
    """The data prediction is bounded; ``recompute_noise`` derives the noise from the bounded one."""
    path, x = VPPath(), 3 * points(4)
    model, t, s = MIX.denoiser(path), path.time(300), path.time(100)
    c, c2, data = (
        path.coefficients(t),
        path.coefficients(s),
        MIX.denoise(x, path.coefficients(t).alpha, path.coefficients(t).sigma),
    )
    bounded = data.clamp(-0.5, 0.5)
    assert float((data - bounded).abs().max()) > 0.3
    for recompute, source in ((False, data), (True, bounded)):
        out = build("ddim", clip=0.5, recompute_noise=recompute).step(
            x, t, s, lambda x, t: model.predict(x, t, Cond()), None, []
        )
        torch.testing.assert_close(
            out, c2.alpha * bounded + c2.sigma * (x - c.alpha * source) / c.sigma, rtol=1e-10, atol=1e-10
        )


@pytest.mark.parametrize("name", ["dpmpp_1", "dpmpp_2m"])
def test_dpmpp_bounds_its_data(name: str) -> None:
    """One step towards bounded data: the exponential integrator's formula with the prediction clamped."""
    path, x = VPPath(), 3 * points(4)
    model, t, s = MIX.denoiser(path), path.time(300), path.time(100)
    c, c2 = path.coefficients(t), path.coefficients(s)
    bounded = MIX.denoise(x, c.alpha, c.sigma).clamp(-0.5, 0.5)
    out = build(name, clip=0.5).step(x, t, s, lambda x, t: model.predict(x, t, Cond()), None, [])
    torch.testing.assert_close(
        out,
        c2.sigma / c.sigma * x - (c.alpha * c2.sigma / c.sigma - c2.alpha) * bounded,
        rtol=1e-10,
        atol=1e-10,
    )


def test_refusals() -> None:
    x, model = points(2), MIX.denoiser(VPPath())
    atoms, joint = (1.0,), (((1.0, 1.0, 0.0, 0.0, 0.0),),)
    graph = FunctionDenoiser(GraphPath(atoms=atoms, joint=joint), model.fn)
    known = Cond(known=torch.ones(2, 2, dtype=torch.bool))
    for call, message in (
        (
            lambda: build("euler").sample(graph, x),
            "Euler is for models of euclid and other flat or curved spaces, got one of graph; choose graph",
        ),
        (
            lambda: build("euler", spacing="leading").sample(MIX.denoiser(LinearPath()), x),
            "spacing='leading', which applies to VP tables only",
        ),
        (
            lambda: build("dpmpp_2m", spacing="leading").sample(MIX.denoiser(EDMPath()), x),
            "leave it out on the EDM path",
        ),
        (
            lambda: build("ddim", respacing="50").sample(MIX.denoiser(LinearPath()), x),
            "needs a VP table; leave it out",
        ),
        (
            lambda: build("euler").sample(model, x, num_steps=-1),
            "got -1 steps, expected an integer of at least 1",
        ),
        (lambda: build("ddim", respacing="50").sample(model, x, num_steps=0), "got 0 steps"),
        (
            lambda: build("euler").sample(model, x, num_steps=4, start=4),
            "got start=4, expected 0 to 3 for 4 steps",
        ),
        (
            lambda: build("ddpm").sample(model, x),
            r"DDPM adds noise in its steps; pass noise=NoiseSource\(seeds\)",
        ),
        (lambda: build("ddim", eta=0.1).sample(model, x), "DDIM adds noise in its steps"),
        (
            lambda: build("ddpm", variance="learned_range").sample(model, x, noise=NoiseSource([0, 1])),
            "no variance head",
        ),
        (lambda: build("euler").sample(model, x, known), "set Cond.given beside Cond.known"),
        (
            lambda: build("euler").sample(model, x, Cond(known=known.known, given=x)),
            "re-noised for this model, which needs noise",
        ),
        (lambda: build("ddpm", variance="small"), "got variance 'small', expected one of fixed_small"),
        (lambda: build("ddim", eta=1.5), "got eta=1.5, expected 0"),
        (lambda: build("ddpm", clip=0.0), "got clip=0.0, expected a positive bound"),
        (lambda: build("eular"), "got sampler 'eular'.*did you mean 'euler'"),
        (lambda: build("ddim", etta=0.5), "unknown option 'etta'.*did you mean 'eta'"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="has no step: subclass Sampler"):
        Sampler().sample(model, x)
    assert math.isfinite(float(build("ddim").sample(model, x, num_steps=1).sum()))
