"""Every scheduler of diffusers that the wrapper knows asks the model at the noise level that the state really
has.

Of data that are one point m, the exact model says m at every level, and a state of level sigma is alpha·m +
sigma·z: what it is asked shows its level. Beside that, each scheduler's own plain loop as diffusers' users
write it: the same final state and the same levels.
"""

import itertools
import math
from typing import Any

import pytest
import torch
from later import Later
from mixture import Mixture, gaussian, points
from thinned import thinned
from torch import Tensor

from backbones import NoiseSource
from samplers import EDMPath, FunctionDenoiser, LinearPath, LipmanPath, Prediction, TrigPath, VPPath, build
from samplers.paths import Path, sigma_of
from samplers.solvers.from_diffusers import KNOWN

diffusers = Later("diffusers")

MIX, X, M = Mixture(), points(16), 1.0
PATHS: dict[str, Path] = {
    "linear": LinearPath(),
    "lipman": LipmanPath(),
    "trig": TrigPath(),
    "vp": VPPath(),
    "cosine": VPPath(schedule="cosine"),
    "scaled": VPPath(schedule="scaled_linear"),
    "zero": VPPath(zero_snr=True),
    "edm": EDMPath(),
}
ZERO = {
    "DDIMScheduler",
    "DDIMParallelScheduler",
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "EulerDiscreteScheduler",
    "DPMSolverMultistepScheduler",
}


def asked(
    path: Path,
    scheduler: str,
    num_steps: int,
    *,
    start: int = 0,
    n: int = 96,
    taken: int | None = None,
    **options: Any,
) -> list[tuple[float, float, float, float]]:
    """(level, mean, spread and worst change of the noise in the state) of every query from the state at the
    first level; of the steps that are ``taken``, all by default."""
    sampler, noise, seen = build("diffusers", scheduler=scheduler, **options), NoiseSource(range(n)), []
    z = noise.normal((1,), stream="prior", dtype=torch.float64)

    def model(x: Tensor, t: Any, cond: Any) -> Prediction:
        c = path.coefficients(t)
        eps = (x - c.alpha * M) / c.sigma
        seen.append(
            (float(sigma_of(path, t)), float(eps.mean()), float(eps.std()), float((eps - z).abs().max()))
        )
        return Prediction("data", torch.full_like(x, M), x, t, path)

    c = path.coefficients(sampler.times(path, num_steps)[start])
    steps = sampler.steps(
        FunctionDenoiser(path, model),
        c.alpha * M + c.sigma * z,
        noise=noise,
        num_steps=num_steps,
        start=start,
    )
    assert len(list(itertools.islice(steps, taken))) == (taken or num_steps - start)
    return seen


def check(
    path: Path, scheduler: str, num_steps: int, **options: Any
) -> list[tuple[float, float, float, float]]:
    seen = asked(path, scheduler, num_steps, **options)
    own = {k: v for k, v in options.items() if k != "start"}
    draws = build("diffusers", scheduler=scheduler, **own).draws
    for call, (level, mean, spread, change) in enumerate(seen):
        if draws:
            assert abs(mean) < 0.35 and abs(spread - 1) < 0.25, (call, level, mean, spread)
        else:
            # they compute in float32
            assert change < (0.3 if seen[0][0] > 1e4 else 0.02), (call, level, change)
    return seen


@pytest.mark.parametrize("scheduler, where", thinned(4, sorted(KNOWN), list(PATHS)))
def test_asked_at_the_level_of_the_state(scheduler: str, where: str) -> None:
    if where == "zero" and scheduler not in ZERO:
        pytest.skip("refused there, or its first level is none that a number has")
    check(PATHS[where], scheduler, 8)


def test_first_level_is_the_paths() -> None:
    """Where the state is drawn at 80 the model is asked at 80 first, whatever table the scheduler has."""
    for sigma_max in (80.0, 20.0):
        path = EDMPath(sigma_max=sigma_max)
        for scheduler in KNOWN:
            first = asked(path, scheduler, 8, n=2, taken=1)[0][0]
            assert first == pytest.approx(sigma_max, rel=1e-12), scheduler
    for scheduler in ("DDIMScheduler", "DDPMScheduler", "LCMScheduler", "TCDScheduler"):
        assert asked(LinearPath(), scheduler, 8, n=2, taken=1)[0][0] > 1900


OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *(
        (s, {"use_karras_sigmas": True})
        for s in (
            "DPMSolverMultistepScheduler",
            "HeunDiscreteScheduler",
            "KDPM2AncestralDiscreteScheduler",
            "KDPM2DiscreteScheduler",
        )
    ),
    *(
        (s, {"use_exponential_sigmas": True})
        for s in (
            "EulerDiscreteScheduler",
            "UniPCMultistepScheduler",
            "LMSDiscreteScheduler",
            "SASolverScheduler",
        )
    ),
    *(
        (s, {"use_flow_sigmas": True, "prediction_type": "flow_prediction"})
        for s in ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler")
    ),
    ("DPMSolverMultistepScheduler", {"use_lu_lambdas": True}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"}),
    (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", "solver_order": 3},
    ),
    ("DPMSolverSinglestepScheduler", {"solver_order": 3}),
    ("DPMSolverSinglestepScheduler", {"solver_order": 1, "use_karras_sigmas": True}),
    ("EDMDPMSolverMultistepScheduler", {"solver_order": 3, "sigma_schedule": "exponential"}),
    ("EDMEulerScheduler", {"sigma_min": 0.05, "sigma_max": 10.0}),
    ("EulerDiscreteScheduler", {"sigma_min": 0.05, "sigma_max": 10.0, "use_karras_sigmas": True}),
    ("EulerDiscreteScheduler", {"interpolation_type": "log_linear", "final_sigmas_type": "sigma_min"}),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}),
    ("FlowMatchHeunDiscreteScheduler", {"shift": 3.0}),
    ("DDIMScheduler", {"eta": 1.0}),
    ("DDIMScheduler", {"timestep_spacing": "leading"}),
    ("DDIMScheduler", {"timestep_spacing": "linspace"}),
    ("TCDScheduler", {"eta": 0.0}),
    ("LCMScheduler", {"original_inference_steps": 100}),
]


@pytest.mark.parametrize("case, where", thinned(3, OPTIONS, ["linear", "vp", "edm"]), ids=str)
def test_asked_at_the_level_of_the_state_with_options(case: tuple[str, dict[str, Any]], where: str) -> None:
    scheduler, options = case
    if where == "vp" and options.get("timestep_spacing") == "linspace":
        pytest.skip("diffusers' own quirk, kept on tables")
    check(PATHS[where], scheduler, 8, **options)


@pytest.mark.parametrize("scheduler, where", thinned(2, sorted(KNOWN), ["linear", "edm"]))
def test_from_the_middle(scheduler: str, where: str) -> None:
    """As a picture to begin with does: multistep formulas count from where the run began."""
    check(PATHS[where], scheduler, 10, start=3)


