"""Graphs packed as x (B, n, dx + 5n): one-hot atom types, then of each atom a row of one-hot bond classes
(none, single, double, triple, aromatic), zero on padding and on the diagonal."""

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.types import Cond
from backbones.types import NoiseSource as Noise

BONDS = 5


def unpack(x: Tensor, types: int) -> tuple[Tensor, Tensor]:
    """(B, n, dx + 5n) → atoms (B, n, dx) and bonds (B, n, n, 5), views."""
    return x[..., :types], x[..., types:].unflatten(2, (x.shape[1], BONDS))


def pack(atoms: Tensor, bonds: Tensor) -> Tensor:
    return torch.cat([atoms, bonds.flatten(2)], dim=-1)


def valid_of(x: Tensor, cond: Cond, types: int) -> Tensor:
    """(B, n) which atoms are real: as the conditions say, otherwise those that have a type."""
    return cond.valid if cond.valid is not None else x[..., :types].sum(-1) > 0.5


def mask(x: Tensor, valid: Tensor, types: int) -> Tensor:
    """Zero on padding and on the diagonal of the bonds."""
    atoms, bonds = unpack(x, types)
    both = valid[:, :, None] & valid[:, None] & ~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
    return pack(atoms * valid[..., None], bonds * both[..., None])


def softmax(logits: Tensor, types: int) -> Tensor:
    """Of the atoms, and of every bond; float32. Written out: torch's own is slow over so few classes
    (benchmarks/softmax.py)."""

    def of(x: Tensor) -> Tensor:
        e = (x - x.amax(-1, keepdim=True)).exp()
        return e / e.sum(-1, keepdim=True)

    atoms, bonds = unpack(logits.float(), types)
    return pack(of(atoms), of(bonds))


def draw(p: Tensor, noise: Noise, valid: Tensor, types: int, *, stream: str, loops: bool = False) -> Tensor:
    """One-hot float32 draws (B, n, F) from block probabilities, one uniform number for each atom and each
    pair: bonds of pairs i < j, mirrored. ``loops``: atoms are marked as not bonded to themselves, as the
    original's noisy graphs are."""
    n = p.shape[1]
    u = noise.uniform((n + n * n,), stream=stream, dtype=torch.float64).to(p.device)
    atoms, bonds = unpack(p, types)
    a = category(atoms, u[:, :n])
    b = category(bonds, u[:, n:].view(-1, n, n)).triu(1)
    b = b + b.transpose(1, 2)
    one = mask(pack(F.one_hot(a, types).float(), F.one_hot(b, BONDS).float()), valid, types)
    if loops:
        unpack(one, types)[1].diagonal(dim1=1, dim2=2)[:, 0] = valid.float()
    return one


def category(p: Tensor, u: Tensor) -> Tensor:
    """(...,) class numbers by the inverse of the distribution function."""
    steps = p.cumsum(-1)
    return (steps < (u * steps[..., -1])[..., None]).sum(-1).clamp_max(p.shape[-1] - 1)
