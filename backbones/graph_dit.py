"""Graph DiT (Liu et al. 2401.13858): a transformer over atoms that denoises a molecule's atoms and bonds
together.

A token is an atom with its row of bonds, [x_i, e_i1, …, e_in]; conditions and time modulate every block. Two
forms of a block:

    original    h += gate · (LN(f(h))(1 + scale) + shift)          normed after the branch, logits normed too
    pre-norm    h += gate · f(LN(h)(1 + scale) + shift)            as in DiT, and one modulation network for
                                                                   all blocks

``bond_bias`` adds a learned number for each bond class to the attention scores. ``pair_head`` adds what two
atoms say together to what their rows say of the bond. Without ``absolute`` the bond row is no input and bonds
come from pairs of atoms alone: the network is then equivariant, a permutation of the atoms permutes its
output.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.attention import Bias, attend
from backbones.caching.reuse import through
from backbones.encoders import ClassEncoder, KnownEmbedder, NamedEncoders, TimeEncoder, conditioned
from backbones.graph_conditions import Conditions, grouped, modulated
from backbones.inference import activated
from backbones.types import Cond, RunContext

BONDS = 5  # none, single, double, triple, aromatic
SURE = 30.0  # logit of what is known


class GraphAttention(nn.Module):
    """Heads with normed queries and keys (LayerNorm with an affine map each)."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.q_norm, self.k_norm = nn.LayerNorm(dim // heads), nn.LayerNorm(dim // heads)

    def forward(self, h: Tensor, bias: Tensor, ctx: RunContext | None) -> Tensor:
        q, k, v = self.qkv(h).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, n, d) each
        q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        return self.proj(attend(q, k, v, Bias(bias, blind=False), ctx).transpose(1, 2).flatten(2))


class GraphMLP(nn.Module):
    def __init__(self, dim: int, hidden: int, out: int | None = None):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim if out is None else out)

    def forward(self, h: Tensor) -> Tensor:
        return self.fc2(activated(h, self.fc1, "gelu", "none"))


def modulation(dim: int, out: int) -> nn.Sequential:
    """Linear, SiLU, Linear, as the original has it for every block; it starts at nothing, since its first
    layer is zero."""
    net = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, out))
    nn.init.zeros_(net[0].weight)  # type: ignore[arg-type]
    nn.init.zeros_(net[0].bias)  # type: ignore[arg-type]
    return net


class GraphBlock(nn.Module):
    def __init__(self, dim: int, heads: int, ratio: float, *, original: bool, bond_bias: bool):
        super().__init__()
        self.original = original
        self.attn, self.mlp = GraphAttention(dim, heads), GraphMLP(dim, int(dim * ratio))
        if original:
            self.adaLN_modulation = modulation(dim, 6 * dim)
        else:
            # of this block, to the modulation that all share
            self.offsets = nn.Parameter(torch.zeros(6 * dim))
        self.bond_bias = nn.Linear(BONDS, heads, bias=False) if bond_bias else None

    def forward(self, h: Tensor, c: Tensor, bias: Tensor, bonds: Tensor, ctx: RunContext | None) -> Tensor:
        """``c`` (B, D), or the shared modulation (B, 6D); ``bias`` (B, 1, n, n), ``bonds`` (B, n, n, 5)."""
        if self.bond_bias is not None:
            bias = bias + self.bond_bias(bonds).permute(0, 3, 1, 2)  # (B, H, n, n)
        parts = (self.adaLN_modulation(c) if self.original else c + self.offsets).chunk(6, dim=1)
        shift1, scale1, gate1, shift2, scale2, gate2 = parts
        if self.original:
            h = h + gate1[:, None] * modulated(self.attn(h, bias, ctx), shift1, scale1)
            return h + gate2[:, None] * modulated(self.mlp(h), shift2, scale2)
        h = torch.addcmul(
            h.to(gate1.dtype),
            gate1[:, None],
            self.attn(modulated(h, shift1, scale1), bias, ctx).to(gate1.dtype),
        )
        return torch.addcmul(h, gate2[:, None], self.mlp(modulated(h, shift2, scale2)).to(gate2.dtype))


