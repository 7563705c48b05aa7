"""Floor 2: paths, couplings, parameterisations, objectives, the queryable `Denoiser` and every solver."""

from typing import Any

from backbones import registry
from samplers.base import Sampler, Step
from samplers.coupling import Coupled
from samplers.denoiser import Denoiser, FunctionDenoiser
from samplers.objective import Batch, Loss, Objective, build_objective
from samplers.paths import Coefficients, EDMPath, LinearPath, LipmanPath, TrigPath, VPPath, beta_table
from samplers.prediction import Prediction

__all__ = [
    "Batch", "Coefficients", "Coupled", "Denoiser", "EDMPath", "FunctionDenoiser", "LinearPath", "LipmanPath", "Loss", "Objective", "Prediction",
    "REGISTRY", "Sampler", "Step", "TrigPath", "VPPath", "beta_table", "build", "build_objective",
]  # fmt: skip

REGISTRY = {
    "ddpm": "samplers.ancestral:DDPM",
    "ddim": "samplers.ancestral:DDIM",
    "dpmpp_1": "samplers.dpmpp:DPMpp1",
    "dpmpp_2m": "samplers.dpmpp:DPMpp2M",
    "euler": "samplers.ode:Euler",
    "ab2": "samplers.ode:AB2",
    "midpoint": "samplers.ode:Midpoint",
    "heun": "samplers.ode:Heun",
    "rk4": "samplers.ode:RK4",
    "edm_heun": "samplers.stochastic:EDMHeun",
    "euler_maruyama": "samplers.stochastic:EulerMaruyama",
    "bridge": "samplers.bridge_steps:BridgeAncestral",
    "bridge_sde": "samplers.bridge_steps:BridgeSDE",
    "graph": "samplers.graph_steps:GraphAncestral",
    "diffusers": "samplers.from_diffusers:Diffusers",
    "torchdiffeq": "samplers.adaptive:TorchDiffEq",
}


def build(name: str, **options: Any) -> Sampler:
    """A sampler by its registry name, e.g. ``build("ddim", eta=0.5, spacing="leading")``. Raises ``ValueError`` for unknown names or options."""
    target = registry.resolve(REGISTRY, name, "sampler")
    gather = getattr(target, "gather", None)  # a sampler that passes options on to another library
    return registry.build(REGISTRY, name, "sampler", options if gather is None else gather(options))
