"""Where grids start (``lambda_min``) and how data predictions are bounded (``clip``, ``threshold``), for
every sampler alike."""

import math
from typing import Any

import pytest
import torch
from mixture import Mixture, points
from torch import Tensor

import samplers
from backbones import Cond, NoiseSource
from backbones.registry import resolve
from samplers import EDMPath, FunctionDenoiser, LinearPath, Prediction, VPPath, build

COSINE, MIX = VPPath(schedule="cosine"), Mixture()
KINDS = {n: resolve(samplers.REGISTRY, n, "sampler") for n in samplers.REGISTRY}
FROM_NOISE = [n for n, kind in KINDS.items() if "noise" in kind.starts and "euclid" in kind.spaces]
WRAPPED = (
    "UniPCMultistepScheduler",
    "DDIMScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "EDMEulerScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
)
EVERY = (
    [(n, {}) for n in FROM_NOISE]
    + [("diffusers", {"scheduler": s}) for s in WRAPPED]
    + [("torchdiffeq", {"method": "rk4"})]
)
every = pytest.mark.parametrize(
    "name, options", EVERY, ids=[o.get("scheduler", o.get("method", n)) for n, o in EVERY]
)


def asked(path: Any, name: str, options: dict[str, Any], num_steps: int = 8) -> list[float]:
    """log-SNR/2 of every query of a run."""
    seen: list[float] = []
    inner = MIX.denoiser(path)

    def predict(x: Tensor, t: Any, cond: Cond) -> Prediction:
        seen.append(float(path.log_snr(float(t))) / 2)
        return inner.predict(x, t, cond)

    sampler = build(name, **options)
    steps = list(
        sampler.steps(
            FunctionDenoiser(path, predict), points(4), noise=NoiseSource(range(4)), num_steps=num_steps
        )
    )
    assert steps[-1].s == 1 and (len(steps) == num_steps or name == "torchdiffeq")
    return seen


@every
def test_no_query_comes_before_lambda_min(name: str, options: dict[str, Any]) -> None:
    """The number of steps stays what was asked for; the first query is close behind the start, at the entry
    below it."""
    late = asked(COSINE, name, {**options, "lambda_min": -5.1})
    assert min(late) >= -5.1 and late[0] == min(late)
    # the one's levels end at 80, the other's spacing is leading
    if options.get("scheduler") not in ("EDMEulerScheduler", "DDIMScheduler"):
        assert late[0] < -4.4 and min(asked(COSINE, name, options)) < -5.5


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m"])
def test_a_grid_is_that_of_a_table_that_ends_there(name: str, spacing: str) -> None:
    size = int((COSINE.log_snr(1 - (torch.arange(1000) + 1) / 1000) / 2 >= -5.1).sum())
    short = VPPath(betas=COSINE.betas[:size])
    entries = [round(1000 * (1 - t)) for t in build(name, spacing=spacing, lambda_min=-5.1).times(COSINE, 17)]
    assert entries == [round(size * (1 - t)) for t in build(name, spacing=spacing).times(short, 17)]
    respaced = build("ddim", respacing="10,5", lambda_min=-5.1).times(COSINE, 1)
    assert [round(1000 * (1 - t)) - 1 for t in respaced[:-1]] == short.respaced("10,5")


def test_grids_of_other_paths_and_bent_ones() -> None:
    linear, edm = (
        build("euler", lambda_min=-2.0).times(LinearPath(), 4),
        build("euler", lambda_min=-2.0).times(EDMPath(), 4),
    )
    start = 1 / (1 + math.exp(2))
    assert linear == pytest.approx([start + (1 - start) * i / 4 for i in range(5)])
    assert edm == pytest.approx(build("euler").times(EDMPath(sigma_max=math.exp(2)), 4))
    bent = build("euler", lambda_min=-2.0, shift=3.0, skew=1.5).times(LinearPath(), 4)
    assert bent[0] == pytest.approx(start) and bent[1] < linear[1] and bent[-1] == 1
    for path in (EDMPath(), VPPath()):  # no later than the path's own start: nothing changes
        early = build("heun", lambda_min=-40.0)
        assert early.times(path, 5) == build("heun").times(path, 5)


def test_churn_stays_below_the_start() -> None:
    assert min(asked(COSINE, "edm_heun", {"s_churn": 100.0, "lambda_min": -3.0}, 20)) >= -3.0 - 1e-6


