"""Backbones as PDB files (wwPDB format 3.3, records ATOM): written, and read as far as angles need it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from studio.runtime import files

ATOMS = ("N", "CA", "C")
LONGEST_BOND = 2.0  # Å from a C to the next N, beyond which residues lie between them
REMARK = "REMARK   1 BACKBONE ALONE: GLY STANDS FOR RESIDUES OF ANY KIND"


def text(atoms: np.ndarray) -> str:
    """A chain (n, 3, 3) of N, Cα and C in Å, moved to its centre; residues are called GLY."""
    atoms = atoms - atoms.reshape(-1, 3).mean(0)
    lines = [REMARK]
    for i, (x, y, z) in enumerate(atoms.reshape(-1, 3)):
        name, residue = ATOMS[i % 3], i // 3 + 1
        lines.append(
            f"ATOM  {i + 1:5d}  {name:<3} GLY A{residue:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00"
            f"           {name[0]}  "
        )
    lines.append(f"TER   {len(atoms) * 3 + 1:5d}      GLY A{len(atoms):4d}")
    return "\n".join([*lines, "END", ""])


def write(path: Path, atoms: np.ndarray) -> None:
    """See `text`."""
    with files.replacing(path) as draft:
        draft.write_text(text(atoms))


def read(path: Path) -> list[np.ndarray]:
    """The chains of a file, each (n, 3, 3): of the first model, cut where a residue is not whole or the next
    one is not bound to it. Of places that an atom has twice the first counts. Raises ``ValueError`` for a
    file that cannot be read."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
        residues = [*_residues(lines)]
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a PDB file: {error}") from None
    chains: list[list[np.ndarray]] = []
    last: tuple[str, np.ndarray] | None = None
    for chain, found in residues:
        whole = np.stack([found[name] for name in ATOMS]) if len(found) == len(ATOMS) else None
        bound = (
            last is not None
            and whole is not None
            and last[0] == chain
            and np.linalg.norm(whole[0] - last[1][2]) < LONGEST_BOND
        )
        if whole is not None:
            if bound:
                chains[-1].append(whole)
            else:
                chains.append([whole])
        last = None if whole is None else (chain, whole)
    return [np.stack(chain) for chain in chains]


def _residues(lines: list[str]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """The chain's letter of each residue, and its atoms by name."""
    at = ""
    found: dict[str, np.ndarray] = {}
    for line in lines:
        if line.startswith(("ENDMDL", "END   ")) or line.strip() == "END":
            break
        if not line.startswith(("ATOM  ", "HETATM")) or (name := line[12:16].strip()) not in ATOMS:
            continue
        if line[76:78].strip() not in ("", name[0]):  # calcium is called CA too
            continue
        if (residue := line[21:27]) != at and found:
            yield at[:1], found
            found = {}
        at = residue
        found.setdefault(name, np.array([float(line[k : k + 8]) for k in (30, 38, 46)]))
    if found:
        yield at[:1], found
