"""diffusers' schedulers behind the sampler's interface: recorded steps, our own solvers on the same times,
laws, draws by seed, refusals."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from mixture import Mixture, gaussian, points
from thinned import thinned
from torch import Tensor

from backbones import NoiseSource, RecordedNoise
from samplers import EDMPath, FunctionDenoiser, LinearPath, Prediction, TrigPath, VPPath, build
from samplers.solvers.base import Sampler
from samplers.solvers.from_diffusers import KNOWN
from samplers.solvers.schedulers import new

MIX, X = Mixture(), points(16)
PATHS = {"linear": LinearPath(), "trig": TrigPath(), "vp": VPPath(), "edm": EDMPath()}


class On(Sampler):
    """Another sampler on given times."""

    def __init__(self, inner: Sampler, times: list[float]):
        super().__init__()
        self.inner, self.given, self.begin = inner, times, inner.begin

    def times(self, path: Any, num_steps: int) -> list[float]:
        return self.given

    def step(self, *arguments: Any) -> Tensor:
        return self.inner.step(*arguments)


def ours(name: str, times: list[float], path: Any, x: Tensor, **options: Any) -> Tensor:
    return On(build(name, **options), times).sample(MIX.denoiser(path), x, num_steps=len(times) - 1)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "cosine"])
@pytest.mark.parametrize("clip", ["clip", "noclip"])
@pytest.mark.parametrize("eta", ["0", "0.5", "1"])
def test_recorded_ddim_steps(golden: Callable[[str], Any], schedule: str, clip: str, eta: str) -> None:
    """Single steps of a twenty-step run with the recorded network output and noise, through the whole
    adapter."""
    g, path = golden("scheduler_steps")[0], VPPath(schedule=schedule)
    sampler = build(
        "diffusers", scheduler="DDIMScheduler", eta=float(eta), clip_sample=clip == "clip", spacing="leading"
    )
    times = sampler.times(path, 20)
    for k in (950, 500, 0):
        i = times.index(path.time(k))
        history = sampler.begin(path, times, i)
        noise = RecordedNoise({"step": [g["in.noise"]]})
        out = sampler.step(
            g["in.sample"],
            times[i],
            times[i + 1],
            lambda x, t: Prediction("noise", g["in.model_eps"], x, t, path),
            noise,
            history,
        )
        recorded = g[f"ddim.{schedule}.eta{eta}.{clip}.n20.t{k}.prev"]
        assert float((out - recorded).abs().max() / recorded.abs().max()) < 3e-5, k


@pytest.mark.parametrize(
    "case",
    [
        "fixed_small.noclip.epsilon",
        "fixed_large.noclip.epsilon",
        "learned_range.noclip.epsilon",
        "fixed_small.clip.epsilon",
    ],
)
def test_recorded_ddpm_last_steps(golden: Callable[[str], Any], case: str) -> None:
    """The step without noise, learned variances included."""
    g, path = golden("scheduler_steps")[0], VPPath()
    variance, clip, _ = case.split(".")
    sampler = build(
        "diffusers",
        scheduler="DDPMScheduler",
        variance_type=variance,
        clip_sample=clip == "clip",
        spacing="leading",
    )
    times = sampler.times(path, 20)
    heads = {"variance": g["in.model_var"]}
    out = sampler.step(
        g["in.sample"],
        times[-2],
        1.0,
        lambda x, t: Prediction("noise", g["in.model_eps"], x, t, path, heads),
        NoiseSource(range(4)),
        sampler.begin(path, times, 19),
    )
    recorded = g[f"ddpm.linear.{case}.n20.t0.prev"]
    assert float((out - recorded).abs().max() / recorded.abs().max()) < 3e-5


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_is_ours(spacing: str) -> None:
    for schedule in ("linear", "cosine"):
        path = VPPath(schedule=schedule)
        theirs = build("diffusers", scheduler="DDIMScheduler", spacing=spacing)
        assert theirs.times(path, 10) == build("ddim", spacing=spacing).times(path, 10)
        a, b = (
            s.sample(MIX.denoiser(path), X, num_steps=10) for s in (theirs, build("ddim", spacing=spacing))
        )
        torch.testing.assert_close(a, b, rtol=0, atol=2e-4)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_dpm_solver_is_ours(spacing: str) -> None:
    """Orders 1 and 2, midpoint form; fifteen steps or more, where it does not lower its order before the
    end."""
    path = VPPath()
    for name, order in (("dpmpp_1", 1), ("dpmpp_2m", 2)):
        theirs = build("diffusers", solver_order=order, spacing=spacing)
        assert theirs.times(path, 20) == pytest.approx(
            build(name, spacing=spacing).times(path, 20), abs=1e-12
        )
        a, b = (s.sample(MIX.denoiser(path), X, num_steps=20) for s in (theirs, build(name, spacing=spacing)))
        torch.testing.assert_close(a, b, rtol=0, atol=3e-4)


OURS: list[tuple[str, str, str]] = [  # and the paths on which they are the same
    ("EulerDiscreteScheduler", "ddim", "linear trig vp edm"),
    ("HeunDiscreteScheduler", "edm_heun", "vp edm"),
    ("EDMEulerScheduler", "ddim", "linear trig vp edm"),
    ("DPMSolverMultistepScheduler", "dpmpp_2m", "linear trig vp edm"),
    ("FlowMatchEulerDiscreteScheduler", "ddim", "linear"),
    ("DDIMScheduler", "ddim", "linear trig vp edm"),
    ("FlowMatchHeunDiscreteScheduler", "heun", "linear"),
    ("EDMDPMSolverMultistepScheduler", "dpmpp_2m", "linear trig vp edm"),
]


@pytest.mark.parametrize("case, where", thinned(2, OURS, list(PATHS)), ids=str)
def test_on_every_path_it_is_our_solver_on_its_times(case: tuple[str, str, str], where: str) -> None:
    """Euler in sigma is DDIM; a flow scheduler's Euler in t is ours on the linear path."""
    (scheduler, name, on), path = case, PATHS[where]
    if where not in on.split():
        pytest.skip("steps in the time of another path, or leaps that ours goes without")
    theirs = build("diffusers", scheduler=scheduler)
    times = theirs.times(path, 20)
    x = path.prior_scale * X
    a = theirs.sample(MIX.denoiser(path), x, num_steps=20)
    b = ours("euler" if "FlowMatchEuler" in scheduler else name, times, path, x)
    torch.testing.assert_close(a, b, rtol=0, atol=2e-3 if where == "edm" else 5e-4)