def constant(path: Any, level: float) -> FunctionDenoiser:
    """A model whose data prediction is one number."""
    return FunctionDenoiser(
        path, lambda x, t, cond: Prediction("data", torch.full_like(x, level), x, t, path)
    )


@every
def test_clip_bounds_what_every_sampler_goes_by(name: str, options: dict[str, Any]) -> None:
    """A constant prediction of 3 that is bounded to 0.5 carries every state to 0.5; one of 0.5 is not
    touched."""
    for path in (COSINE, LinearPath(), EDMPath()):
        if options.get("scheduler") == "DDIMScheduler" and isinstance(path, EDMPath):
            continue
        made = []
        for level, clip in ((3.0, 0.5), (0.5, None), (0.5, 1.0)):
            # else it keeps the network's noise, as its users expect
            own = {"recompute_noise": True} if name == "ddim" else {}
            x = path.prior_scale * points(4)
            made.append(
                build(name, **options, **own, clip=clip).sample(
                    constant(path, level), x, noise=NoiseSource(range(4)), num_steps=6
                )
            )
        torch.testing.assert_close(made[0], made[1], rtol=0, atol=1e-6)
        torch.testing.assert_close(made[2], made[1], rtol=0, atol=1e-6)


def test_dynamic_thresholding() -> None:
    """Against the formula of Saharia et al.: s = max(quantile of |data|, bound), cut at s, scaled by bound/s;
    each sample by itself; twice is once."""
    x = torch.randn(
        5, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ) * torch.tensor([0.1, 0.5, 1, 2, 9]).view(-1, 1, 1, 1)
    sampler = build("euler", threshold=0.9, clip=1.5)
    out = sampler.bound(x)
    for row, made in zip(x, out):
        s = max(float(torch.quantile(row.abs().flatten().float(), 0.9)), 1.5)
        torch.testing.assert_close(made, row.clamp(-s, s) * 1.5 / s, rtol=1e-6, atol=1e-6)
    assert torch.equal(out[0], x[0]) and float(out.abs().max()) <= 1.5 + 1e-12
    torch.testing.assert_close(sampler.bound(out), out, rtol=1e-6, atol=0)
    assert float(build("euler", threshold=0.9).bound(x).abs().max()) <= 1 + 1e-12
    assert torch.equal(build("euler").bound(x), x)


def test_thresholding_is_that_of_diffusers() -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(thresholding=True, dynamic_thresholding_ratio=0.95, sample_max_value=10.0)
    x = 4 * torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        build("ddim", threshold=0.95).bound(x), scheduler._threshold_sample(x), rtol=1e-6, atol=1e-6
    )


def test_at_the_data_nothing_is_bounded() -> None:
    """Where there is no noise a velocity does not follow from the data; Heun's last query on a flow keeps its
    own."""
    free, held = (
        build("heun", clip=c).sample(MIX.denoiser(LinearPath(), "velocity"), points(8), num_steps=12)
        for c in (None, 50.0)
    )
    torch.testing.assert_close(held, free, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lambda_min": math.inf}, "got lambda_min=inf, expected a finite"),
        ({"lambda_min": math.nan}, "got lambda_min=nan"),
        ({"clip": -1.0}, "got clip=-1.0, expected a positive bound"),
        ({"clip": math.inf}, "got clip=inf"),
        ({"threshold": 0.0}, "got threshold=0.0"),
        ({"threshold": 1.01}, "above 0, at most 1"),
        ({"lamda_min": -5.1}, "unknown option 'lamda_min'.*did you mean 'lambda_min'"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    for name in FROM_NOISE:
        with pytest.raises(ValueError, match=message):
            build(name, **options)


def test_a_start_beyond_the_path_is_refused() -> None:
    for path in (LinearPath(), COSINE, EDMPath()):
        with pytest.raises(ValueError, match="lambda_min beyond the noise levels of this path"):
            build("euler", lambda_min=40.0).times(path, 3)
    with pytest.raises(
        ValueError, match=r"got 20 steps on a table of \d+ \(1000 less those before lambda_min\)"
    ):
        build("ddim", lambda_min=4.5).times(COSINE, 20)
    bridge = MIX.denoiser(LinearPath())
    bridge.starts = "source"
    with pytest.raises(ValueError, match="starts from data, where they have no meaning"):
        build("euler", clip=1.0).sample(bridge, points(2))