def levels_of(made: Any, name: str) -> list[float]:
    """What each call of a scheduler means by its state, sigma/alpha; float32 as it keeps them."""
    if KNOWN[name][1]:
        bar = made.alphas_cumprod[made.timesteps.long()].double()
        return ((1 - bar) / bar).sqrt().tolist()
    s = made.sigmas.double()
    # the ancestral one's level between is its next: √(σ·σ_down) with σ_down = σ'²/σ
    if name.startswith("KDPM2"):
        s = torch.cat([s[:1], s[1::2]])[: (len(made.timesteps) + 1) // 2]
        between = s[1:] if "Ancestral" in name else (s[1:] * s[:-1]).sqrt()
        return [float(v) for pair in zip(s, [*between, None]) for v in pair if v is not None]
    s = s[: len(made.timesteps)]
    return (
        [math.inf if v == 1 else v / (1 - v) for v in s.tolist()] if KNOWN[name][0] == "flow" else s.tolist()
    )


def plain(
    made: Any, name: str, x: Tensor, noise: NoiseSource, takes_noise: bool
) -> tuple[Tensor, list[float]]:
    """The loop of a pipeline, from a state on a path whose alpha² + sigma² is 1: the scheduler's own scale in
    between."""
    levels, scale = levels_of(made, name), KNOWN[name][0]

    def larger(level: float) -> float:
        return (
            1.0
            if scale == "vp" or math.isinf(level)
            else math.hypot(1, level) / (1 + level if scale == "flow" else 1)
        )

    x = x * larger(levels[0])
    for call, (t, level) in enumerate(zip(made.timesteps, levels)):
        a, s = (
            (1 / math.hypot(1, level), level / math.hypot(1, level)) if math.isfinite(level) else (0.0, 1.0)
        )
        here = x / larger(level)
        if scale == "ve":  # what the scheduler itself makes of its state for the network
            torch.testing.assert_close(made.scale_model_input(x, t), here, rtol=1e-4, atol=1e-6)
        elif hasattr(made, "scale_model_input"):
            made.scale_model_input(x, t)
        data = MIX.denoise(here, a, s)
        level = min(level, 1e30)
        eps = (here - a * data) / s
        out = eps - data if scale == "flow" else eps
        if scale == "edm":
            c_skip, c_out = (
                made.config.sigma_data**2 / (level**2 + made.config.sigma_data**2),
                level * made.config.sigma_data,
            )
            out = (data - c_skip * x) / (c_out / math.hypot(level, made.config.sigma_data))
        draw, given = noise.at(call // getattr(made, "order", 1)), {}
        if takes_noise:
            given["variance_noise"] = draw.normal(x.shape[1:], stream="step", dtype=x.dtype)
        elif KNOWN[name][2]({"eta": 0.3 if name == "TCDScheduler" else 0.0}):
            bits = draw.normal((1,), stream="step", dtype=torch.float64).view(torch.int64)[:, 0] & (2**63 - 1)
            given["generator"] = [torch.Generator().manual_seed(int(b)) for b in bits.tolist()]
        x = made.step(out, t, x, return_dict=False, **given)[0].to(x.dtype)
    return x, levels


@pytest.mark.parametrize("name, where", thinned(4, sorted(KNOWN), ["linear", "edm", "vp", "cosine"]))
def test_it_is_the_schedulers_own_loop(name: str, where: str) -> None:
    """Final states and, by their bytes, the levels asked for; on VP tables with a scheduler that is made here
    as diffusers' users make it."""
    path, n, seen = PATHS[where], 8, []
    sampler, inner, noise = build("diffusers", scheduler=name), MIX.denoiser(path), NoiseSource(range(len(X)))

    def model(x: Tensor, t: Any, cond: Any) -> Prediction:
        seen.append(float(t))
        return inner.predict(x, t, cond)

    times = sampler.times(path, n)
    c = path.coefficients(times[0])
    x = X * torch.hypot(c.alpha, c.sigma)
    ours = sampler.sample(FunctionDenoiser(path, model), x, noise=noise, num_steps=n)
    made = sampler.make(path, n)
    # nan there
    if (
        isinstance(path, VPPath)
        and KNOWN[name][0] in ("vp", "ve")
        and (name, where) != ("KDPM2AncestralDiscreteScheduler", "cosine")
    ):
        own = {"clip_sample": False} if KNOWN[name][1] else {}
        made = getattr(diffusers, name)(
            trained_betas=path.betas.tolist(), num_train_timesteps=path.size, **own
        )
        made.set_timesteps(n)
    theirs, levels = plain(made, name, X, noise, sampler.takes_noise)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-3 if where in ("edm", "cosine") else 5e-4)
    clocks = [float(path.network_time(t)) for t in seen]
    if isinstance(path, VPPath):
        assert [float(sigma_of(path, t)) for t in seen] == pytest.approx(levels, rel=2e-3)
        if KNOWN[name][1]:
            assert clocks == made.timesteps.tolist()
    else:
        assert [float(sigma_of(path, t)) for t in seen] == pytest.approx(
            levels, rel=1e-5 if where == "edm" else 1e-6
        )


def test_more_noise_than_the_path_has_is_refused() -> None:
    for options in (
        {"scheduler": "EDMEulerScheduler"},
        {"scheduler": "EulerDiscreteScheduler", "use_karras_sigmas": True, "sigma_min": 0.01},
    ):
        with pytest.raises(
            ValueError,
            match="got a start at noise level 160 from the .*, expected at most 80, .*; try a "
            "lower sigma_max",
        ):
            build("diffusers", sigma_max=160.0, **options).times(EDMPath(), 8)


def test_what_a_scheduler_leaves_is_returned_as_it_is() -> None:
    """A run that ends at its lowest level ends with that much noise, not scaled."""
    path = VPPath()
    sampler, noise = (
        build("diffusers", scheduler="EulerDiscreteScheduler", final_sigmas_type="sigma_min"),
        NoiseSource(range(4000)),
    )
    z = noise.normal((1,), stream="prior", dtype=torch.float64)
    x = sampler.sample(
        gaussian(100.0, 1e-6).denoiser(path),
        float(path.coefficients(0.0).alpha) * 100 + z,
        noise=noise,
        num_steps=12,
    )
    assert float(x.mean()) == pytest.approx(100.0, abs=1e-3)
