"""What a network on graphs emits, and what is predicted of them (Vignac et al. 2209.14734; Liu et al.
2401.13858).

The network emits logits of the clean atoms and bonds; the loss is their cross-entropy, atoms + λ bonds, each
the mean over a graph's own. Guidance is linear in them, that is in log p(z_0 | z_t) of every block, or, in
the space ``logp``, in the log p(z_s | z_t) of the next state that the noise's kernel gives.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.types import Backbone, Cond, RunContext
from samplers.batch import Error, State
from samplers.paths.graph import BONDS, GraphPath, mask, pack, unpack, valid_of

SPACES = ("logits", "probs", "logp", "data")
LEAST = 1e-10  # of a probability, before its logarithm


@dataclass(frozen=True)
class GraphPrediction:
    """``value`` (B, n, dx + 5n) in ``space`` (logits of the data, or logp of the state at ``s``), made at the
    state ``x`` and time ``t``. The verbs of `samplers.prediction.Prediction`."""

    space: str
    value: Tensor
    x: Tensor
    t: float | Tensor
    path: GraphPath
    valid: Tensor
    s: float
    heads: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, space: str) -> Tensor:
        """Raises ``ValueError`` for a space that graphs do not have."""
        space = self.path.native if space == "native" else space
        if space not in SPACES:
            raise ValueError(
                f"got space {space!r} on a graph model, expected one of {', '.join(SPACES)}; graphs have "
                "neither noise nor velocity"
            )
        if space == self.space:
            return self.value
        if space == "data":
            return self.likeliest()
        if self.space != "logits":
            raise ValueError(
                f"got a graph prediction in {self.space}, which does not tell the {space} of the data; "
                "leave out space=logp"
            )
        if space == "probs":
            return softmax(self.value, self.path.types)
        return self.following().clamp_min(LEAST).log().to(self.value.dtype)

    def following(self) -> Tensor:
        """(B, n, F) probabilities p(z_s | z_t) of the next state."""
        if self.space == "logp":
            return softmax(self.value, self.path.types)
        return self.path.posterior(self.x, self.to("probs"), float(self.t), self.s, self.valid)

    def likeliest(self) -> Tensor:
        """(B, n, F) one-hot: the most probable class of every atom and bond."""
        atoms, bonds = unpack(self.value, self.path.types)
        upper = bonds.argmax(-1).triu(1)
        best = pack(
            F.one_hot(atoms.argmax(-1), atoms.shape[-1]).float(),
            F.one_hot(upper + upper.transpose(1, 2), BONDS).float(),
        )
        return mask(best, self.valid, self.path.types)

    def with_(self, space: str, value: Tensor) -> "GraphPrediction":
        return replace(self, space=self.path.native if space == "native" else space, value=value)

    def rows(self, rows: slice, x: Tensor, t: float | Tensor) -> "GraphPrediction":
        return replace(
            self,
            value=self.value[rows],
            x=x,
            t=t,
            valid=self.valid[rows],
            heads={k: v[rows] for k, v in self.heads.items()},
        )

    def head(self, name: str) -> Any:
        raise ValueError(f"graph models have no {name} head; choose the sampler graph")


def softmax(logits: Tensor, types: int) -> Tensor:
    """Of the atoms, and of every bond; float32. Written out: torch's own is slow over so few classes
    (benchmarks/softmax.py)."""

    def of(x: Tensor) -> Tensor:
        e = (x - x.amax(-1, keepdim=True)).exp()
        return e / e.sum(-1, keepdim=True)

    atoms, bonds = unpack(logits.float(), types)
    return pack(of(atoms), of(bonds))


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
        return GraphPrediction("logits", value, x, t, path, valid_of(x, cond, path.types), path.next(t, ctx))

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

    def __init__(self, denoiser: Any, path: GraphPath):
        theirs = denoiser.path
        if not isinstance(theirs, GraphPath) or not isinstance(path, GraphPath) or theirs.types != path.types:
            raise ValueError(
                "got a model of graphs beside one that is none, or of other atom types, expected the "
                "same; choose another model"
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