def test_edm_schedulers_take_the_grid_of_the_path() -> None:
    path = EDMPath(sigma_min=0.01, sigma_max=20.0)
    assert build("diffusers", scheduler="EDMEulerScheduler").times(path, 12) == pytest.approx(
        path.grid(12), rel=1e-5
    )
    a = build("diffusers", scheduler="EDMEulerScheduler").sample(MIX.denoiser(path), 20 * X, num_steps=12)
    torch.testing.assert_close(
        a, build("euler").sample(MIX.denoiser(path), 20 * X, num_steps=12), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("scheduler", sorted(KNOWN))
def test_every_scheduler_reaches_the_data(scheduler: str) -> None:
    """Mean and spread of a Gaussian from its exact model; deterministic ones carry each point to its
    place."""
    n, m, std, path = 600, 0.7, 0.5, LinearPath()
    noise, sampler = NoiseSource(range(n)), build("diffusers", scheduler=scheduler)
    z = noise.normal((1,), stream="prior", dtype=torch.float64)
    c = path.coefficients(sampler.times(path, 50)[0])
    x = sampler.sample(
        gaussian(m, std).denoiser(path),
        c.alpha * m + (c.alpha**2 * std**2 + c.sigma**2).sqrt() * z,
        noise=noise,
        num_steps=50,
    )
    if scheduler == "LCMScheduler":  # for models distilled to it; of others it keeps the mean
        assert float(x.mean()) == pytest.approx(m, abs=0.05)
    elif sampler.draws:
        assert float(x.mean()) == pytest.approx(m, abs=0.05) and float(x.std()) == pytest.approx(
            std, rel=0.12
        )
    else:
        torch.testing.assert_close(x, m + std * z, rtol=0, atol=0.12)


@pytest.mark.parametrize("scheduler", sorted(KNOWN))
def test_it_is_as_the_library_makes_it(scheduler: str) -> None:
    """Once its steps are set, whatever steps it was made with."""
    import diffusers

    kind = getattr(diffusers, scheduler)
    accepts = inspect.signature(kind.__init__).parameters
    betas = {"num_train_timesteps": 50, "trained_betas": np.linspace(1e-3, 0.2, 50).tolist()}
    options = {k: v for k, v in betas.items() if k in accepts}
    theirs, mine = kind(**options), new(kind, options)
    for made in (theirs, mine):
        made.set_timesteps(7)
    assert type(mine) is kind and vars(mine).keys() == vars(theirs).keys()
    for name, value in vars(theirs).items():
        if isinstance(value, Tensor | np.ndarray):
            np.testing.assert_array_equal(vars(mine)[name], value, name)
        elif not callable(value):
            assert vars(mine)[name] == value, name


@pytest.mark.parametrize("scheduler", sorted(k for k in KNOWN if KNOWN[k][1]))
def test_tables_that_end_in_pure_noise(scheduler: str) -> None:
    """The first step from where the noise says nothing of the data is finite."""
    x = build(
        "diffusers",
        scheduler=scheduler,
        spacing="trailing" if "LCM" not in scheduler and "TCD" not in scheduler else None,
    ).sample(MIX.denoiser(VPPath(zero_snr=True)), X, noise=NoiseSource(range(16)), num_steps=10)
    assert bool(torch.isfinite(x).all()) and float(x.abs().max()) < 8
    with pytest.raises(ValueError, match="can't start from a table that ends in pure noise"):
        build("diffusers", scheduler="HeunDiscreteScheduler").sample(MIX.denoiser(VPPath(zero_snr=True)), X)


RANDOM = [
    ("DDPMScheduler", {}),
    ("DDIMScheduler", {"eta": 1.0}),
    ("EulerAncestralDiscreteScheduler", {}),
    ("EulerDiscreteScheduler", {"s_churn": 5.0}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    ("SASolverScheduler", {}),
    ("TCDScheduler", {}),
    ("LCMScheduler", {}),
    ("EDMDPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}),
    ("DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    ("EDMEulerScheduler", {"s_churn": 5.0}),
]


@pytest.mark.parametrize("scheduler, options", RANDOM, ids=[r[0] for r in RANDOM])
def test_draws_by_seed(scheduler: str, options: dict[str, Any]) -> None:
    """A seed alone is the seed in a batch, again is the same, and torch's generator is left alone; without
    noise it is refused."""
    path, sampler = VPPath(), build("diffusers", scheduler=scheduler, **options)

    def run(seeds: list[int]) -> Tensor:
        noise = NoiseSource(seeds)
        return sampler.sample(
            MIX.denoiser(path),
            noise.normal((2,), stream="prior", dtype=torch.float64),
            noise=noise,
            num_steps=6,
        )

    torch.manual_seed(0)
    state = torch.get_rng_state()
    together = run([3, 5, 9])
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(run([5]), together[1:2], rtol=1e-6, atol=1e-6)
    assert torch.equal(run([3, 5, 9]), together)
    x = together.clone()
    a, b = (
        sampler.sample(MIX.denoiser(path), x, noise=NoiseSource(s), num_steps=6)
        for s in ([0, 1, 2], [3, 4, 5])
    )
    assert float((a - b).abs().max()) > 1e-3
    with pytest.raises(ValueError, match=f"the {scheduler} adds noise in its steps; pass noise="):
        sampler.sample(MIX.denoiser(path), x, num_steps=6)


def test_draws_from_the_global_generator_are_noticed() -> None:
    sampler = build("diffusers", scheduler="DDPMScheduler")
    sampler.draws = False  # as if the scheduler had not said so
    with pytest.raises(ValueError, match="drew from torch's own generator"):
        sampler.sample(MIX.denoiser(VPPath()), X, noise=NoiseSource(range(16)), num_steps=4)


@pytest.mark.parametrize(
    "scheduler",
    [
        "DDIMScheduler",
        "DPMSolverMultistepScheduler",
        "HeunDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "UniPCMultistepScheduler",
    ],
)
def test_starting_in_the_middle(scheduler: str) -> None:
    """From the state of a run at step 8 of a first-order scheduler the rest is the same; all of them reach
    data."""
    path, sampler = VPPath(), build("diffusers", scheduler=scheduler)
    steps = list(sampler.steps(MIX.denoiser(path), X, num_steps=20))
    rest = list(sampler.steps(MIX.denoiser(path), steps[7].x, num_steps=20, start=8))
    assert len(rest) == 12 and rest[0].t == steps[8].t and rest[-1].s == 1.0
    # the others have a memory
    exact = scheduler in ("DDIMScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler")
    torch.testing.assert_close(rest[-1].x, steps[-1].x, rtol=0, atol=1e-5 if exact else 0.1)


@pytest.mark.parametrize(
    "scheduler", ["HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "FlowMatchHeunDiscreteScheduler"]
)
def test_second_order_schedulers_take_two_evaluations(scheduler: str) -> None:
    """Twice a step, once in the last; the model is asked at the levels of its own path."""
    path, seen = LinearPath(), []
    inner = MIX.denoiser(path)
    model = FunctionDenoiser(path, lambda x, t, cond: (seen.append(float(t)), inner.predict(x, t, cond))[1])
    steps = list(build("diffusers", scheduler=scheduler).steps(model, X, num_steps=8))
    assert steps[-1].evaluations == 15 == len(seen) and [s.t for s in steps] == pytest.approx(
        seen[::2], abs=1e-12
    )
    assert all(a <= b + 1e-6 for a, b in zip(seen, seen[1:]))


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction", "flow_prediction"])
def test_forms_of_the_output_change_nothing(kind: str) -> None:
    path = VPPath()
    a = build("diffusers").sample(MIX.denoiser(path), X, num_steps=20)
    options = {"use_flow_sigmas": True} if kind == "flow_prediction" else {}
    b = build("diffusers", prediction_type=kind, **options).sample(MIX.denoiser(path), X, num_steps=20)
    if kind == "flow_prediction":  # other times
        assert float((a - b).abs().max()) < 0.25
    else:
        torch.testing.assert_close(a, b, rtol=0, atol=1e-3)


def test_options_go_through() -> None:
    """Karras' levels, and options of the scheduler beside our own in one flat list."""
    path = VPPath()
    sampler = build(
        "diffusers",
        scheduler="UniPCMultistepScheduler",
        use_karras_sigmas=True,
        solver_order=3,
        spacing="trailing",
    )
    assert sampler.options["solver_order"] == 3 and sampler.spacing == "trailing"
    levels = [
        float(path.coefficients(t).sigma / path.coefficients(t).alpha) ** (1 / 7)
        for t in sampler.times(path, 9)[:-1]
    ]
    gaps = [a - b for a, b in zip(levels, levels[1:])]
    assert max(gaps) / min(gaps) == pytest.approx(1.0, abs=0.01)
    assert build("diffusers", options={"solver_order": 1}).options["solver_order"] == 1
    assert math.isfinite(float(sampler.sample(MIX.denoiser(path), X, num_steps=9).sum()))


def test_refusals() -> None:
    for options, message in (
        (
            {"scheduler": "DPMSolverMultistep"},
            "got scheduler 'DPMSolverMultistep', expected one of .*did you mean "
            "'DPMSolverMultistepScheduler'",
        ),
        ({"scheduler": "os.system"}, "got scheduler 'os.system', expected one of"),
        ({"scheduler": "PNDMScheduler"}, "others step more than once in a place"),
        ({"scheduler": "FlaxDDIMScheduler"}, "expected one of"),
        ({"beta_schedule": "cosine"}, "got beta_schedule for the scheduler .* the model's; leave it out"),
        ({"solver_ordr": 3}, "unknown option 'solver_ordr'.*did you mean 'solver_order'"),
        ({"solver_order": "three"}, "got 'three'"),
        ({"generator": 3}, "unknown option 'generator'"),
        ({"shift": 3.0}, "unknown option 'shift'"),
    ):
        with pytest.raises(ValueError, match=message):
            build("diffusers", **options)
    with pytest.raises(ValueError, match="applies to VP tables only"):
        build("diffusers", spacing="trailing").times(LinearPath(), 5)
    with pytest.raises(ValueError, match="not all of them forward on this model's path"):
        build("diffusers", scheduler="FlowMatchEulerDiscreteScheduler").times(EDMPath(), 500)
    with pytest.raises(ValueError, match="got prediction_type 'score'|got 'score'"):
        build("diffusers", prediction_type="score").sample(MIX.denoiser(VPPath()), X)
