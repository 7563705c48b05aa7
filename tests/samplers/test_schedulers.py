"""diffusers' schedulers, recorded: beta tables, step spacings, single DDPM and DDIM steps, noising and v
targets; the exact mixture's own table."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mixture import Mixture
from torch import Tensor

from backbones import RecordedNoise
from samplers import Coefficients, Prediction, VPPath, beta_table, build
from samplers.paths.coefficients import mix

SCHEDULES = ("linear", "scaled_linear", "cosine", "sigmoid")
SPACES = {"epsilon": "noise", "sample": "data", "v_prediction": "v"}
PATHS = {name: VPPath(schedule=name) for name in SCHEDULES}


@pytest.fixture(scope="module")
def tables(golden: Callable[[str], Any]) -> Any:
    return golden("scheduler_tables")


@pytest.fixture(scope="module")
def steps(golden: Callable[[str], Any]) -> dict[str, Tensor]:
    return golden("scheduler_steps")[0]


def error(a: Tensor, b: Tensor) -> float:
    """The largest difference, as a fraction of the largest entry."""
    assert a.shape == b.shape
    return float((a.double() - b.double()).abs().max() / b.double().abs().max())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_tables(tables: Any, schedule: str) -> None:
    g, path = tables[0], PATHS[schedule]
    torch.testing.assert_close(path.betas, g[f"{schedule}.f64.betas"], rtol=1e-12, atol=1e-16)
    torch.testing.assert_close(path.alpha_bar, g[f"{schedule}.f64.alphas_cumprod"], rtol=1e-12, atol=1e-16)
    zero = VPPath(schedule=schedule, zero_snr=True)
    torch.testing.assert_close(
        zero.alpha_bar, g[f"{schedule}.zsnr.alphas_cumprod"].double(), rtol=1e-4, atol=2e-7
    )
    torch.testing.assert_close(
        zero.betas[:-1], g[f"{schedule}.zsnr.betas"].double()[:-1], rtol=2e-3, atol=2e-7
    )
    assert float(zero.betas[-1]) == 1.0 == float(g[f"{schedule}.zsnr.betas"][-1])


def test_explicit_ends_of_a_schedule() -> None:
    betas = beta_table("linear", 500, start=2e-4, end=0.04)
    assert (len(betas), float(betas[0]), float(betas[-1])) == (500, 2e-4, 0.04)
    assert float(betas[250] - betas[249]) == pytest.approx((0.04 - 2e-4) / 499, rel=1e-9)


@pytest.mark.parametrize("num_steps", [10, 20, 50])
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize(
    "family, names", [("ddpm", ["ddpm"]), ("ddim", ["ddim", "euler"]), ("dpmpp", ["dpmpp_1", "dpmpp_2m"])]
)
def test_timesteps(tables: Any, family: str, names: list[str], spacing: str, num_steps: int) -> None:
    path, expected = PATHS["linear"], tables[1]["timesteps"][f"{family}.{spacing}.{num_steps}"]
    for name in names:
        times = build(name, spacing=spacing).times(path, num_steps)
        assert [float(path.network_time(t)) for t in times] == expected + [-1]


CASES = [
    f"ddpm.{schedule}.{variance}.{clip}.{space}.n{n}.t{t}"
    for schedule in SCHEDULES[:3]
    for variance in ("fixed_small", "fixed_small_log", "fixed_large", "learned_range")
    for clip in ("clip", "noclip")
    for space in SPACES
    for n, ts in ((1000, (999, 500, 1, 0)), (20, (950, 500, 0)))
    for t in ts
]


def test_every_recorded_step_is_a_case(steps: dict[str, Tensor]) -> None:
    recorded = {k.removesuffix(".prev") for k in steps if k.startswith("ddpm.") and k.endswith(".prev")}
    assert recorded <= set(CASES) and len(recorded) > 150


def one_step(
    sampler: Any, path: VPPath, k: int, n: int, space: str, g: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """The state after one step in float64, and the data prediction."""
    before = k - path.size // n
    x = g["in.sample"].double()
    made: list[Prediction] = []

    def predict(x: Tensor, t: float) -> Prediction:
        made.append(
            Prediction(
                space, g["in.model_eps"].double(), x, t, path, {"variance": g["in.model_var"].double()}
            )
        )
        return made[-1]

    out = sampler.step(
        x, path.time(k), path.time(max(before, -1)), predict, RecordedNoise({"step": [g["in.noise"]]}), []
    )
    return out, sampler.data(made[0])


@pytest.mark.parametrize("schedule", SCHEDULES[:3])
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_small_log", "fixed_large", "learned_range"])
def test_ddpm_steps(steps: dict[str, Tensor], schedule: str, variance: str) -> None:
    """The recording is float32, where 1 − ᾱ_t/ᾱ_s has a relative error of about 1e-8 / beta: single steps at
    small beta agree less closely. Only beta < 5e-5 is beyond 1e-4; the next test shows that it is the
    recording's rounding."""
    checked = 0
    for case in CASES:
        _, table, kind, clip, space, n, t = case.split(".")
        if (table, kind) != (schedule, variance) or f"{case}.prev" not in steps:
            continue
        sampler = build("ddpm", variance=variance, clip=1.0 if clip == "clip" else None)
        out, data = one_step(sampler, PATHS[schedule], int(t[1:]), int(n[1:]), SPACES[space], steps)
        beta = 1.0 if n == "n20" else float(PATHS[schedule].betas[int(t[1:])])
        assert error(out, steps[f"{case}.prev"]) < min(1.5e-5 + 1.5e-8 / beta, 1e-4 if beta > 5e-5 else 1), (
            case
        )
        if f"{case}.x0" in steps:
            assert error(data, steps[f"{case}.x0"]) < 1.5e-5, case
        checked += 1
    assert checked >= 14


