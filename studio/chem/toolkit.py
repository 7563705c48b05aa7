"""RDKit, or a message that names the extra: every module that needs it imports it from here."""

from collections.abc import Iterator
from contextlib import contextmanager

try:
    from rdkit import Chem, rdBase
except ImportError as error:
    raise ImportError(
        f"molecules need RDKit, which is not installed; pip install 'drift-studio[chem]' ({error})"
    ) from None

__all__ = ["Chem", "canonical", "quiet", "read_smiles", "version"]

LONGEST = 2000  # characters of a SMILES: some hundreds of atoms
version = rdBase.rdkitVersion


@contextmanager
def quiet() -> Iterator[None]:
    """No messages of RDKit's own on stderr: what fails is reported by us."""
    block = rdBase.BlockLogs()
    try:
        yield
    finally:
        del block


def read_smiles(text: str) -> Chem.Mol:
    """A sanitised molecule. Raises ``ValueError`` for text that is none, or too long to be one we could
    use."""
    text = text.strip()
    if not text:
        raise ValueError("got no SMILES, expected text such as CCO")
    if len(text) > LONGEST:
        raise ValueError(f"got a SMILES of {len(text):,} characters, expected at most {LONGEST:,}")
    with quiet():
        mol = Chem.MolFromSmiles(text)
    if mol is None:
        raise ValueError(f"got {text!r}, which is no valid SMILES")
    if mol.GetNumAtoms() == 0:
        raise ValueError(f"got {text!r}, which has no atoms")
    return mol


def canonical(mol: Chem.Mol) -> str:
    """The SMILES that all drawings of a graph share: stereochemistry, isotopes and atom numbers are left out,
    as a graph does not hold them."""
    return Chem.MolToSmiles(mol, isomericSmiles=False)
