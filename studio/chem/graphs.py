"""A molecule as an array, and which atom types there are.

A graph is uint8 (n, n + 1): column 0 holds the atom type + 1 (0 = padding), columns 1…n the bonds: 0 none, 1
single, 2 double, 3 triple, 4 aromatic; symmetric, nothing on the diagonal or on padding. Atoms stand in the
order of the canonical SMILES, hydrogens are implied. An atom type is a symbol, or a bracket with a charge
such as ``[N+]``; ``*`` is an open end. Rings are either `kekulised` (bonds 1 to 3 only) or kept aromatic (4);
an aromatic ring does not tell which nitrogen has the hydrogen, so ``[nH]`` is a type of its own there.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np

from studio.chem.toolkit import Chem, canonical

Graph = np.ndarray
BONDS = {Chem.BondType.SINGLE: 1, Chem.BondType.DOUBLE: 2, Chem.BondType.TRIPLE: 3, Chem.BondType.AROMATIC: 4}
TYPES = {v: k for k, v in BONDS.items()}
ATOM = re.compile(r"\[?(?P<symbol>\*|[A-Za-z][a-z]?)(?P<hydrogen>H?)(?P<charge>[+-]\d*)?\]?")


def atom_type(atom: Chem.Atom) -> str:
    """``C``, ``Cl``, ``*``, ``[N+]``, ``[O-]``, ``[Mg+2]``, ``[nH]``."""
    symbol, charge = ("*" if atom.GetAtomicNum() == 0 else atom.GetSymbol()), atom.GetFormalCharge()
    if charge:
        size = "" if abs(charge) == 1 else str(abs(charge))
        return f"[{symbol}{'+' if charge > 0 else '-'}{size}]"
    if atom.GetIsAromatic() and symbol not in ("C", "*") and atom.GetTotalNumHs():
        return f"[{symbol.lower()}H]"
    return symbol


@cache
def parse_type(name: str) -> tuple[int, int, int]:
    """(atomic number, charge, explicit hydrogens) of an atom type. Raises ``ValueError`` for a name that is
    none."""
    found = ATOM.fullmatch(name)
    table = Chem.GetPeriodicTable()
    try:
        if (
            found is None
            or ("[" in name) != ("]" in name)
            or ("[" in name) != bool(found["charge"] or found["hydrogen"])
        ):
            raise RuntimeError
        symbol, charge = found["symbol"], found["charge"] or ""
        number = (
            0
            if symbol == "*"
            else table.GetAtomicNumber(symbol.capitalize() if found["hydrogen"] else symbol)
        )
    except RuntimeError:
        raise ValueError(
            f"got the atom type {name!r}, expected a symbol, a charge in brackets or *, such as Cl, [N+] or *"
        ) from None
    size = int(charge[1:] or 1) if charge else 0
    return number, -size if charge.startswith("-") else size, len(found["hydrogen"])


def vocabulary(names: Iterable[str]) -> tuple[str, ...]:
    """Atom types in a fixed order: by element, neutral ones first, open ends last."""

    def order(name: str) -> tuple[bool, bool, int, int, int]:
        number, charge, hydrogens = parse_type(name)
        return number == 0, charge != 0 or hydrogens > 0, number, charge, hydrogens

    return tuple(sorted(set(names), key=order))


def size_of(mol: Chem.Mol) -> int:
    """Atoms that a graph has places for: all but hydrogens, open ends too."""
    return sum(a.GetAtomicNum() != 1 for a in mol.GetAtoms())


def prepared(mol: Chem.Mol, *, aromatic: bool = False) -> tuple[Chem.Mol, str]:
    """A copy with atoms in the order of the canonical SMILES, and that SMILES; kekulised unless ``aromatic``.
    Stereochemistry, isotopes and atom numbers are taken off."""
    mol = Chem.Mol(mol)
    Chem.RemoveStereochemistry(mol)
    marked = [a for a in mol.GetAtoms() if a.GetIsotope() or a.GetAtomMapNum()]
    for atom in marked:
        atom.SetIsotope(0)
        atom.SetAtomMapNum(0)
    if marked:
        mol = Chem.RemoveHs(mol)  # deuterium was an atom of its own
    text = canonical(mol)
    mol = Chem.RenumberAtoms(mol, list(mol.GetPropsAsDict(True, True)["_smilesAtomOutputOrder"]))
    if not aromatic:
        Chem.Kekulize(mol, clearAromaticFlags=True)
    return mol, text


def types_of(mol: Chem.Mol) -> list[str]:
    """The atom types of a `prepared` molecule. Raises ``ValueError`` for a hydrogen that is an atom of its
    own."""
    names = [atom_type(a) for a in mol.GetAtoms()]
    if any(a.GetAtomicNum() == 1 for a in mol.GetAtoms()):
        raise ValueError("got hydrogen as an atom of its own, expected heavy atoms only")
    return names


def bonds_of(mol: Chem.Mol) -> np.ndarray:
    """(bonds, 3) uint8 of begin, end and class. Raises ``ValueError`` for a kind of bond that is no class."""
    rows = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx(), BONDS.get(b.GetBondType(), 0)) for b in mol.GetBonds()]
    if any(kind == 0 for _, _, kind in rows):
        raise ValueError("got a bond that is not single, double, triple or aromatic, expected one of these")
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def to_graph(names: Sequence[str], bonds: np.ndarray, atoms: Sequence[str], size: int) -> Graph:
    """(size, size + 1) uint8 of atom types by name and (m, 3) bonds. Raises ``ValueError`` for a type that
    ``atoms`` lacks and for too many atoms."""
    if len(names) > size:
        raise ValueError(f"got a molecule of {len(names)} atoms, expected at most {size}")
    unknown = next((n for n in names if n not in atoms), None)
    if unknown is not None:
        raise ValueError(f"got the atom type {unknown}, expected one of {', '.join(atoms)}")
    graph = np.zeros((size, size + 1), np.uint8)
    graph[: len(names), 0] = [atoms.index(n) + 1 for n in names]
    begin, end, kind = bonds.T
    graph[begin, end + 1] = graph[end, begin + 1] = kind
    return graph


def encode(mol: Chem.Mol, atoms: Sequence[str], size: int, *, aromatic: bool = False) -> Graph:
    """A molecule as (size, size + 1) uint8. Raises ``ValueError`` for one that does not fit; see `to_graph`,
    `types_of` and `bonds_of`."""
    mol, _ = prepared(mol, aromatic=aromatic)
    return to_graph(types_of(mol), bonds_of(mol), atoms, size)
