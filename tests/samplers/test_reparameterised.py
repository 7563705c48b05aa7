"""A model on another path than its own: the same curve, the same predictions, bent clocks."""

from typing import Any

import pytest
import torch
from mixture import Mixture, points
from thinned import thinned
from torch import Tensor

from backbones import Cond, NoiseSource
from samplers import (
    Denoiser,
    EDMPath,
    FunctionDenoiser,
    LinearPath,
    LipmanPath,
    Prediction,
    TrigPath,
    VPPath,
    build,
)
from samplers.heads.parameterization import Direct
from samplers.paths import warp
from samplers.reparameterised import Reparameterised, on_path
from samplers.solvers.base import Sampler

MIX = Mixture()
PATHS = {
    "linear": LinearPath(),
    "noisy": LinearPath(sigma=0.02),
    "lipman": LipmanPath(),
    "trig": TrigPath(),
    "vp": VPPath(),
    "cosine": VPPath(schedule="cosine"),
    "edm": EDMPath(),
}
PAIRS = [(a, b) for a in PATHS for b in PATHS if a != b]


@pytest.mark.parametrize("pair, space", thinned(4, PAIRS, ["data", "noise", "velocity", "v"]))
def test_predictions_are_those_of_a_model_made_for_the_path(pair: tuple[str, str], space: str) -> None:
    """In every space, for numbers and tensors of times, between the levels that both paths have."""
    trained, new = pair
    model, exact = on_path(MIX.denoiser(PATHS[trained], space), PATHS[new]), MIX.denoiser(PATHS[new])
    x = points(9)
    for level in torch.linspace(-5, 6, 5, dtype=torch.float64):
        t = PATHS[new].time_of(level)
        c = PATHS[new].coefficients(t)
        state = (c.alpha * points(9, 2, 3) + c.sigma * x).double()
        for when in (float(t), t.expand(9)):
            a, b = model.predict(state, when, Cond()), exact.predict(state, when, Cond())
            assert a.path is PATHS[new] and a.x is state
            for target in ("data", "noise"):
                torch.testing.assert_close(a.to(target), b.to(target), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "trained, new",
    [
        ("linear", "vp"),
        pytest.param("linear", "edm", marks=pytest.mark.slow),
        pytest.param("vp", "linear", marks=pytest.mark.slow),
        ("vp", "trig"),
        ("edm", "linear"),
        ("trig", "cosine"),
    ],
)
def test_the_solution_is_the_same_curve(trained: str, new: str) -> None:
    """From a state at log SNR −4 to one at 5: solved on the new path, then carried back, it is the solution
    on the trained one."""

    class Between(Sampler):
        def __init__(self, path: Any, inner: Sampler):
            super().__init__()
            self.inner, self.ends = inner, [float(path.time_of(v)) for v in (-4.0, 5.0)]

        def times(self, path: Any, num_steps: int) -> list[float]:
            return torch.linspace(*self.ends, num_steps + 1, dtype=torch.float64).tolist()

        def step(self, *arguments: Any) -> Tensor:
            return self.inner.step(*arguments)

    a, b, x = PATHS[trained], PATHS[new], points(12)
    model = MIX.denoiser(a)

    def scale(path: Any, level: float) -> Tensor:
        c = path.coefficients(path.time_of(level))
        return torch.hypot(c.alpha, c.sigma)

    truth = Between(a, build("rk4")).sample(model, scale(a, -4.0) * x, num_steps=60)
    ours = Between(b, build("rk4")).sample(on_path(model, b), scale(b, -4.0) * x, num_steps=60)
    torch.testing.assert_close(ours / scale(b, 5.0), truth / scale(a, 5.0), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "trained, new",
    [
        pytest.param("vp", "linear", marks=pytest.mark.slow),
        ("edm", "linear"),
        pytest.param("linear", "edm", marks=pytest.mark.slow),
        ("linear", "vp"),
        ("vp", "edm"),
        ("cosine", "trig"),
    ],
)
def test_whole_runs_end_alike(trained: str, new: str) -> None:
    """From noise to data, ends outside the trained levels included: fine steps on either path give the same
    samples."""
    a, b, x = PATHS[trained], PATHS[new], points(12)
    truth = build("dpmpp_2m").sample(MIX.denoiser(a), a.prior_scale * x, num_steps=120)
    ours = build("dpmpp_2m").sample(on_path(MIX.denoiser(a), b), b.prior_scale * x, num_steps=120)
    assert float((ours - truth).norm(dim=1).mean()) < 0.03 and float((ours - truth).norm(dim=1).max()) < 0.2


