"""What the noise on graphs needs to know: a table of ᾱ and the statistics of the data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from samplers.spaces.packing import BONDS

TINY = 1e-30


def cosine_table(num: int, *, exact: bool = True) -> Tensor:
    """(num + 1,) float64 ᾱ of steps 0 … num: cos² as in the original. ``exact``: ᾱ_0 = 1, otherwise the
    original's slightly smaller one."""
    length = num + 2
    x = torch.linspace(0, length, length, dtype=torch.float64)
    bar = torch.cos(0.5 * math.pi * (x / length + 0.008) / 1.008) ** 2
    bar = bar / bar[0].clone()
    betas = (1 - bar[1:] / bar[:-1]).clamp(0, 0.9999)
    table = torch.cumprod(1 - betas, 0)
    return table / table[0].clone() if exact else table


@dataclass(frozen=True)
class Statistics:
    """What the modes need, float64: marginals, P(bond | atom, atom) and the published tables."""

    atoms: Tensor  # (dx,)
    bonds: Tensor  # (5,)
    between: Tensor  # (dx, dx, 5); a pair that was never seen has no bond
    of_atom: Tensor  # (dx, 5), published: the average over partner types, not weighed by how often they occur
    of_bond: Tensor  # (5, dx), published: the same table read the other way

    @staticmethod
    def of(
        atoms: Sequence[float] | Tensor, joint: Sequence[object] | Tensor, bonds: Sequence[float] = ()
    ) -> "Statistics":
        """``bonds``: their marginal, where it is not the joint's. Raises ``ValueError`` for tables that are
        negative, empty or of shapes that do not fit."""
        a, j = torch.as_tensor(atoms, dtype=torch.float64), torch.as_tensor(joint, dtype=torch.float64)
        if a.ndim != 1 or tuple(j.shape) != (len(a), len(a), BONDS):
            raise ValueError(
                f"got statistics of shapes {tuple(a.shape)} and {tuple(j.shape)}, expected (types,) and "
                f"(types, types, {BONDS})"
            )
        if bool((a < 0).any()) or bool((j < 0).any()) or float(a.sum()) <= 0 or float(j.sum()) <= 0:
            raise ValueError(
                "got statistics that are negative or all zero; they are counts or frequencies over a data set"
            )
        pairs = j.sum(2, keepdim=True)
        none = torch.zeros(BONDS, dtype=torch.float64)
        none[0] = 1.0
        between = torch.where(pairs > 0, j / pairs.clamp_min(TINY), none)
        mean = between.sum(1)
        of_atom = mean / mean.sum(1, keepdim=True)
        of_bond = of_atom.T / of_atom.T.sum(1, keepdim=True).clamp_min(TINY)
        marginal = torch.as_tensor(bonds, dtype=torch.float64) if len(bonds) else j.sum((0, 1))
        if tuple(marginal.shape) != (BONDS,) or bool((marginal < 0).any()) or float(marginal.sum()) <= 0:
            raise ValueError(
                f"got the bond frequencies {list(bonds)}, expected {BONDS} that are not negative"
            )
        return Statistics(a / a.sum(), marginal / marginal.sum(), between, of_atom, of_bond)
