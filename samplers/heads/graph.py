"""What a network on graphs emits, and what is predicted of them (Vignac et al. 2209.14734; Liu et al.
2401.13858).

The network emits logits of the clean atoms and bonds; the loss is their cross-entropy, atoms + λ bonds, each
the mean over a graph's own. Guidance is linear in them, that is in log p(z_0 | z_t) of every block, or, in
the space ``logp``, in the log p(z_s | z_t) of the next state that the noise's kernel gives.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from backbones.types import Backbone, Cond, RunContext
from samplers.batch import Error, State
from samplers.paths.graph import GraphPath
from samplers.prediction import Prediction
from samplers.spaces.packing import unpack, valid_of


@dataclass(frozen=True, kw_only=True)
class GraphPrediction(Prediction):
    """Logits (B, n, dx + 5n) of the clean graph, or ``logp`` of the state at ``s``; ``valid`` (B, n): which
    atoms are real."""

    path: GraphPath
    valid: Tensor
    s: float

    def rows(self, rows: slice, x: Tensor, t: float | Tensor) -> "GraphPrediction":
        heads = {k: v[rows] for k, v in self.heads.items()}
        return replace(self, value=self.value[rows], x=x, t=t, valid=self.valid[rows], heads=heads)


class Logits:
    """The only parameterisation of graphs. ``bond_weight`` λ of the loss."""

    space, variance, channels, cond_source = "logits", None, 1, False

    def __init__(self, *, bond_weight: float = 10.0):
        if not bond_weight > 0:
            raise ValueError(f"got bond_weight={bond_weight}, expected a positive number")
        self.bond_weight = bond_weight

    def predict(
        self,
        net: Backbone,
        x: Tensor,
        t: float | Tensor,
        cond: Cond,
        path: GraphPath,
        ctx: RunContext | None = None,
    ) -> GraphPrediction:
        """The network's logits at x (B, n, F) and t. In a run ``ctx.t_next`` is where the step goes; without
        one it is the table's next."""
        clock = path.network_time(t).to(x).expand(len(x))
        value = net(x, clock, cond, ctx)
        valid, s = valid_of(x, cond, path.types), path.next(t, ctx)
        return GraphPrediction(space="logits", value=value, x=x, t=t, path=path, valid=valid, s=s)

    def errors(self, p: GraphPrediction, state: State, space: Any) -> list[Error]:
        """Mean cross-entropies of the atoms and of the bonds that are not known."""
        data, valid, cond, types = state.targets["data"], p.valid, state.cond, p.path.types
        atoms, bonds = unpack(p.value.float(), types)
        want, want_bonds = unpack(data, types)
        free = torch.ones_like(data, dtype=torch.bool) if cond.known is None else ~cond.known.expand_as(data)
        free_atoms, free_bonds = (v[..., 0] for v in unpack(free, types))
        eye = torch.eye(data.shape[1], dtype=torch.bool, device=data.device)
        w = (valid & free_atoms).float()
        w2 = (valid[:, :, None] & valid[:, None] & ~eye & free_bonds).float()
        ce = -(atoms.log_softmax(-1) * want).sum(-1)
        ce2 = -(bonds.log_softmax(-1) * want_bonds).sum(-1)
        of_atoms = (ce * w).sum(1) / w.sum(1).clamp_min(1)
        of_bonds = (ce2 * w2).sum((1, 2)) / w2.sum((1, 2)).clamp_min(1)
        return [
            Error("atoms", of_atoms, torch.ones(())),
            Error("bonds", of_bonds, torch.tensor(float(self.bond_weight))),
        ]


class SeenGraph:
    """A model of graphs asked on another model's path: its logits at its own step with the same ᾱ, read by
    the other's kernel. Raises ``ValueError`` for models of other atom types, or of anything but graphs."""

    space, starts = "graph", "noise"

    def __init__(self, denoiser: Any, path: GraphPath, *, snap: bool = False, clip: float | None = None):
        if denoiser.path.types != path.types:
            raise ValueError(
                "got a model of graphs of other atom types, expected the same; choose another model"
            )
        self.denoiser, self.path, self.known_trained = denoiser, path, denoiser.known_trained

    def predict(
        self, x: Tensor, t: float | Tensor, cond: Cond, ctx: RunContext | None = None
    ) -> GraphPrediction:
        own = self.denoiser.path.time_of(self.path.log_snr(t))
        made = self.denoiser.predict(x, own if isinstance(t, Tensor) else float(own), cond, ctx)
        return replace(
            made, value=made.to("logits"), space="logits", t=t, path=self.path, s=self.path.next(t, ctx)
        )
