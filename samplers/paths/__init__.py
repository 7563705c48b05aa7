"""All paths from source to data, and the clocks on them. t = 0 is the source (noise), t = 1 the data.

    x_t = alpha(t)·data + sigma(t)·noise

`base` has what they share (`AnyPath` is the base of paths of one's own), `flows`, `vp` and `ve` the paths
themselves. ``warp`` bends a clock: with
τ in [0, 1] along the path,

    τ ← τ^skew,   τ ← τ / (τ + shift·(1 − τ))

so that values above 1 of either spend more of the steps (or training times) at the noise end; ``shift`` is
that of Esser et al. 2403.03206, which on the linear path multiplies sigma/alpha by ``shift``.
"""

from torch import Tensor

from backbones.plugins import Registry
from samplers.paths.base import AnyPath, GaussianPath, Path
from samplers.paths.coefficients import Coefficients, Time, as_time, check_steps, no_spacing, sigma_of
from samplers.paths.flows import Flow, LinearPath, LipmanPath, TrigPath
from samplers.paths.ve import EDMPath
from samplers.paths.vp import VPPath, beta_table

__all__ = [
    "ANGLES",
    "AnyPath",
    "BRIDGES",
    "EVERY",
    "GRAPHS",
    "Coefficients",
    "EDMPath",
    "Flow",
    "GaussianPath",
    "LinearPath",
    "LipmanPath",
    "PATHS",
    "TOKENS",
    "Path",
    "Time",
    "TrigPath",
    "VPPath",
    "as_time",
    "beta_table",
    "check_steps",
    "check_warp",
    "no_spacing",
    "sigma_of",
    "warp",
]

PATHS = {  # from noise
    "linear": "samplers.paths.flows:LinearPath",
    "lipman": "samplers.paths.flows:LipmanPath",
    "trig": "samplers.paths.flows:TrigPath",
    "vp": "samplers.paths.vp:VPPath",
    "edm": "samplers.paths.ve:EDMPath",
}
BRIDGES = {"brownian": "samplers.paths.bridge:BrownianBridge", "i2sb": "samplers.paths.bridge:I2SBPath"}
GRAPHS = {"graph": "samplers.paths.graph:GraphPath"}
ANGLES = {
    "geodesic": "samplers.paths.angles:GeodesicPath",
    "wrapped_vp": "samplers.paths.angles:WrappedVPPath",
}
TOKENS = {"masked": "samplers.paths.tokens:TokenPath"}
EVERY = Registry("paths", {**PATHS, **BRIDGES, **GRAPHS, **ANGLES, **TOKENS})


def check_warp(shift: float, skew: float) -> None:
    if shift <= 0 or skew <= 0:
        raise ValueError(f"got shift={shift}, skew={skew}, expected positive numbers; 1 changes nothing")


def warp(
    path: Path, t: Tensor, shift: float = 1.0, skew: float = 1.0, *, begin: float | None = None
) -> Tensor:
    """Times (...) moved along the path from ``begin`` (its own start) on; the ends stay where they are."""
    if shift == 1 and skew == 1:
        return t
    begin = path.t_start if begin is None else begin
    along = ((t - begin) / (1 - begin)).clamp(0, 1) ** skew
    return begin + (1 - begin) * along / (along + shift * (1 - along))
