"""How often a sampler says it asks the model is how often it does, at each step, on every path."""

from typing import Any

import pytest
from mixture import Mixture, points
from thinned import thinned

import samplers
from backbones import NoiseSource
from backbones.registry import resolve
from samplers import EDMPath, LinearPath, VPPath, build

PATHS = {
    "linear": LinearPath(),
    "vp": VPPath(),
    "zero": VPPath(zero_snr=True),
    "edm": EDMPath(),
}
KINDS = {n: resolve(samplers.REGISTRY, n, "sampler") for n in samplers.REGISTRY}
LINES: list[tuple[str, dict[str, Any]]] = [
    *((n, {}) for n, kind in KINDS.items() if {"noise"} <= {*kind.starts} and "euclid" in kind.spaces),
    ("heun", {"last": "euler"}),
    ("edm_heun", {"s_churn": 3.0}),
    ("ddim", {"eta": 1.0}),
    *(("torchdiffeq", {"method": m}) for m in ("euler", "rk4", "heun3")),
    ("diffusers", {"scheduler": "HeunDiscreteScheduler"}),
]
MIX = Mixture()


@pytest.mark.parametrize("line, where, num_steps", thinned(3, LINES, list(PATHS), [1, 2, 7]))
def test_what_it_says_is_what_it_asks(line: tuple[str, dict[str, Any]], where: str, num_steps: int) -> None:
    sampler, path = build(line[0], **line[1]), PATHS[where]
    try:
        times = sampler.times(path, num_steps)
        told = sampler.evaluations(path, times)
    except ValueError:  # a path that it refuses
        return
    noise = NoiseSource([0, 1])
    x = points(2).float() * float(path.prior_scale)
    steps = list(sampler.steps(MIX.denoiser(path), x, noise=noise, num_steps=num_steps))
    counted = [s.evaluations for s in steps]
    if told is None:
        assert sampler.mixes  # a solver that chooses its steps
    else:
        assert [sum(told[: k + 1]) for k in range(len(told))] == counted
