"""A graph as a molecule: as it is (`plain`), or after the published correction (`corrected`; Graph DiT, Liu
et al. 2401.13858, after MoFlow, Zang & Wang 2006.10137).

The correction gives N, O and S with one bond too many a charge of +1 while bonds are added, then, while an
atom has too many bonds, lowers its highest bond that is not aromatic by one; fragments are joined by single
bonds between the first atoms that have a hydrogen to spare. Rings that cannot be kekulised are not mended.
Hydrogens are counted anew before each joint: the published code reads counts from before the last change,
which lets it give up on some molecules (with recent RDKit on nearly all of them).
"""

import re
from collections.abc import Sequence

import numpy as np

from studio.chem.graphs import TYPES, Graph, parse_type, size_of
from studio.chem.toolkit import Chem, canonical, quiet

VALENCE = {7: 3, 8: 2, 16: 2}  # of the elements that take a charge for one bond more
EXCESS = re.compile(r"# (\d+) \S+, (\d+)")


def build(graph: Graph, atoms: Sequence[str], *, charge: bool = False) -> Chem.RWMol:
    """Atoms and bonds as they stand, nothing checked; ``charge``: N, O and S with one bond too many become
    +1, bond by bond along the rows."""
    mol = Chem.RWMol()
    count = int((graph[:, 0] > 0).sum())
    for kind in graph[:count, 0]:
        number, formal, hydrogens = parse_type(atoms[int(kind) - 1])
        atom = Chem.Atom(number)
        atom.SetFormalCharge(formal)
        atom.SetNumExplicitHs(hydrogens)
        mol.AddAtom(atom)
    bonds = np.triu(graph[:count, 1 : count + 1], 1)
    for i, j in np.argwhere(bonds).tolist():
        mol.AddBond(i, j, TYPES[int(bonds[i, j])])
        if charge:
            _charged(mol)
    return mol


def plain(graph: Graph, atoms: Sequence[str]) -> Chem.Mol | None:
    """The molecule without any correction, None where it does not sanitise or has no atoms. It may be in
    pieces; see `pieces`."""
    return sanitised(build(graph, atoms))


def corrected(graph: Graph, atoms: Sequence[str], *, connect: bool = True) -> Chem.Mol | None:
    """The molecule after the published correction, None where that fails; ``connect`` joins fragments, before
    anything else and after each bond that was taken away."""
    with quiet():
        mol = build(graph, atoms, charge=True)
        while True:
            joined = join(mol) if connect else mol
            if joined is None:
                return None
            mol = joined
            excess = too_many(mol)
            if excess is None:
                return sanitised(mol)
            if not lower(mol, excess[0]):
                return None


def sanitised(mol: Chem.Mol) -> Chem.Mol | None:
    """A sanitised copy, None where RDKit refuses or there are no atoms."""
    mol = Chem.Mol(mol)
    try:
        with quiet():
            Chem.SanitizeMol(mol)
    except ValueError:  # every refusal of RDKit's sanitisation is one
        return None
    return mol if mol.GetNumAtoms() else None


def too_many(mol: Chem.Mol) -> tuple[int, int] | None:
    """(atom, valence) of the first atom with more bonds than it can have, None where all are well."""
    with quiet():
        problems = Chem.DetectChemistryProblems(mol, Chem.SanitizeFlags.SANITIZE_PROPERTIES)
    if not problems:
        return None
    found = EXCESS.search(problems[0].Message())
    return (int(found[1]), int(found[2])) if found else (problems[0].GetAtomIdx(), -1)


def _charged(mol: Chem.RWMol) -> None:
    """One more bond than usual on a neutral N, O or S is a charge."""
    excess = too_many(mol)
    if excess is not None:
        atom = mol.GetAtomWithIdx(excess[0])
        if not atom.GetFormalCharge() and excess[1] - VALENCE.get(atom.GetAtomicNum(), excess[1]) == 1:
            atom.SetFormalCharge(1)


def lower(mol: Chem.RWMol, index: int) -> bool:
    """Lower the highest bond of an atom that is not aromatic; False where one that is has no other beside
    it."""
    bonds = sorted(mol.GetAtomWithIdx(index).GetBonds(), key=lambda b: -int(b.GetBondType()))
    loose = [b for b in bonds if b.GetBondType() != Chem.BondType.AROMATIC]
    if not loose:
        return False
    begin, end, order = loose[0].GetBeginAtomIdx(), loose[0].GetEndAtomIdx(), int(loose[0].GetBondType())
    mol.RemoveBond(begin, end)
    if order > 1:
        mol.AddBond(begin, end, TYPES[order - 1])
    return True


def join(mol: Chem.RWMol) -> Chem.RWMol | None:
    """All fragments joined to the first one, each by the first pair of atoms that sanitises; None where one
    has no such pair. Whole molecules come back as they are."""
    fragments = Chem.GetMolFrags(mol)
    mol.UpdatePropertyCache(strict=False)
    grown = list(fragments[0]) if fragments else []
    for fragment in fragments[1:]:
        both = [*grown, *fragment]
        if sanitised(part_of(mol, both)) is None:  # a bond more mends nothing
            return None
        free = [
            [i for i in part if mol.GetAtomWithIdx(i).GetNumImplicitHs() > 0] for part in (grown, fragment)
        ]
        for a, b in ((a, b) for a in free[0] for b in free[1]):
            trial = Chem.RWMol(mol)
            trial.AddBond(a, b, Chem.BondType.SINGLE)
            if sanitised(part_of(trial, both)) is not None:
                mol = trial
                break
        else:
            return None
        mol.UpdatePropertyCache(strict=False)
        grown = both
    return mol


def part_of(mol: Chem.Mol, keep: Sequence[int]) -> Chem.RWMol:
    """These atoms and the bonds among them."""
    part = Chem.RWMol(mol)
    for index in sorted(set(range(mol.GetNumAtoms())) - set(keep), reverse=True):
        part.RemoveAtom(index)
    return part


def pieces(mol: Chem.Mol) -> int:
    """Number of fragments; 1 is a connected molecule."""
    return len(Chem.GetMolFrags(mol))


def largest(mol: Chem.Mol) -> Chem.Mol:
    """The fragment with most atoms that are no hydrogens, the first of equals by SMILES; the molecule itself
    where there is one."""
    if pieces(mol) < 2:
        return mol
    return min(Chem.GetMolFrags(mol, asMols=True), key=lambda p: (-size_of(p), canonical(p)))
