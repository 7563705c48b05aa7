"""Files of molecules that were sampled, row by row as they stand."""

import re
from pathlib import Path

import numpy as np

from studio.chem.reading import number, read_table, read_text
from studio.chem.toolkit import LONGEST, Chem, quiet, read_smiles

ASKED = "asked_"  # columns of a file of samples that hold targets
TOO_LONG = "(too long)"  # what stands for text that is no SMILES of ours


def texts_of_file(path: str | Path, *, smiles: str | None = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(N,) SMILES of every row of a file of samples, as they stand (with stereochemistry, radicals and
    pieces), and the columns named ``asked_NAME``, by NAME. A row without a molecule has an empty text.
    Nothing is left out: what is none, and what is there twice, is what samples are judged by.

    Raises ``ValueError`` for a file in which nothing is a molecule though rows have text, and for rows that
    have more or fewer cells than the header.
    """
    where = Path(path).expanduser()
    if where.name.removesuffix(".gz").endswith(".sdf"):
        texts, columns = read_sdf(where)
    else:
        table = read_table(where, blank=True)
        if table.broken:
            raise ValueError(
                f"{where}, line {table.broken[0].line}: {table.broken[0].reason}; each row is a sample, "
                "quote cells with separators"
            )
        place = table.smiles(smiles)
        texts = [row[place] for row in table.rows]
        columns = {
            c: [row[i] for row in table.rows] for i, c in enumerate(table.columns) if c.startswith(ASKED)
        }
    if any(texts) and not any(map(is_molecule, texts)):
        raise ValueError(
            f"{where} has no valid molecule among {len(texts)} rows, expected at least one; is it the "
            "right column?"
        )
    asked = {
        c.removeprefix(ASKED): np.array([number(v, c.removeprefix(ASKED)) for v in column])
        for c, column in columns.items()
    }
    return np.array([t if len(t) <= LONGEST else TOO_LONG for t in texts]), asked


def read_sdf(where: Path) -> tuple[list[str], dict[str, list[str]]]:
    """SMILES of the records of an .sdf, also gzipped, empty for one that is no molecule, and the data named
    ``asked_NAME``. Raises ``ValueError`` for no record."""
    blocks = read_text(where).split("$$$$\n")
    blocks = blocks if blocks[-1].strip() else blocks[:-1]
    if not blocks:
        raise ValueError(f"{where} holds no record, expected an .sdf of molecules")
    texts, found = [], []
    with quiet():
        for block in blocks:
            mol = Chem.MolFromMolBlock(block)
            texts.append("" if mol is None or not mol.GetNumAtoms() else Chem.MolToSmiles(mol))
            found.append(dict(re.findall(r"^>.*<(.+)>.*\n(.*)$", block, re.MULTILINE)))
    names = dict.fromkeys(k for data in found for k in data if k.startswith(ASKED))
    return texts, {k: [data.get(k, "") for data in found] for k in names}


def is_molecule(text: str) -> bool:
    try:
        read_smiles(text)
    except ValueError:
        return False
    return True
