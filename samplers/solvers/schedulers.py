"""Which schedulers of diffusers there are, and one of them made for a path: its table, its levels."""

import copy
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from samplers.paths import sigma_of

Options = Mapping[str, Any]


def never(o: Options) -> bool:
    return False


def always(o: Options) -> bool:
    return True


def churned(o: Options) -> bool:
    return bool(o.get("s_churn", 0))


def flow_noise(o: Options) -> bool:
    return bool(o.get("s_churn", 0)) or bool(o.get("stochastic_sampling", False))


def by_eta(o: Options) -> bool:
    return bool(o.get("eta", 0))


def sde(o: Options) -> bool:
    return str(o.get("algorithm_type", "")).startswith("sde")


# the scale of the state, whether levels are looked up by time step, and whether steps draw noise
KNOWN: dict[str, tuple[str, bool, Callable[[Options], bool]]] = {
    "DDIMParallelScheduler": ("vp", True, by_eta),
    "DDIMScheduler": ("vp", True, by_eta),
    "DDPMParallelScheduler": ("vp", True, always),
    "DDPMScheduler": ("vp", True, always),
    "DEISMultistepScheduler": ("vp", False, never),
    "DPMSolverMultistepScheduler": ("vp", False, sde),
    "DPMSolverSinglestepScheduler": ("vp", False, sde),
    "EDMDPMSolverMultistepScheduler": ("edm", False, sde),
    "EDMEulerScheduler": ("edm", False, churned),
    "EulerAncestralDiscreteScheduler": ("ve", False, always),
    "EulerDiscreteScheduler": ("ve", False, churned),
    "FlowMatchEulerDiscreteScheduler": ("flow", False, flow_noise),
    "FlowMatchHeunDiscreteScheduler": ("flow", False, churned),
    "HeunDiscreteScheduler": ("ve", False, never),
    "KDPM2AncestralDiscreteScheduler": ("ve", False, always),
    "KDPM2DiscreteScheduler": ("ve", False, never),
    "LCMScheduler": ("vp", True, always),
    "LMSDiscreteScheduler": ("ve", False, never),
    "SASolverScheduler": ("vp", False, always),
    "TCDScheduler": ("vp", True, always),
    "UniPCMultistepScheduler": ("vp", False, never),
}
MODELS_OWN = (
    "trained_betas",
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "rescale_betas_zero_snr",
    "solver_p",
)
STEPS_OWN = (
    "model_output",
    "timestep",
    "sample",
    "generator",
    "variance_noise",
    "return_dict",
    "pred_original_sample",
    "per_token_timesteps",
)


def ancestral_levels(made: Any) -> None:
    """Levels of ancestral steps of second order where they are lost to float32, from σ to a σ' that is
    thousands of times less: σ_down = σ'²/σ, σ_up² = σ'² − σ_down², and √(σ·σ_down) = σ' between the two
    calls."""
    s = torch.cat([made.sigmas[:1], made.sigmas[1:-1:2]]).double()
    after = torch.cat([s[1:], s[-1:]])
    down = after**2 / s.clamp_min(1e-30)
    between = torch.where(torch.arange(len(s)) < len(s) - 2, after, 0.0)
    for name, values in {
        "interpol": between,
        "down": down,
        "up": (after**2 - down**2).clamp_min(0).sqrt(),
    }.items():
        setattr(
            made,
            f"sigmas_{name}",
            torch.cat([values[:1], values[1:].repeat_interleave(2), values[-1:]]).float(),
        )


def table(path: Any, begin: float, size: int = 1000) -> Tensor:
    """(T,) float64: the ᾱ of a VP table with the path's noise levels, from the data to the time ``begin``:
    its own, or ``size`` of them."""
    if path.tabled:
        return path.alpha_bar[: path.used(begin)]
    if begin > path.t_start:
        t = torch.tensor(path.grid(size, begin=begin)[-2::-1], dtype=torch.float64)
    elif math.isfinite(float(sigma_of(path, path.t_start))):
        t = torch.tensor(path.grid(size)[-2::-1], dtype=torch.float64)
    else:  # there is no table of nothing but noise
        t = 1 - (torch.arange(size, dtype=torch.float64) + 0.5) / size
    return torch.sigmoid(path.log_snr(t))


def new(kind: Any, options: Options) -> Any:
    """A scheduler of its own, to be set to its steps: a copy of one with these options."""
    flat = tuple((k, tuple(v) if type(v) is list else v) for k, v in options.items())
    try:
        hash(flat)
    except TypeError:  # an option of lists within lists
        return kind(**options)
    return copy.deepcopy(_made(kind, flat))


@lru_cache(maxsize=8)
def _made(kind: Any, options: tuple[tuple[str, Any], ...]) -> Any:
    """Some set themselves to as many steps as their table has entries, which takes a second and counts until
    a run sets them to its own: of those steps there are few here."""

    def few(self: Any, num_inference_steps: int, *rest: Any, **more: Any) -> None:
        kind.set_timesteps(self, min(num_inference_steps, 4), *rest, **more)

    made = type(kind.__name__, (kind,), {"set_timesteps": few})(
        **{k: list(v) if type(v) is tuple else v for k, v in options}
    )
    made.__class__ = kind
    return made
