"""Properties of a molecule by name, computed by RDKit: logP and molar refractivity's companion tables of
Wildman & Crippen (1999), QED (Bickerton et al. 2012), TPSA (Ertl et al. 2000), SA (Ertl & Schuffenhauer 2009,
1 easy … 10 hard), and counts."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache

import numpy as np

from backbones.registry import suggest
from studio.chem.toolkit import Chem


def logp(mol: Chem.Mol) -> float:
    from rdkit.Chem.rdMolDescriptors import CalcCrippenDescriptors

    return CalcCrippenDescriptors(mol)[0]


def qed(mol: Chem.Mol) -> float:
    from rdkit.Chem import QED

    return QED.qed(mol)


def synthetic_accessibility(mol: Chem.Mol) -> float:
    return _scorer()(mol)


@cache
def _scorer() -> Callable[[Chem.Mol], float]:
    """RDKit's own script, which comes with its tables. Raises ``ImportError`` for an RDKit without it."""
    try:
        from rdkit.Contrib.SA_Score import sascorer
    except ImportError as error:
        raise ImportError(
            f"SA needs RDKit's Contrib folder, which this RDKit lacks ({error}); pip install -U rdkit, or "
            "leave SA out"
        ) from None
    return sascorer.calculateScore


def descriptor(name: str) -> Callable[[Chem.Mol], float]:
    """One of rdMolDescriptors' functions."""

    def value(mol: Chem.Mol) -> float:
        from rdkit.Chem import rdMolDescriptors

        return float(getattr(rdMolDescriptors, name)(mol))

    return value


PROPERTIES: dict[str, Callable[[Chem.Mol], float]] = {
    "logP": logp,
    "QED": qed,
    "SA": synthetic_accessibility,
    "TPSA": descriptor("CalcTPSA"),
    "MW": descriptor("_CalcMolWt"),
    "rings": descriptor("CalcNumRings"),
    "heavy_atoms": descriptor("CalcNumHeavyAtoms"),
    "HBD": descriptor("CalcNumHBD"),
    "HBA": descriptor("CalcNumHBA"),
    "rotatable": descriptor("CalcNumRotatableBonds"),
}


def known(name: str) -> str | None:
    """The property's own spelling, None for a name that is none of ours."""
    return next((k for k in PROPERTIES if k.lower() == name.lower()), None)


def need(name: str) -> str:
    """The property's own spelling. Raises ``ValueError`` for one that cannot be computed."""
    found = known(name)
    if found is None:
        raise ValueError(
            f"got the property {name!r}, expected one of {', '.join(PROPERTIES)}{suggest(name, PROPERTIES)}"
        )
    return found


def compute(mols: Iterable[Chem.Mol | None], names: Sequence[str]) -> np.ndarray:
    """(N, K) float64; NaN for no molecule and for what RDKit cannot compute. Raises ``ValueError`` for
    unknown names."""
    functions = [PROPERTIES[need(n)] for n in names]
    rows = [[_one(f, mol) for f in functions] for mol in mols]
    return np.array(rows, dtype=np.float64).reshape(-1, len(functions))


def _one(function: Callable[[Chem.Mol], float], mol: Chem.Mol | None) -> float:
    if mol is None:
        return math.nan
    try:
        return float(function(mol))
    # what descriptors raise on odd molecules, such as open ends alone
    except (ValueError, RuntimeError, ZeroDivisionError):
        return math.nan
