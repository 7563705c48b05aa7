"""Gradients of a sample in its start: through every sampler, right by finite differences, or refused."""

from typing import Any

import pytest
import torch
from thinned import thinned
from torch import Tensor

import samplers
from backbones import Cond, NoiseSource
from samplers import EDMPath, FunctionDenoiser, LinearPath, Prediction, VPPath
from samplers.gaussian_bridge import GaussianBridge
from samplers.paths import Path
from samplers.prediction import expand
from samplers.solvers.adaptive import ADAPTIVE, FIXED

DEVIATION = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
PATHS: dict[str, Path] = {"linear": LinearPath(), "vp": VPPath(), "edm": EDMPath()}


def gaussian(path: Path) -> FunctionDenoiser:
    """The exact denoiser of N(0.3, DEVIATION²)."""

    def predict(x: Tensor, t: Any, cond: Cond) -> Prediction:
        c = path.coefficients(t)
        a, s = (expand(torch.as_tensor(v), x) for v in (c.alpha, c.sigma))
        spread = DEVIATION**2
        return Prediction("data", 0.3 + a * spread / (a**2 * spread + s**2) * (x - a * 0.3), x, t, path)

    return FunctionDenoiser(path, predict)


SPECS: list[tuple[str, dict[str, Any]]] = [
    *(
        (name, {})
        for name in samplers.REGISTRY
        if name not in ("bridge", "bridge_sde", "graph", "masked", "torchdiffeq", "diffusers")
    ),
    ("edm_heun", {"s_churn": 5.0}),
    ("ddim", {"eta": 0.5}),
    ("heun", {"shift": 2.0}),
    *(("torchdiffeq", {"method": m, "rtol": 1e-5, "atol": 1e-5}) for m in (*ADAPTIVE, *FIXED)),
    ("torchdiffeq", {"alone": True, "rtol": 1e-5, "atol": 1e-5}),
    ("ddim", {"threshold": 0.7, "clip": 0.9}),
    ("heun", {"clip": 1.5}),
    *(
        ("diffusers", {"scheduler": f"{s}Scheduler"})
        for s in ("DPMSolverMultistep", "UniPCMultistep", "HeunDiscrete", "EulerAncestralDiscrete")
    ),
]


@pytest.mark.parametrize("spec, name", thinned(5, SPECS, list(PATHS)), ids=str)
def test_the_gradient_in_the_start(spec: tuple[str, dict[str, Any]], name: str) -> None:
    path = PATHS[name]
    if spec[0] == "ddpm" and name != "vp":
        pytest.skip("for tables")
    sampler, denoiser, noise = samplers.build(spec[0], **spec[1]), gaussian(path), NoiseSource([1, 2])
    scale = path.prior_scale
    x = scale * NoiseSource([3, 4]).normal((3,), stream="x", dtype=torch.float64)
    along = NoiseSource([5, 6]).normal((3,), stream="way", dtype=torch.float64)

    def end(x: Tensor) -> Tensor:
        return sampler.sample(denoiser, x, noise=noise, num_steps=8)

    start = x.clone().requires_grad_()
    out = end(start)
    assert out.requires_grad and torch.equal(out.detach(), end(x))
    (found,) = torch.autograd.grad((out * along).sum(), start)
    h = 1e-4 * scale if "clip" in spec[1] else 0.05 * scale  # without bounds the map is affine
    way = NoiseSource([7, 8]).normal((3,), stream="way", dtype=torch.float64)
    wanted = ((end(x + h * way) - end(x - h * way)) * along).sum(1) / (2 * h)
    torch.testing.assert_close((found * way).sum(1), wanted, rtol=2e-3, atol=1e-4)
    with torch.no_grad():
        assert not end(start).requires_grad


@pytest.mark.parametrize("name", ["bridge", "bridge_sde", "heun", "torchdiffeq"])
def test_the_gradient_in_the_source_of_a_bridge(name: str) -> None:
    one = torch.eye(2, dtype=torch.float64)
    bridge = GaussianBridge(0 * one[0], one, one[0], 0.3 * one, sigma=0.8)
    sampler, noise = samplers.build(name), NoiseSource([1, 2])
    x = NoiseSource([3, 4]).normal((2,), stream="x", dtype=torch.float64).requires_grad_()
    out = sampler.sample(bridge.denoiser(), x, noise=noise, num_steps=6)
    (found,) = torch.autograd.grad(out.sum(), x)
    with torch.no_grad():
        ends = [
            sampler.sample(bridge.denoiser(), x + h * one[0], noise=noise, num_steps=6).sum(1)
            for h in (0.05, -0.05)
        ]
    torch.testing.assert_close(found[:, 0], (ends[0] - ends[1]) / 0.1, rtol=2e-3, atol=1e-4)


def test_every_step_carries_it() -> None:
    x = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    steps = list(
        samplers.build("torchdiffeq", method="dopri5").steps(gaussian(PATHS["linear"]), x, num_steps=4)
    )
    assert all(step.x.requires_grad for step in steps) and steps[0].data_hat.requires_grad


def test_a_sampler_of_classes_refuses_it() -> None:
    from samplers.solvers.graph import GraphAncestral

    class OfGraphs:
        space, starts, demands = "graph", "noise", frozenset()
        path, known_trained = LinearPath(), False

    with pytest.raises(ValueError, match="asks for gradients.*GraphAncestral.*heun"):
        GraphAncestral().steps(OfGraphs(), torch.ones(1, 3, requires_grad=True))  # type: ignore[arg-type]
