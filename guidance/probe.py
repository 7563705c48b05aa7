"""What guidance did in each step, from predictions that were made anyway. Ask for it with ``ctx.taps["probe"]
= []``.

In the path's native space, over all entries of a sample, o the branch that is guided away from (uncond, or
else weak) and g the result:

    difference ‖c − o‖    cosine ⟨c, o⟩/(‖c‖‖o‖)    ratio ‖c‖/‖o‖    scale ⟨g − o, c − o⟩/‖c − o‖²
"""

from collections.abc import Mapping
from typing import Any

from guidance.rules import dot
from samplers.prediction import Prediction

MEASURES = ("difference", "cosine", "ratio", "scale")


def record(
    rows: list[dict[str, Any]], branches: Mapping[str, Prediction], result: Prediction, step: int, t: float
) -> None:
    """Append the mean over samples of each measure, ``{"step", "t", "branch", **MEASURES}``."""
    name = "uncond" if "uncond" in branches else next(n for n in branches if n != "cond")
    space = result.path.native
    c, o, g = branches["cond"].to(space), branches[name].to(space), result.to(space)
    if o.shape != c.shape:  # a prior that knows the first channels only
        c, g = c[:, : o.shape[1]], g[:, : o.shape[1]]
    d = c - o
    dd, cc, oo = dot(d, d), dot(c, c), dot(o, o)
    tiny = 1e-30
    values = {
        "difference": dd.sqrt(),
        "cosine": dot(c, o) / (cc * oo).sqrt().clamp_min(tiny),
        "ratio": (cc / oo.clamp_min(tiny)).sqrt(),
        "scale": dot(g - o, d) / dd.clamp_min(tiny),
    }
    rows.append({"step": step, "t": t, "branch": name, **{k: float(v.mean()) for k, v in values.items()}})
