"""Noise on molecular graphs: every atom and every bond is a category, and is replaced by a random one ever
more often.

Graphs are packed as `samplers.spaces.packing` has it. ᾱ falls from 1 (data, step 0) to 0 (step T) by a
cosine; t = 1 − step/T. Three modes say what takes the place of a category:

    marginal    q(z_t|z_0) = ᾱ z_0 + (1 − ᾱ) m, with the marginals m of atoms and of bonds (Vignac et al.
                2209.14734)
    corrected   the same for atoms; a bond falls at first to what bonds are between its two atoms, P(bond |
                atom, atom), and ever more to the marginal: step k replaces it by a draw of
                τ_k = ᾱ_k P(· | atoms) + (1 − ᾱ_k) m. Given the clean atoms this is a chain whose product of
                steps is ᾱ_t I + (1 − ᾱ_t) τ̄_t, rows sum to one, and the posterior is Bayes' for each bond
                on its own
    reference   as published (Liu et al. 2401.13858, its code): atom and bond rows share one matrix U that
                lets each raise the other, blocks are normalised afterwards. Its rows sum to more than one, a
                product of steps is not its closed form, its posterior is a heuristic; for its checkpoints

Statistics: ``atoms`` (dx,) frequencies of types, ``bonds`` of bond classes where they are not the joint's,
``joint`` (dx, dx, 5) frequencies of (type, type, bond) over ordered pairs of different atoms, none included.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.types import Cond, RunContext
from samplers.batch import Ends, State
from samplers.paths.base import AnyPath, Restore
from samplers.paths.graph_tables import TINY, Statistics, cosine_table
from samplers.spaces.packing import BONDS, draw, mask, pack, softmax, unpack, valid_of

HEADS = {"logits": "samplers.heads.graph:Logits"}
WEIGHTS = {"shares": "samplers.weights:Shares"}
MODES = ("corrected", "marginal", "reference")
SPACES = ("logits", "probs", "logp", "data")
LEAST = 1e-10  # of a probability, before its logarithm


class GraphPath(AnyPath):
    """See the module. ``num`` steps; ``time_scale``: what the network's clock, which runs from 0 at the data
    to this, is at pure noise (1 in the original)."""

    native, space, sampler, view = "logits", "graph", "graph", "samplers.heads.graph:SeenGraph"
    heads, weights, weight = HEADS, WEIGHTS, "shares"
    fixed = ("coupling", "weight", "bound_weight", "space")

    def __init__(
        self,
        *,
        mode: str = "corrected",
        num: int = 500,
        atoms: tuple[float, ...] = (),
        joint: tuple[tuple[tuple[float, ...], ...], ...] = (),
        bonds: tuple[float, ...] = (),
        time_scale: float = 1000.0,
    ):
        if mode not in MODES:
            raise ValueError(f"got the noise mode {mode!r}, expected one of {', '.join(MODES)}")
        if num < 2:
            raise ValueError(f"got num={num}, expected at least two steps of noise")
        if not atoms:
            raise ValueError(
                "got a graph path without statistics (atoms, joint); training takes them from its data, "
                "otherwise give them"
            )
        self.mode, self.num, self.time_scale = mode, num, time_scale
        self.statistics = Statistics.of(atoms, joint, bonds)
        self.types = len(atoms)
        self.table = cosine_table(num, exact=mode != "reference")
        # (1 − ᾱ_k) W_k, the share of the marginal in what a bond has fallen to
        faded = torch.zeros(num + 1, dtype=torch.float64)
        for k in range(1, num + 1):
            beta = 1 - float(self.table[k] / self.table[k - 1])
            faded[k] = (1 - beta) * faded[k - 1] + beta * (1 - self.table[k])
        self.faded = faded

    def same_as(self, other: Any) -> bool:
        if type(other) is not type(self):
            return False
        ours, theirs = self.statistics, other.statistics
        return (self.mode, self.num, self.types, self.time_scale) == (
            other.mode,
            other.num,
            other.types,
            other.time_scale,
        ) and all(torch.equal(getattr(ours, k), getattr(theirs, k)) for k in ("atoms", "bonds", "between"))

    # ---- training --------------------------------------------------------------------------------

    def trained_time(self, t: Tensor) -> Tensor:
        """Times moved to the table's noisier step."""
        return (t.double() * self.num - 1e-9).floor().clamp(0, self.num - 1) / self.num

    def coupling(self, spec: str | Mapping[str, Any]) -> None:
        """Graphs have no sources: noise is drawn from the data."""

    def state(self, space: Any, pairs: Ends, t: Tensor, noise: Any) -> State:
        """The data with noise at times (B,)."""
        valid = valid_of(pairs.data, pairs.cond, self.types)
        p = self.noised(pairs.data, t, valid)
        noised = draw(p, noise, valid, self.types, stream="graph", loops=self.mode == "reference")
        return State(noised, t, pairs.cond, {"data": pairs.data})

    # ---- time ------------------------------------------------------------------------------------

    def step_of(self, t: float | Tensor) -> Tensor:
        """() or (B,) int64 steps of noise at times."""
        return ((1 - torch.as_tensor(t, dtype=torch.float64)) * self.num).round().long().clamp(0, self.num)

    def network_time(self, t: float | Tensor) -> Tensor:
        return self.time_scale * self.step_of(t).double() / self.num

    def grid(self, num_steps: int, spacing: str | None = None, *, begin: float | None = None) -> list[float]:
        """num_steps + 1 times from 0 to 1, on steps of the table. Raises ``ValueError`` for more steps than
        it has."""
        if not 1 <= num_steps <= self.num:
            raise ValueError(f"got num_steps={num_steps}, expected 1 to {self.num} on this graph model")
        if spacing is not None:
            raise ValueError(f"got spacing={spacing!r}, which graph models do not have; leave it out")
        return [1 - round(self.num * (1 - i / num_steps)) / self.num for i in range(num_steps + 1)]

    def log_snr(self, t: float | Tensor) -> Tensor:
        """log ᾱ/(1 − ᾱ)."""
        bar = self.table.to(self.step_of(t).device)[self.step_of(t)].clamp(1e-12, 1 - 1e-12)
        return torch.log(bar) - torch.log1p(-bar)

    def time_of(self, log_snr: float | Tensor) -> Tensor:
        """The nearest step's time."""
        table = self.table.clamp(1e-12, 1 - 1e-12)
        wanted = torch.as_tensor(log_snr, dtype=torch.float64)
        return 1 - (table.logit() - wanted[..., None]).abs().argmin(-1) / self.num

    # ---- forward ---------------------------------------------------------------------------------

    def next(self, t: float | Tensor, ctx: RunContext | None) -> float:
        """Where a step from t goes: as the run says, otherwise to the table's next."""
        if ctx is not None and ctx.t_next is not None:
            return ctx.t_next
        return min(1.0, float(t.reshape(-1)[0] if isinstance(t, Tensor) else t) + 1 / self.num)

    def prior(self, valid: Tensor) -> Tensor:
        """(B, n, F) probabilities of pure noise."""
        s = self.statistics
        batch, n = valid.shape
        atoms, bonds = (
            s.atoms.to(valid.device).expand(batch, n, -1),
            s.bonds.to(valid.device).expand(batch, n, n, -1),
        )
        return mask(pack(atoms, bonds), valid, self.types)

    def noised(self, x: Tensor, t: float | Tensor, valid: Tensor) -> Tensor:
        """q(z_t | z_0): x (B, n, F) clean one-hot, t () or (B,) → (B, n, F) float64 probabilities, 0 on
        padding and diagonal."""
        k = self.step_of(t).to(x.device)
        a = self.table.to(x.device)[k].view(-1, 1, 1)  # (B or 1, 1, 1)
        if self.mode == "reference":
            return mask(self._normal(self._times(x.double(), a)), valid, self.types)
        atoms, bonds = unpack(x.double(), self.types)
        target, b = self.fallen(self.between(atoms), k), a[..., None]
        return mask(
            pack(a * atoms + (1 - a) * self.statistics.atoms.to(x.device), b * bonds + (1 - b) * target),
            valid,
            self.types,
        )

    def between(self, atoms: Tensor) -> Tensor:
        """(B, n, n, 5): P(bond | the two atoms), for probabilities of types (B, n, dx) their mean; the
        marginal (5,) in the mode of that name."""
        if self.mode == "marginal":
            return self.statistics.bonds.to(atoms.device)
        return torch.einsum("bia,acj,bkc->bikj", atoms, self.statistics.between.to(atoms.device), atoms)

    def fallen(self, between: Tensor, k: Tensor) -> Tensor:
        """τ̄_k: what a bond that was replaced by step k, () or (B,), is drawn from; like ``between``."""
        if between.ndim == 1:
            return between
        w = (
            (self.faded.to(between.device)[k] / (1 - self.table.to(between.device)[k]).clamp_min(TINY))
            .clamp(0, 1)
            .view(-1, 1, 1, 1)
        )
        return (1 - w) * between + w * self.statistics.bonds.to(between.device)

    def restorer(self, given: Tensor, known: Tensor, cond: Cond, noise: Any) -> Restore:
        valid = valid_of(given, cond, self.types)

        def restore(x: Tensor, t: float) -> Tensor:
            return torch.where(
                known, draw(self.noised(given, t, valid), noise, valid, self.types, stream="known").to(x), x
            )

        return restore

    # ---- reverse ---------------------------------------------------------------------------------

    def posterior(self, z: Tensor, clean: Tensor, t: float, s: float, valid: Tensor) -> Tensor:
        """p(z_s | z_t) = Σ_c p(c) q(z_s | z_t, c): z (B, n, F) one-hot at t, ``clean`` (B, n, F)
        probabilities of the data → (B, n, F) float64 probabilities at s > t, normalised block by block, 0 on
        padding and diagonal.

        In the corrected mode the atoms that a bond falls by enter by their mean over ``clean``; it is exact
        where they are known.
        """
        kt, ks = self.step_of(t), self.step_of(s)
        z, clean = z.double(), clean.double()
        at, as_ = self.table[kt].to(z.device), self.table[ks].to(z.device)
        keep = at / as_
        if self.mode == "reference":
            return mask(self._heuristic(z, clean, at, as_, keep), valid, self.types)
        atoms, bonds = unpack(z, self.types)
        hat, hat_bonds = unpack(clean, self.types)
        m = self.statistics.atoms.to(z.device)
        first = _bayes(atoms, hat, m, m, m, at, as_, keep)
        pairs = self.between(hat)
        now, then = self.fallen(pairs, kt), self.fallen(pairs, ks)
        # what the steps from s to t draw from
        between = ((1 - at) * now - keep * (1 - as_) * then) / (1 - keep).clamp_min(TINY)
        second = _bayes(bonds, hat_bonds, now, then, between.clamp_min(0), at, as_, keep)
        return mask(self._normal(pack(first, second)), valid, self.types)

    # ---- predictions -----------------------------------------------------------------------------

    def convert(self, prediction: Any, to: str) -> Tensor:
        """A prediction (`samplers.heads.graph.GraphPrediction`) as logits or probabilities of the clean
        graph, as its likeliest one (``data``), or as ``logp`` of the next state."""
        if to not in SPACES:
            raise ValueError(
                f"got space {to!r} on a graph model, expected one of {', '.join(SPACES)}; graphs have "
                "neither noise nor velocity"
            )
        if to == "data":
            return self.likeliest(prediction.value, prediction.valid)
        if prediction.space != "logits":
            raise ValueError(
                f"got a graph prediction in {prediction.space}, which does not tell the {to} of the data; "
                "leave out space=logp"
            )
        if to == "probs":
            return softmax(prediction.value, self.types)
        return self.following(prediction).clamp_min(LEAST).log().to(prediction.value.dtype)

    def following(self, prediction: Any) -> Tensor:
        """(B, n, F) probabilities p(z_s | z_t) of the next state."""
        if prediction.space == "logp":
            return softmax(prediction.value, self.types)
        p = prediction.to("probs")
        return self.posterior(prediction.x, p, float(prediction.t), prediction.s, prediction.valid)

    def likeliest(self, value: Tensor, valid: Tensor) -> Tensor:
        """(B, n, F) one-hot: the most probable class of every atom and bond."""
        atoms, bonds = unpack(value, self.types)
        upper = bonds.argmax(-1).triu(1)
        best = pack(
            F.one_hot(atoms.argmax(-1), atoms.shape[-1]).float(),
            F.one_hot(upper + upper.transpose(1, 2), BONDS).float(),
        )
        return mask(best, valid, self.types)

    # ---- the published matrix --------------------------------------------------------------------

    def _times(self, v: Tensor, bar: Tensor) -> Tensor:
        """v Q̄ for rows v (B, n, F)."""
        s = self.statistics
        atoms, bonds = unpack(v, self.types)
        all_atoms, all_bonds = atoms.sum(-1, keepdim=True), bonds.sum(2)  # (B, n, 1), (B, n, 5)
        to_atoms = all_atoms * s.atoms.to(v.device) + all_bonds @ s.of_bond.to(v.device)
        # (B, n, 5), the same for every place
        to_bonds = atoms @ s.of_atom.to(v.device) + all_bonds.sum(-1, keepdim=True) * s.bonds.to(v.device)
        return bar * v + (1 - bar) * pack(to_atoms, to_bonds[:, :, None].expand_as(bonds))

    def _transposed(self, v: Tensor, bar: Tensor) -> Tensor:
        """v Q̄ᵀ."""
        s = self.statistics
        atoms, bonds = unpack(v, self.types)
        all_bonds = bonds.sum(2)
        by_atoms = (atoms @ s.atoms.to(v.device))[..., None]  # (B, n, 1): m_X · x
        to_atoms = by_atoms + all_bonds @ s.of_atom.to(v.device).T
        to_bonds = atoms @ s.of_bond.to(v.device).T + (all_bonds @ s.bonds.to(v.device))[..., None]
        return bar * v + (1 - bar) * pack(to_atoms, to_bonds[:, :, None].expand_as(bonds))

    def _heuristic(self, z: Tensor, clean: Tensor, at: Tensor, as_: Tensor, keep: Tensor) -> Tensor:
        """(z Q_tᵀ) ∘ ((p/den) Q̄_s), den = Q̄_t z: never a matrix of (F, F)."""
        den = self._transposed(z, at)
        share = clean / torch.where(den == 0, torch.ones_like(den), den)
        return self._normal(self._transposed(z, keep) * self._times(share, as_))

    def _normal(self, p: Tensor) -> Tensor:
        """Blocks normalised; a block of zeros becomes uniform."""
        atoms, bonds = unpack(p, self.types)
        return pack(_normal(atoms), _normal(bonds))


def _normal(p: Tensor) -> Tensor:
    p = torch.where((p.sum(-1, keepdim=True) <= 0), torch.full_like(p, 1e-5), p)
    return p / p.sum(-1, keepdim=True)


def _bayes(
    z: Tensor,
    clean: Tensor,
    now: Tensor,
    then: Tensor,
    between: Tensor,
    at: Tensor,
    as_: Tensor,
    keep: Tensor,
) -> Tensor:
    """Σ_c p(c) q(z_s = d | z_t, c), not normalised, for kernels Q̄ = ᾱ I + (1 − ᾱ) 1 τᵀ: z one-hot and p(c)
    (..., K); targets up to t, up to s, from s to t."""
    seen = (now * z).sum(-1, keepdim=True)  # τ̄_t of the class that z is in
    share = clean / (at * z + (1 - at) * seen).clamp_min(TINY)
    step = keep * z + (1 - keep) * (between * z).sum(-1, keepdim=True)
    return step * (as_ * share + (1 - as_) * then * share.sum(-1, keepdim=True))