@pytest.mark.parametrize("schedule", SCHEDULES[:3])
def test_small_betas_differ_by_the_rounding_of_float32(
    tables: Any, steps: dict[str, Tensor], schedule: str
) -> None:
    """The posterior's formula in the recording's own precision gives the recording to the last bits, in
    float64 it gives our step."""
    for dtype, table in (
        (torch.float32, tables[0][f"{schedule}.alphas_cumprod"]),
        (torch.float64, PATHS[schedule].alpha_bar),
    ):
        now, before = table[1], table[0]
        x, data, z = (steps[f"in.{name}"].to(dtype) for name in ("sample", "model_eps", "noise"))
        beta = 1 - now / before
        mean = before.sqrt() * beta / (1 - now) * data + (now / before).sqrt() * (1 - before) / (1 - now) * x
        expected = mean + ((1 - before) / (1 - now) * beta).sqrt() * z
        if dtype == torch.float32:
            assert error(expected, steps[f"ddpm.{schedule}.fixed_small.noclip.sample.n1000.t1.prev"]) < 1e-6
        else:
            assert (
                error(one_step(build("ddpm"), PATHS[schedule], 1, 1000, "data", steps)[0], expected) < 1e-10
            )


@pytest.mark.parametrize("schedule", SCHEDULES[:3])
@pytest.mark.parametrize("clip", ["clip", "noclip"])
@pytest.mark.parametrize("eta", ["0", "0.5", "1"])
def test_ddim_steps(steps: dict[str, Tensor], schedule: str, clip: str, eta: str) -> None:
    sampler = build("ddim", eta=float(eta), clip=1.0 if clip == "clip" else None)
    for t in (950, 500, 0):
        out, _ = one_step(sampler, PATHS[schedule], t, 20, "noise", steps)
        assert error(out, steps[f"ddim.{schedule}.eta{eta}.{clip}.n20.t{t}.prev"]) < 1.5e-5, t


@pytest.mark.parametrize("schedule", SCHEDULES[:3])
def test_noising_and_v_target(steps: dict[str, Tensor], schedule: str) -> None:
    path, t = (
        PATHS[schedule],
        torch.tensor([1 - (k + 1) / 1000 for k in (0, 250, 500, 999)], dtype=torch.float64),
    )
    data, noise = steps["in.sample"].double(), steps["in.noise"].double()
    x = mix(path.coefficients(t), noise, data)
    assert error(x, steps[f"add_noise.{schedule}.t0_250_500_999"]) < 1e-5
    assert (
        error(
            Prediction("noise", noise, x, t, path).to("v"), steps[f"get_velocity.{schedule}.t0_250_500_999"]
        )
        < 1e-5
    )


class At:
    """A path that is always at one place."""

    native, t_start, prior_scale = "noise", 0.0, 1.0

    def __init__(self, alpha: float, sigma: float):
        self.c = Coefficients(*(torch.tensor(v, dtype=torch.float64) for v in (alpha, sigma, 1.0, -1.0)))

    def coefficients(self, t: float) -> Coefficients:
        return self.c


def test_the_mixture_of_these_tests(golden: Callable[[str], Any]) -> None:
    g, notes = golden("gmm_reference")
    mix = Mixture(
        tuple(notes["gmm"]["weights"]), tuple(map(tuple, notes["gmm"]["means"])), tuple(notes["gmm"]["stds"])
    )
    assert mix == Mixture()
    places = sorted({k.rpartition(".")[0] for k in g if k != "x"})
    assert len(places) == 6
    for place in places:
        a, s = (float(v) for v in place.removeprefix("a").split(".s"))
        p = mix.denoiser(At(a, s)).predict(g["x"], 0.5, None)
        for space, name in (("data", "denoised"), ("noise", "eps"), ("score", "score")):
            torch.testing.assert_close(p.to(space), g[f"{place}.{name}"], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(mix.log_prob(g["x"], a, s), g[f"{place}.logp"], rtol=1e-10, atol=1e-10)
