"""Rescaled guidance (Lin et al. 2305.08891, section 3.4): bring the guided prediction's standard deviation
back to the conditional's,

    g' = φ · g · std(c)/std(g) + (1 − φ) · g

over all entries of a sample, in the space that the path's users call native."""

from typing import Any

from torch import Tensor

from guidance.rules import Rule, Tensors
from samplers.paths import Path, Time


class Rescale(Rule):
    """``phi`` 0 (off) to 1 (full). It acts after every rule that combines."""

    stage = "finish"
    needs: frozenset[str] = frozenset()

    def __init__(self, phi: float = 0.7):
        if not 0 <= phi <= 1:
            raise ValueError(f"got rescale phi={phi}, expected 0 to 1")
        self.phi = phi

    def combine(
        self, predictions: Tensors, *, x: Tensor, t: Time, path: Path, state: dict[str, Any]
    ) -> Tensor | None:
        if "guided" not in predictions:
            return None
        g, c = predictions["guided"], predictions["cond"]
        axes = tuple(range(1, g.ndim))
        factor = c.std(axes, keepdim=True) / g.std(axes, keepdim=True).clamp_min(1e-12)
        return g * (self.phi * factor + (1 - self.phi))