@pytest.mark.slow
def test_levels_out_of_reach_are_taken_to_the_nearest() -> None:
    """The network is never asked outside what it was trained on, and answers stay finite."""
    seen: list[float] = []
    for trained, lowest, highest in ((VPPath(), 0.0, VPPath().time(0)), (EDMPath(), 1 / 81, 1 / 1.002)):
        inner = MIX.denoiser(trained)

        def predict(x: Tensor, t: Any, cond: Cond, inner: Any = inner) -> Prediction:
            seen.append(float(t))
            return inner.predict(x, t, cond)

        seen.clear()
        for name in ("euler", "heun", "ddpm", "torchdiffeq"):
            x = build(name).sample(
                on_path(FunctionDenoiser(trained, predict), LinearPath()),
                points(4),
                noise=NoiseSource(range(4)),
                num_steps=7,
            )
            assert bool(torch.isfinite(x).all())
        assert min(seen) >= lowest - 1e-12 and max(seen) <= highest + 1e-12


def test_snapping_asks_at_entries_only() -> None:
    seen: list[Tensor] = []

    class Net(torch.nn.Module):
        def forward(self, x: Tensor, t: Tensor, cond: Cond, ctx: Any = None) -> Tensor:
            seen.append(t)
            return torch.zeros_like(x)

    for snap in (False, True):
        seen.clear()
        build("euler").sample(
            on_path(Denoiser(Net(), VPPath(), Direct("noise")), "linear", snap=snap),
            points(2).float(),
            num_steps=11,
        )
        clocks = torch.cat(seen)
        assert (
            bool((clocks == clocks.round()).all()) == snap
            and 0 <= float(clocks.min())
            and float(clocks.max()) <= 999
        )
    with pytest.raises(ValueError, match="snap=True for a model that was not trained on a VP table"):
        on_path(MIX.denoiser(LinearPath()), "vp", snap=True)


def test_made_from_names() -> None:
    model = MIX.denoiser(VPPath())
    model.known_trained = True
    assert (
        isinstance(on_path(model, "trig").path, TrigPath)
        and on_path(model, {"name": "edm", "sigma_max": 20.0}).path.sigma_max == 20.0
    )
    assert on_path(model, "linear").known_trained and on_path(model, "linear").starts == "noise"
    assert isinstance(on_path(model, LinearPath()), Reparameterised)
    for bad, message in (("lnear", "did you mean 'linear'"), ({"sigma": 0.1}, "got a path without a name")):
        with pytest.raises(ValueError, match=message):
            on_path(model, bad)


# ---- bent clocks ---------------------------------------------------------------------------------


def test_shift_multiplies_the_noise_level() -> None:
    """On the linear path sigma/alpha grows by the factor, as sigma ← s·sigma/(1 + (s − 1)·sigma)."""
    times = build("euler", shift=3.0).times(LinearPath(), 10)
    expected = [1 - 3 * (1 - i / 10) / (1 + 2 * (1 - i / 10)) for i in range(11)]
    assert times == pytest.approx(expected, abs=1e-15) and (times[0], times[-1]) == (0.0, 1.0)
    assert build("euler", skew=2.0).times(LinearPath(), 4) == pytest.approx([0.0, 1 / 16, 1 / 4, 9 / 16, 1.0])


@pytest.mark.parametrize(
    "where, name", thinned(3, list(PATHS), ["euler", "ddim", "ddpm", "dpmpp_2m", "torchdiffeq"])
)
def test_bent_grids_stay_grids(where: str, name: str) -> None:
    path = PATHS[where]
    plain = build(name).times(path, 9)
    for options in ({"shift": 3.0}, {"skew": 1.7}, {"shift": 0.4}, {"shift": 2.0, "skew": 0.5}):
        times = build(name, **options).times(path, 9)
        assert (
            times[0] == pytest.approx(plain[0], abs=1e-12)
            and times[-1] == 1.0
            and all(a < b for a, b in zip(times, times[1:]))
        )
    assert (
        sum(build(name, shift=3.0).times(path, 9)) < sum(plain) < sum(build(name, shift=0.3).times(path, 9))
    )
    with pytest.raises(ValueError, match="got shift=0.0, skew=1.0, expected positive numbers"):
        build(name, shift=0.0)


def test_unbent_is_untouched() -> None:
    t = points(5, 1)[:, 0].sigmoid()
    assert warp(LinearPath(), t) is t and build("euler", shift=1.0).times(VPPath(), 7) == VPPath().grid(7)


def test_bent_grids_still_sample() -> None:
    model, x = MIX.denoiser(LinearPath()), points(16)
    truth = build("rk4").sample(model, x, num_steps=200)
    for options in ({"shift": 3.0}, {"skew": 1.5}):
        assert float((build("heun", **options).sample(model, x, num_steps=100) - truth).abs().max()) < 5e-3