class PairHead(nn.Module):
    """Bonds from pairs of atoms: W GELU(a_i + a_j + e_ij P), of pairs i < j, and mirrored."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.atom, self.bond, self.out = (
            nn.Linear(dim, hidden),
            nn.Linear(BONDS, hidden, bias=False),
            nn.Linear(hidden, BONDS),
        )

    def forward(self, h: Tensor, bonds: Tensor) -> Tensor:
        """``h`` (B, n, D) and symmetric ``bonds`` (B, n, n, 5) → (B, n, n, 5), symmetric, 0 on the
        diagonal."""
        n = h.shape[1]
        i, j = torch.triu_indices(n, n, 1, device=h.device)
        a = self.atom(h)  # (B, n, d)
        # sums of two atoms, by a product
        ends = (F.one_hot(i, n) + F.one_hot(j, n)).to(a.dtype).expand(len(h), -1, -1)  # (B, P, n)
        summed = torch.cat([ends, bonds[:, i, j].to(a.dtype)], dim=2) @ torch.cat(
            [a, self.bond.weight.T.to(a.dtype).expand(len(h), -1, -1)], dim=1
        )
        of = self.out(F.gelu(summed))  # (B, P, 5)
        full = of.new_zeros(len(h), n, n, BONDS)
        full[:, i, j] = of
        full[:, j, i] = of
        return full


class GraphDiT(nn.Module):
    """``net(x, t, cond)``: x (B, n, dx + 5n) packs one-hot atoms and rows of one-hot bonds; t (B,);
    Cond(numeric=(B, K), valid=(B, n)) → logits of the clean graph, packed alike, symmetric in the bonds, 0 on
    padding and on the diagonal.

    ``max_atoms`` n, ``atom_types`` dx. ``conditions``: clusters or fourier for each of ``num_numeric``
    numbers, unless ``groups`` says more (see `backbones.graph_conditions`); ``num_classes``: a label beside.
    ``known``: it is told which atoms are given (`Cond.known`), finds known entries clean in x, and says of
    them what they are. Raises ``ValueError`` for graphs of another size.
    """

    identity = ("known_embedder",)  # what begins as that
    few_tokens, fixed_rows = 1024, 32  # 32 graphs of 32 atoms; see backbones.types.Backbone
    # see backbones.inference
    low_precision = (
        "t_embedder",
        "y_embedding_list",
        "x_embedder",
        "blocks",
        "xedecoder",
        "modulation",
        "decoder",
        "pairs",
    )

    def __init__(
        self,
        *,
        max_atoms: int,
        atom_types: int,
        hidden_size: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        num_numeric: int = 0,
        num_classes: int = 0,
        fields: Sequence[Mapping[str, Any]] = (),
        conditions: str = "fourier",
        groups: Sequence[Mapping[str, Any]] = (),
        together: bool = False,
        absolute: bool = True,
        bond_bias: bool = False,
        pair_head: bool = False,
        original: bool = False,
        known: bool = False,
    ):
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(
                f"got width {hidden_size} and {num_heads} heads, expected a width divisible by the heads"
            )
        if original and not absolute:
            raise ValueError(
                "got original=true with absolute=false, but the original reads its bonds by place; set "
                "one of them"
            )
        if original and pair_head:
            raise ValueError(
                "got original=true with pair_head=true, but the original's bonds come from rows alone; "
                "set one of them"
            )
        n, dim, row = max_atoms, hidden_size, atom_types + BONDS * max_atoms
        self.max_atoms, self.atom_types, self.absolute, self.original = n, atom_types, absolute, original
        self.x_embedder = nn.Linear(row if absolute else atom_types, dim, bias=False)
        self.t_embedder = TimeEncoder(dim)
        named = grouped(num_numeric, conditions, groups)
        self.y_embedding_list = Conditions(named, dim, together=together) if named else None
        self.y_embedder = ClassEncoder(num_classes, dim) if num_classes else None
        self.blocks = nn.ModuleList(
            GraphBlock(dim, num_heads, mlp_ratio, original=original, bond_bias=bond_bias or not absolute)
            for _ in range(depth)
        )
        if original:
            self.xedecoder, self.last_modulation = GraphMLP(dim, dim, row), modulation(dim, 2 * row)
        else:
            self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 8 * dim))
            self.decoder = nn.Linear(dim, row if absolute else atom_types)
        self.pairs = PairHead(dim, dim // 2) if pair_head or not absolute else None
        self._initialise()
        self.f_embedders = NamedEncoders(fields, dim)
        self.known_embedder = KnownEmbedder(1, dim) if known else None

    def _initialise(self) -> None:
        """Xavier for linear layers, biases 0; modulations start at nothing, and so do the gates of ours."""
        zero = [
            m[0]
            for m in self.modules()
            if isinstance(m, nn.Sequential) and len(m) == 3 and isinstance(m[1], nn.SiLU) and self.original
        ]
        for module in self.modules():
            if isinstance(module, nn.Linear) and not any(module is z for z in zero):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if not self.original:
            nn.init.zeros_(self.modulation[1].weight)  # type: ignore[arg-type]
            nn.init.zeros_(self.decoder.weight)
            nn.init.zeros_(self.decoder.bias)
            if self.pairs is not None:
                nn.init.zeros_(self.pairs.out.weight)

    def encode(self, t: Tensor, cond: Cond) -> Tensor:
        """(B, D) of time and conditions; what is absent counts as missing."""
        time, numbers = self.t_embedder(t), self.y_embedding_list
        return conditioned(time, cond, t, numeric=numbers, label=self.y_embedder, named=self.f_embedders)

    def tokens(self, shape: Sequence[int]) -> int:
        """An atom is a token."""
        return shape[0]

    def trunk(self, h: Tensor, *, c: Tensor, bias: Tensor, bonds: Tensor, ctx: RunContext | None) -> Tensor:
        """(B, n, D) through all blocks; the rest as in `GraphBlock`."""
        for block in self.blocks:
            h = block(h, c, bias, bonds, ctx)
        return h

    def forward(
        self, x: Tensor, t: Tensor, cond: Cond | None = None, ctx: RunContext | None = None
    ) -> Tensor:
        cond = cond if cond is not None else Cond()
        batch, n, dx = len(x), self.max_atoms, self.atom_types
        if tuple(x.shape[1:]) != (n, dx + BONDS * n):
            raise ValueError(
                f"got graphs packed as {tuple(x.shape[1:])}, expected {(n, dx + BONDS * n)}: {n} atoms of "
                f"{dx} types with 5 bond classes each"
            )
        x = x.to(self.x_embedder.weight.dtype)
        # (B, n)
        valid = (
            cond.valid if cond.valid is not None else torch.ones(batch, n, dtype=torch.bool, device=x.device)
        )
        c = self.encode(t.expand(batch), cond)
        atoms, bonds = x[..., :dx], x[..., dx:].view(batch, n, n, BONDS)
        h = self.x_embedder(x if self.absolute else atoms)  # (B, n, D)
        known = None if self.known_embedder is None or cond.known is None else cond.known.expand_as(x)
        if self.known_embedder is not None and known is not None:
            h = h + self.known_embedder(known[..., :1])
        seen = valid | ~valid.any(1, keepdim=True)  # a graph of padding alone: any numbers will do
        bias = torch.zeros_like(seen, dtype=h.dtype).masked_fill(~seen, -torch.inf)[:, None, None]
        bias = bias.repeat(1, 1, n, 1)  # (B, 1, n, n), laid out as the scores are
        if self.original:
            h = through(partial(self.trunk, c=c, bias=bias, bonds=bonds, ctx=ctx), h, ctx, self)
            made = modulated(self.xedecoder(h), *self.last_modulation(c).chunk(2, dim=1))
        else:
            shared, last = self.modulation(c).split([6 * h.shape[-1], 2 * h.shape[-1]], dim=1)
            h = through(partial(self.trunk, c=shared, bias=bias, bonds=bonds, ctx=ctx), h, ctx, self)
            h = modulated(h, *last.chunk(2, dim=1))
            made = self.decoder(h)
        of_rows = made[..., dx:].reshape(batch, n, n, BONDS) if self.absolute else 0.0
        of_pairs = 0.0 if self.pairs is None else self.pairs(h, bonds)
        # (B, n, n)
        both = valid[:, :, None] & valid[:, None] & ~torch.eye(n, dtype=torch.bool, device=x.device)
        edges = (bonds + of_rows + of_pairs) * both[..., None]
        edges = (edges + edges.transpose(1, 2)) / 2
        nodes = (atoms + made[..., :dx]) * valid[..., None]
        made = torch.cat([nodes, edges.flatten(2)], dim=-1)
        return made if known is None else torch.where(known, SURE * x, made)
