"""Adaptive projected guidance (Sadat et al. 2410.02416), on data predictions. With d = c − u:

    m ← d + β m              momentum over steps (β < 0 pushes against what was done before)
    d ← m · min(1, r/‖m‖)    a bound on its norm
    d ← d⊥ + η d∥            the part along c, which saturates, damped
    g = c + (w − 1) d

That is ``form="paper"``. diffusers adds to the unconditional prediction, u + w d; ComfyUI's node is c + w d.
``start_step`` makes it the mix that diffusers calls AdaptiveProjectedMix: plain guidance at ``cfg`` in all
steps up to that one, the momentum already running.
"""

from typing import Any

import torch
from torch import Tensor

from guidance.rules import Interval, Rule, Tensors, check_scale, dot
from samplers.paths import Path, Time
from samplers.prediction import SPACES

FORMS = ("paper", "diffusers", "comfyui")


class APG(Rule):
    """``scale`` w; ``eta`` η; ``norm_threshold`` r in units of the data prediction's norm (0: none);
    ``momentum`` β (0: none). ``norm_dim``: the axis of a sample that norms and projections run over, all of
    them by default. ``interval``, ``interval_sigma`` as in cfg; ``space``: where it works."""

    def __init__(
        self,
        scale: float = 1.0,
        *,
        eta: float = 0.0,
        norm_threshold: float = 0.0,
        momentum: float = 0.0,
        form: str = "paper",
        norm_dim: int | None = None,
        interval: tuple[float, float] | None = None,
        interval_sigma: tuple[float, float] | None = None,
        start_step: int | None = None,
        cfg: float = 1.0,
        space: str = "data",
    ):
        self.scale, self.cfg, self.where = (
            check_scale(scale, "apg scale"),
            check_scale(cfg, "apg cfg"),
            Interval(interval, interval_sigma),
        )
        if form not in FORMS:
            raise ValueError(f"got apg form {form!r}, expected one of {', '.join(FORMS)}")
        if not norm_threshold >= 0:
            raise ValueError(
                f"got apg norm_threshold={norm_threshold}, expected a positive bound, or 0 for none"
            )
        if not abs(momentum) < 1:
            raise ValueError(f"got apg momentum={momentum}, expected between -1 and 1; the paper uses -0.5")
        if space not in (*SPACES, "native"):
            raise ValueError(f"got apg space {space!r}, expected one of {', '.join(SPACES)} or native")
        self.eta, self.norm_threshold, self.momentum, self.form = eta, norm_threshold, momentum, form
        self.norm_dim, self.start_step, self.space = norm_dim, start_step, space

    def active(self, t: float, path: Path) -> bool:
        off = 0 if self.form == "comfyui" else 1
        return (self.scale != off or (self.start_step is not None and self.cfg != 1)) and self.where.contains(
            t, path
        )

    def combine(
        self, predictions: Tensors, *, x: Tensor, t: Time, path: Path, state: dict[str, Any]
    ) -> Tensor:
        c, u = predictions["cond"], predictions["uncond"]
        base = predictions.get("guided", c)
        difference = c - u
        if self.momentum and "mean" in state:
            difference = difference + self.momentum * state["mean"]
        state["mean"] = difference
        if self.start_step is not None and state["step"] <= self.start_step:
            return base + (self.cfg - 1) * (c - u)
        update = self._projected(difference, c)
        if self.form == "diffusers":
            return base + (u - c) + self.scale * update
        return base + (self.scale - (self.form == "paper")) * update

    def _projected(self, d: Tensor, c: Tensor) -> Tensor:
        if self.norm_threshold:
            norm = self._dot(d, d).sqrt().clamp_min(1e-30)
            d = d * (self.norm_threshold / norm).clamp_max(1).to(d)
        along = self._dot(d, c) / self._dot(c, c).clamp_min(1e-30)
        parallel = along.to(d) * c
        return d - parallel + self.eta * parallel

    def _dot(self, a: Tensor, b: Tensor) -> Tensor:
        if self.norm_dim is None:
            return dot(a, b)
        return (a * b).sum(
            self.norm_dim, keepdim=True, dtype=torch.float32 if a.device.type == "mps" else torch.float64
        )
