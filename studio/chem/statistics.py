"""What the noise of a graph needs to know of the data: how often atoms, bonds, and bonds between two kinds of
atoms occur. Read from the arrays that training reads, so both always speak of the same graphs.

`count` gives the true frequencies, `published` where the tables of Graph DiT (Liu et al. 2401.13858) count
otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BLOCK = 4096
CLASSES = 5  # none, single, double, triple, aromatic


@dataclass(frozen=True, eq=False)
class Statistics:
    """float64. ``atoms`` (dx,): share of each atom type. ``bonds`` (5,): share of each bond class among
    ordered pairs of different atoms. ``pairs`` (dx, dx, 5): joint share of (type of i, type of j, bond) among
    them. ``sizes`` (n + 1,): share of molecules with so many atoms."""

    atoms: Tensor
    bonds: Tensor
    pairs: Tensor
    sizes: Tensor


def count(values: np.ndarray, num_atoms: int) -> Statistics:
    """Of (N, n, n + 1) uint8 graphs with ``num_atoms`` types. Raises ``ValueError`` for no molecules, and for
    types that are not there."""
    if len(values) == 0:
        raise ValueError("got no molecules, expected at least one")
    if int(values[..., 0].max()) > num_atoms:
        raise ValueError(f"got atom type {int(values[..., 0].max()) - 1}, expected 0 to {num_atoms - 1}")
    n = values.shape[1]
    cells = np.zeros((num_atoms + 1) ** 2 * CLASSES, np.int64)
    atoms, sizes = np.zeros(num_atoms + 1, np.int64), np.zeros(n + 1, np.int64)
    off = ~np.eye(n, dtype=bool)
    for start in range(0, len(values), BLOCK):
        kind, bond = (
            values[start : start + BLOCK, :, 0].astype(np.int64),
            values[start : start + BLOCK, :, 1:],
        )
        place = (kind[:, :, None] * (num_atoms + 1) + kind[:, None, :]) * CLASSES + bond  # (B, n, n)
        cells += np.bincount(place[:, off].reshape(-1), minlength=len(cells))
        atoms += np.bincount(kind.reshape(-1), minlength=num_atoms + 1)
        sizes += np.bincount((kind > 0).sum(1), minlength=n + 1)
    pairs = torch.from_numpy(cells.reshape(num_atoms + 1, num_atoms + 1, CLASSES)[1:, 1:]).double()
    if not pairs.any():  # molecules of one atom each: no pair is bonded
        pairs[..., 0] = torch.from_numpy(np.outer(atoms[1:], atoms[1:])).double()
    return Statistics(
        shares(torch.from_numpy(atoms[1:]).double()),
        shares(pairs.sum((0, 1))),
        shares(pairs),
        shares(torch.from_numpy(sizes).double()),
    )


def shares(counts: Tensor) -> Tensor:
    """Counts divided by their sum; all zero stays zero."""
    return counts / counts.sum().clamp(min=1e-300)


def published(values: np.ndarray, atoms: Sequence[str]) -> tuple[Tensor, Tensor]:
    """``bonds`` (5,) and ``sizes`` (n + 1,) as released models have them, of (N, n, n + 1) graphs with the
    atom types ``atoms``: open ends count as no atoms (the bonds to them are counted). The other tables follow
    from `count`; see `samplers.paths.graph.Statistics`."""
    kind = values[..., 0]
    closed = ((kind > 0) & (kind != (atoms.index("*") + 1 if "*" in atoms else 0))).sum(1)  # (N,)
    bonded = np.bincount(values[:, :, 1:].reshape(-1), minlength=CLASSES).astype(float)
    bonded[0] = (closed * (closed - 1)).sum() - bonded[1:].sum()
    if not bonded.any():
        bonded[0] = 1
    sizes = torch.from_numpy(np.bincount(closed, minlength=values.shape[1] + 1).astype(float))
    return shares(torch.from_numpy(bonded)), shares(sizes)
