"""Decays of averages of weights, as configs name them: ``"0.9999"`` is a constant decay with the warm-up
min(d, (1 + n)/(10 + n)); ``"power-12"`` the power-function profile of Karras et al. 2312.02696, β_n = (1 −
1/n)^(γ + 1), whose horizon grows with training."""

import math


def decay_at(name: str, n: int) -> float:
    """The decay of the n-th update (from 1). Raises ``ValueError`` for a name that is neither a decay nor
    power-γ."""
    try:
        if name != name.strip():
            raise ValueError
        if name.startswith("power-"):
            gamma = float(name.removeprefix("power-"))
            if not (gamma > -1 and math.isfinite(gamma)):
                raise ValueError
            return (1 - 1 / n) ** (gamma + 1)
        decay = float(name)
        if not 0 <= decay < 1:
            raise ValueError
    except ValueError:
        raise ValueError(f"got EMA {name!r}, expected a decay such as '0.9999' or 'power-12'") from None
    return min(decay, (1 + n) / (10 + n))


def check_profile(name: str) -> None:
    """Raises ``ValueError`` for a name that is no average."""
    decay_at(name, 1)
