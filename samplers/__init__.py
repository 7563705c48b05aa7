"""Floor 2: paths, couplings, parameterisations, objectives, the queryable `Denoiser` and every solver."""

from typing import Any

from backbones import registry
from backbones.plugins import Registry
from samplers.couplings.coupling import Coupled
from samplers.denoiser import Denoiser, FunctionDenoiser
from samplers.objective import Batch, Loss, Objective, build_objective
from samplers.paths import Coefficients, EDMPath, LinearPath, LipmanPath, TrigPath, VPPath, beta_table
from samplers.prediction import Prediction
from samplers.solvers.base import Sampler, Step

__all__ = [
    "Batch",
    "Coefficients",
    "Coupled",
    "Denoiser",
    "EDMPath",
    "FunctionDenoiser",
    "LinearPath",
    "LipmanPath",
    "Loss",
    "Objective",
    "Prediction",
    "REGISTRY",
    "Sampler",
    "Step",
    "TrigPath",
    "VPPath",
    "beta_table",
    "build",
    "build_objective",
]

REGISTRY = Registry(
    "samplers",
    {
        "ddpm": "samplers.solvers.ancestral:DDPM",
        "ddim": "samplers.solvers.ancestral:DDIM",
        "dpmpp_1": "samplers.solvers.dpmpp:DPMpp1",
        "dpmpp_2m": "samplers.solvers.dpmpp:DPMpp2M",
        "euler": "samplers.solvers.ode:Euler",
        "ab2": "samplers.solvers.ode:AB2",
        "midpoint": "samplers.solvers.ode:Midpoint",
        "heun": "samplers.solvers.ode:Heun",
        "rk4": "samplers.solvers.ode:RK4",
        "edm_heun": "samplers.solvers.stochastic:EDMHeun",
        "euler_maruyama": "samplers.solvers.stochastic:EulerMaruyama",
        "bridge": "samplers.solvers.bridge:BridgeAncestral",
        "bridge_sde": "samplers.solvers.bridge:BridgeSDE",
        "graph": "samplers.solvers.graph:GraphAncestral",
        "masked": "samplers.solvers.masked:Masked",
        "diffusers": "samplers.solvers.from_diffusers:Diffusers",
        "torchdiffeq": "samplers.solvers.adaptive:TorchDiffEq",
    },
    needs=("steps", "step", "starts", "spaces"),
)


def build(name: str, **options: Any) -> Sampler:
    """A sampler by its registry name, e.g. ``build("ddim", eta=0.5, spacing="leading")``. Raises
    ``ValueError`` for unknown names or options."""
    target = registry.resolve(REGISTRY, name, "sampler")
    gather = getattr(target, "gather", None)  # a sampler that passes options on to another library
    return registry.build(REGISTRY, name, "sampler", options if gather is None else gather(options))
