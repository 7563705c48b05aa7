"""Tangential damping (TCFG, Kwon et al. 2503.18137): keep of the unconditional prediction only what lies
along the first right singular vector v₁ of the two rows (u, c) of each sample, û = ⟨u, v₁⟩ v₁.

In closed form, without an SVD: v₁ = cos θ · c + sin θ · u up to its length, where θ is the angle of the first
eigenvector of the 2 × 2 Gram matrix,

    θ = ½ atan2(2⟨c, u⟩, ⟨c, c⟩ − ⟨u, u⟩),      û = sin θ cos θ · c + sin² θ · u

which also holds for c = u (û = u), u = 0, c = 0 and c = −u. Where both have one norm, û = (c + u)/2, and
guidance at scale w after it is plain guidance at (1 + w)/2: predictions of the noise nearly have, those of
data or velocity do not.
"""

from typing import Any

import torch
from torch import Tensor

from guidance.rules import Rule, Tensors, dot
from samplers.paths import Path, Time
from samplers.prediction import SPACES


def damped(c: Tensor, u: Tensor) -> Tensor:
    """û of (B, ...) conditional and unconditional predictions, each sample on its own."""
    cc, uu, cu = dot(c, c), dot(u, u), dot(c, u)
    theta = 0.5 * torch.atan2(2 * cu, cc - uu)
    return (theta.sin() * theta.cos()).to(c) * c + theta.sin().square().to(c) * u


class Tangential(Rule):
    """``space``: noise as in the paper, or data, v, velocity, score, or native (what the model's users call
    its output). Needs a rule that combines."""

    stage = "change"
    needs: frozenset[str] = frozenset()
    changes = frozenset({"uncond"})

    def __init__(self, space: str = "noise"):
        if space not in (*SPACES, "native"):
            raise ValueError(f"got tcfg space {space!r}, expected one of {', '.join(SPACES)} or native")
        self.space = space

    def transform(
        self, predictions: Tensors, *, x: Tensor, t: Time, path: Path, state: dict[str, Any]
    ) -> dict[str, Tensor]:
        return (
            {"uncond": damped(predictions["cond"], predictions["uncond"])} if "uncond" in predictions else {}
        )
