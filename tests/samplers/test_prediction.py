"""Every space is an affine function of every other: round trips, the definitions, both ends, and what
commutes with conversion."""

from itertools import permutations

import pytest
import torch
from mixture import Mixture, points
from torch import Tensor

from samplers import EDMPath, LinearPath, Prediction, VPPath
from samplers.prediction import SPACES

PATHS = {
    "linear": LinearPath(),
    "vp": VPPath(),
    "cosine": VPPath(schedule="cosine"),
    "zero": VPPath(zero_snr=True),
    "edm": EDMPath(),
}
every_path = pytest.mark.parametrize("path", list(PATHS.values()), ids=list(PATHS))
TIMES = (0.013, 0.1, 0.5, 0.7777, 0.95, 0.995)


def made_of(path: object, t: float | Tensor, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """(x, data, noise) with x = alpha data + sigma noise."""
    data, noise = points(5, 3, seed), points(5, 3, seed + 1)
    c = path.coefficients(t)
    a, s = (v.reshape(-1, 1) for v in (c.alpha, c.sigma))
    return a * data + s * noise, data, noise


def truth(path: object, t: float, data: Tensor, noise: Tensor) -> dict[str, Tensor]:
    c = path.coefficients(t)
    return {
        "data": data,
        "noise": noise,
        "velocity": c.d_alpha * data + c.d_sigma * noise,
        "v": c.alpha * noise - c.sigma * data,
        "score": -noise / c.sigma,
    }


@every_path
@pytest.mark.parametrize("t", TIMES)
def test_all_pairs_agree_with_the_definitions(path: object, t: float) -> None:
    if isinstance(path, EDMPath):
        t = max(t, path.t_start)
    x, data, noise = made_of(path, t)
    exact = truth(path, t, data, noise)
    for a, b in permutations(SPACES, 2):
        p = Prediction(a, exact[a], x, t, path)
        scale = float(exact[b].abs().max())
        assert float((p.to(b) - exact[b]).abs().max()) <= 1e-9 * max(scale, 1.0), (a, b)
        back = p.with_(b, p.to(b)).to(a)
        assert float((back - exact[a]).abs().max()) <= 1e-9 * max(float(exact[a].abs().max()), 1.0), (a, b)


@every_path
def test_times_by_sample(path: object) -> None:
    """A tensor of times gives each sample what its own time gives alone."""
    t = torch.tensor([0.1, 0.3, 0.5, 0.9, 0.99], dtype=torch.float64)
    x, data, noise = made_of(path, t)
    p = Prediction("noise", noise, x, t, path)
    torch.testing.assert_close(p.to("data"), data, rtol=0, atol=1e-10)
    for i in range(5):
        alone = Prediction("noise", noise[i : i + 1], x[i : i + 1], float(t[i]), path)
        for space in SPACES:
            torch.testing.assert_close(p.to(space)[i : i + 1], alone.to(space), rtol=1e-10, atol=1e-10)


@every_path
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_ends_are_finite(path: object, dtype: torch.dtype) -> None:
    x, value = points(4, 3, 2).to(dtype), points(4, 3, 3).to(dtype)
    for t in (path.t_start, 1.0, torch.tensor([path.t_start, 1.0, 0.5, 1.0])):
        for a in SPACES:
            for b in SPACES:
                out = Prediction(a, value, x, t, path).to(b)
                assert bool(torch.isfinite(out).all()) and out.dtype == dtype, (a, b, t)


@every_path
@pytest.mark.parametrize("space", ["noise", "velocity", "score"])
def test_at_the_data_x_is_the_data(path: object, space: str) -> None:
    """sigma = 0: whatever was predicted of the noise, the data is x."""
    x, value = points(4, 3, 2), points(4, 3, 3)
    torch.testing.assert_close(Prediction(space, value, x, 1.0, path).to("data"), x)


def test_at_pure_noise() -> None:
    """alpha = 0: noise says nothing of the data (0 is returned), v and data do."""
    x, value = points(4, 3, 2), points(4, 3, 3)
    for path in (LinearPath(), PATHS["zero"]):
        assert torch.equal(Prediction("noise", value, x, 0.0, path).to("data"), torch.zeros_like(x))
        torch.testing.assert_close(Prediction("v", value, x, 0.0, path).to("data"), -value)
        torch.testing.assert_close(Prediction("data", value, x, 0.0, path).to("noise"), x)
    torch.testing.assert_close(Prediction("velocity", value, x, 0.0, LinearPath()).to("data"), x + value)


@every_path
@pytest.mark.parametrize("w", [0.0, 1.5, 7.5])
def test_guidance_commutes_with_conversion(path: object, w: float) -> None:
    """u + w (c − u) is the same rule in every space, since all are affine in each other at one x and t."""
    x, t = points(4, 3, 2), 0.43
    c, u = (Prediction("data", points(4, 3, s), x, t, path) for s in (5, 6))
    guided = c.with_("data", u.value + w * (c.value - u.value))
    for space in SPACES:
        there = u.to(space) + w * (c.to(space) - u.to(space))
        torch.testing.assert_close(guided.to(space), there, rtol=1e-9, atol=1e-9)


def test_score_is_the_gradient_of_the_density() -> None:
    mix, path, t = Mixture(), LinearPath(), 0.37
    x = points(8).requires_grad_()
    c = path.coefficients(t)
    score = torch.autograd.grad(mix.log_prob(x, c.alpha, c.sigma).sum(), x)[0]
    torch.testing.assert_close(
        mix.denoiser(path).predict(x.detach(), t, None).to("score"), score, rtol=1e-10, atol=1e-10
    )


def test_gradients_flow_through_conversions() -> None:
    """d data / d noise = −sigma/alpha exactly, also where another sample of the batch sits at an end."""
    path, t = VPPath(), torch.tensor([0.5, 1.0, 0.9])
    value = points(3, 2).requires_grad_()
    for space in ("noise", "velocity", "v", "data"):
        out = Prediction(space, value, points(3, 2, 1), t, path).to("noise" if space == "data" else "data")
        grad = torch.autograd.grad(out.sum(), value)[0]
        assert bool(torch.isfinite(grad).all()), space
        if space == "noise":
            c = path.coefficients(t)
            torch.testing.assert_close(grad[:, 0], -c.sigma / c.alpha, rtol=1e-9, atol=1e-12)


def test_native_and_errors() -> None:
    x, value = points(2, 2), points(2, 2, 1)
    for path, native in ((LinearPath(), "velocity"), (VPPath(), "noise"), (EDMPath(), "data")):
        p = Prediction("data", value, x, 0.5, path)
        torch.testing.assert_close(p.to("native"), p.to(native))
        assert p.with_("native", value).space == native
    with pytest.raises(
        ValueError, match="got space 'x0', expected one of data, noise, velocity, v, score or native"
    ):
        p.to("x0")
    with pytest.raises(ValueError, match="unknown space 'eps'"):
        Prediction("eps", value, x, 0.5, path).to("data")
    with pytest.raises(ValueError, match=r"no variance head \(it has none\); choose an option"):
        p.head("variance")
    assert torch.equal(
        Prediction("data", value, x, 0.5, path, {"variance": x}).with_("noise", value).head("variance"), x
    )
