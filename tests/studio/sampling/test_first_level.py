"""A run whose sampler begins further down the path than the path does is given a state of that level."""

import pytest
import torch
from thinned import thinned
from torch import Tensor

from backbones import Cond
from samplers import EDMPath, FunctionDenoiser, LinearPath, Prediction, VPPath
from samplers.paths import Path, Time
from studio.codecs.codec import Scale
from studio.sampling.engine import Request, run, stream

MEAN, STD, N = 0.7, 0.5, 1000


def exact(path: Path) -> FunctionDenoiser:
    """The model of N(MEAN, STD²)."""

    def model(x: Tensor, t: Time, cond: Cond) -> Prediction:
        c = path.coefficients(t)
        gain = c.alpha * STD**2 / (c.alpha**2 * STD**2 + c.sigma**2)
        return Prediction("data", (MEAN + gain * (x - c.alpha * MEAN)).to(x.dtype), x, t, path)

    return FunctionDenoiser(path, model)


PATHS = {"edm": EDMPath(), "edm20": EDMPath(sigma_max=20.0), "linear": LinearPath(), "vp": VPPath()}
SAMPLERS = [
    "diffusers(scheduler=DDIMScheduler)",
    "diffusers(scheduler=DDPMScheduler)",
    "diffusers(scheduler=TCDScheduler,eta=0.0)",
    "diffusers(scheduler=DDIMScheduler,timestep_spacing=leading)",
    "diffusers(scheduler=HeunDiscreteScheduler,timestep_spacing=leading)",
    "diffusers(scheduler=EDMEulerScheduler,sigma_max=15.0)",
    "diffusers(scheduler=KDPM2AncestralDiscreteScheduler)",
    "diffusers(scheduler=FlowMatchEulerDiscreteScheduler)",
]


@pytest.mark.parametrize("sampler, where", thinned(4, SAMPLERS, list(PATHS)))
def test_samples_have_the_spread_of_the_data(sampler: str, where: str) -> None:
    path = PATHS[where]
    request = Request(tuple(range(N)), num_steps=20 if "Flow" in sampler else 40, sampler=sampler, batch=N)
    values = run(stream(exact(path), (1,), Scale(), request, device=torch.device("cpu")), Scale(), N)
    assert float(values.mean()) == pytest.approx(MEAN, abs=0.12)
    assert float(values.std()) == pytest.approx(STD, rel=0.15)
