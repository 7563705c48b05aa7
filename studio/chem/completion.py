"""A part of a molecule that is given, and where it may grow: the known entries of a graph to be completed."""

from collections.abc import Sequence

import numpy as np

from studio.chem import decode, graphs
from studio.chem.toolkit import read_smiles


def part(
    text: str, atoms: Sequence[str], size: int, *, aromatic: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(size, size + 1) uint8 graph and bool mask of its known entries, from the SMILES of a scaffold.

    Its atoms and the bonds among them are known. ``*`` marks where it grows: ``c1ccc(*)cc1`` may be bound to
    new atoms there and nowhere else; without a mark every atom may. In a vocabulary that has open ends ``*``
    is an atom like others. Raises ``ValueError`` for a scaffold that is no molecule, in pieces, too large or
    of other atoms.
    """
    mol = read_smiles(text)
    if decode.pieces(mol) > 1:
        raise ValueError(f"got {text!r}, which is in {decode.pieces(mol)} pieces, expected one scaffold")
    ready, _ = graphs.prepared(mol, aromatic=aromatic)
    types, bonds = graphs.types_of(ready), graphs.bonds_of(ready)
    marks = [] if "*" in atoms else [i for i, t in enumerate(types) if t == "*"]
    kept = [i for i in range(len(types)) if i not in marks]
    if not kept:
        raise ValueError(f"got {text!r}, which holds no atom, expected a scaffold such as c1ccc(*)cc1")
    new = {old: i for i, old in enumerate(kept)}
    growing = {new[j] for a, b, _ in bonds.tolist() for i, j in ((a, b), (b, a)) if i in marks and j in new}
    inner = np.array(
        [(new[a], new[b], kind) for a, b, kind in bonds.tolist() if a in new and b in new], dtype=np.int64
    ).reshape(-1, 3)
    graph = graphs.to_graph([types[i] for i in kept], inner, atoms, size)
    known = np.zeros(graph.shape, bool)
    k = len(kept)
    known[:k, : k + 1] = True
    if marks:
        closed = [i for i in range(k) if i not in growing]
        known[closed] = True
        known[:, [i + 1 for i in closed]] = True
    return graph, known
