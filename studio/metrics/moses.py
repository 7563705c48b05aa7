"""MOSES's measures under its names and by its rules (Polykovskiy et al. 1811.12823), where they differ from
ours, and the files that they need.

    unique@k   share of different ones among the first k valid ones
    Scaf       cosine of the counts of Bemis–Murcko scaffolds with two rings or more
    Filters    share without a ring of 8 atoms or more, a charge, an element beside C N S O F Cl Br H, or a
               pattern of the rule lists

The rule lists (``mcf.csv``, ``wehi_pains.csv``) and the scaffold split are the user's files; the wheel of
``molsets`` holds them and is read as the zip that it is.
"""

import csv
import io
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from studio.chem.reading import read_text
from studio.chem.samples import texts_of_file
from studio.chem.toolkit import Chem, quiet
from studio.metrics.molecules import Mols

ARCHIVES = (".whl", ".zip")
ELEMENTS = frozenset(("C", "N", "S", "O", "F", "Cl", "Br", "H"))
RULES, SPLIT = ("mcf.csv", "wehi_pains.csv"), ("test_scaffolds.csv", "test_scaffolds.csv.gz")
LARGEST_RING = 7


def unique_at(smiles: Sequence[str | None], k: int) -> tuple[float, int]:
    """Share of different ones among the first ``k`` valid ones, and how many those are. Raises ``ValueError``
    where none is valid."""
    good = [s for s in smiles if s is not None][:k]
    if not good:
        raise ValueError("got no valid molecule, expected at least one")
    return len(set(good)) / len(good), len(good)


def scaffold(mol: Chem.Mol) -> str:
    """The rings and what links them, as SMILES; empty with fewer than two rings."""
    from rdkit.Chem.Scaffolds import MurckoScaffold

    with quiet():
        found = MurckoScaffold.GetScaffoldForMol(mol)
    return Chem.MolToSmiles(found) if found.GetRingInfo().NumRings() >= 2 else ""


def scaffolds(mols: Mols) -> Counter[str]:
    """Counts of the scaffolds with two rings or more."""
    return Counter(s for s in (scaffold(m) for m in mols if m is not None) if s)


@dataclass(frozen=True)
class Rules:
    """Patterns (SMARTS) that no molecule should have, and the files they come from."""

    patterns: tuple[Chem.Mol, ...]
    source: str

    def passes(self, mol: Chem.Mol) -> bool:
        """Whether a molecule is without all that MOSES's filters leave out."""
        if any(len(ring) > LARGEST_RING for ring in mol.GetRingInfo().AtomRings()):
            return False
        if any(a.GetFormalCharge() or a.GetSymbol() not in ELEMENTS for a in mol.GetAtoms()):
            return False
        whole = Chem.AddHs(mol)
        return not any(whole.HasSubstructMatch(p) for p in self.patterns)

    def share(self, mols: Mols) -> float:
        """Of the valid ones. Raises ``ValueError`` where none is."""
        good = [m for m in mols if m is not None]
        if not good:
            raise ValueError("got no valid molecule, expected at least one")
        return sum(map(self.passes, good)) / len(good)


def read_rules(paths: str) -> Rules:
    """The rule lists of one or several files (A,B), of a folder, or of ``molsets``' wheel. A list is a .csv
    with SMARTS in the column ``smarts`` or, without a header, in the first column that has them. Raises
    ``ValueError`` for a file that is not there and for text that is no SMARTS, with its line."""
    patterns: list[Chem.Mol] = []
    names: list[str] = []
    for path in (Path(p.strip()).expanduser() for p in paths.split(",") if p.strip()):
        for name, text in _files(path, RULES, "rule lists"):
            patterns += _patterns(name, text)
            names.append(name)
    return Rules(tuple(patterns), f"{', '.join(names)} ({len(patterns)} rules)")


def _patterns(name: str, text: str) -> list[Chem.Mol]:
    rows = [
        (i, [cell.strip() for cell in row])
        for i, row in enumerate(csv.reader(io.StringIO(text)), 1)
        if any(c.strip() for c in row)
    ]
    if not rows:
        raise ValueError(f"{name} is empty, expected a SMARTS a line")
    header = [cell.lower() for cell in rows[0][1]]
    with quiet():
        if "smarts" in header:
            place, rows = header.index("smarts"), rows[1:]
        else:
            place = next(
                (k for k, cell in enumerate(rows[0][1]) if cell and Chem.MolFromSmarts(cell) is not None), -1
            )
        if place < 0:
            raise ValueError(
                f"{name} has no column of SMARTS, expected one named smarts, or a SMARTS in its first line"
            )
        found = [(i, row[place] if len(row) > place else "") for i, row in rows]
        patterns = [(i, cell, Chem.MolFromSmarts(cell) if cell else None) for i, cell in found]
    for i, cell, pattern in patterns:
        if pattern is None:
            raise ValueError(f"{name}, line {i}: got {cell!r}, which is no SMARTS")
    return [p for _, _, p in patterns if p is not None]


def read_split(path: str) -> tuple[np.ndarray, str]:
    """(N,) SMILES of the scaffold split, and the name of their file: a table of molecules, a folder with
    ``test_scaffolds.csv``, or ``molsets``' wheel."""
    where = Path(path).expanduser()
    if where.is_file() and where.suffix not in ARCHIVES:
        return texts_of_file(where)[0], where.name
    with tempfile.TemporaryDirectory() as folder:
        name, data = next(_members(where, SPLIT, "a scaffold split"))
        (Path(folder) / name).write_bytes(data)
        return texts_of_file(Path(folder) / name)[0], f"{where.name}/{name}"


def _files(path: Path, wanted: Sequence[str], kind: str) -> Iterator[tuple[str, str]]:
    """Names and texts: the file itself, or those of ``wanted`` that a folder or an archive has."""
    if path.is_file() and path.suffix not in ARCHIVES:
        yield path.name, read_text(path)
        return
    for name, data in _members(path, wanted, kind):
        yield name, data.decode("utf-8-sig")


def _members(path: Path, wanted: Sequence[str], kind: str) -> Iterator[tuple[str, bytes]]:
    """Files named as ``wanted`` of a folder or an archive. Raises ``ValueError`` where it has none."""
    found: list[tuple[str, bytes]] = []
    if path.is_dir():
        found = [(p.name, p.read_bytes()) for p in sorted(path.rglob("*")) if p.name in wanted]
    elif path.suffix in ARCHIVES and path.is_file():
        try:
            with zipfile.ZipFile(path) as archive:
                found = [
                    (Path(n).name, archive.read(n))
                    for n in sorted(archive.namelist())
                    if Path(n).name in wanted
                ]
        except (zipfile.BadZipFile, OSError) as error:
            raise ValueError(
                f"{path} is not a readable zip ({error}); it may be cut off: fetch it again"
            ) from None
    if not found:
        raise ValueError(
            f"got {path} for {kind}, expected a file that is there, or a folder or the wheel of molsets "
            f"with {' or '.join(wanted)}"
        )
    yield from found
