"""Which molecules are kept from training: whole scaffolds (Bemis & Murcko 1996), so that held-out molecules
differ from trained ones in their skeleton."""

from collections.abc import Sequence

import numpy as np

from studio.chem.toolkit import Chem, quiet


def scaffold(mol: Chem.Mol) -> str:
    """The rings and what links them, as SMILES; empty for a molecule without rings."""
    from rdkit.Chem.Scaffolds import MurckoScaffold

    with quiet():
        return MurckoScaffold.MurckoScaffoldSmiles(mol=mol)


def scaffold_split(smiles: Sequence[str], fraction: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(train, held-out) indices, sorted: scaffolds in a fixed random order are held out while they fit in
    ``fraction`` of all, whole or not at all; at least one molecule stays for training. Raises ``ValueError``
    for a fraction that is none, and where no scaffold is small enough."""
    if not 0 <= fraction < 1:
        raise ValueError(f"got held_out={fraction}, expected a fraction from 0 to below 1")
    groups: dict[str, list[int]] = {}
    for i, text in enumerate(smiles):
        groups.setdefault(scaffold(Chem.MolFromSmiles(text)), []).append(i)
    names, room = sorted(groups), min(round(fraction * len(smiles)), len(smiles) - 1)
    held: list[int] = []
    for place in np.random.Generator(np.random.Philox(key=seed)).permutation(len(names)):
        group = groups[names[place]]
        if len(held) + len(group) <= room:
            held += group
    if room and not held:
        raise ValueError(
            f"got held_out={fraction}, but no scaffold has {room} molecules or fewer; choose split: random"
        )
    return np.setdiff1d(np.arange(len(smiles)), held), np.sort(np.array(held, dtype=np.int64))
