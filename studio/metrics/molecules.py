"""How good molecules are: valid, new, unlike each other, like real ones, and on target.

Uniqueness, novelty, internal diversity and fragment similarity are MOSES's (Polykovskiy et al. 1811.12823);
FCD is the Fréchet distance of ChemNet's activations (Preuer et al. 1803.09518), with the weights that
fcd-torch brings.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from studio.chem import decode, properties
from studio.chem.splits import scaffold
from studio.chem.toolkit import Chem, canonical, quiet, read_smiles
from studio.metrics.distances import Moments, frechet

BLOCK = 2048
Mols = Sequence[Chem.Mol | None]


def decoded(
    values: np.ndarray, atoms: Sequence[str], *, correct: bool = False, connect: bool = True
) -> list[Chem.Mol | None]:
    """(N, n, n + 1) graphs as molecules, None for those that are none; see `studio.chem.decode`."""
    if correct:
        return [decode.corrected(v, atoms, connect=connect) for v in values]
    return [decode.plain(v, atoms) for v in values]


def of_text(texts: Iterable[str]) -> list[Chem.Mol | None]:
    """SMILES as molecules with all that they tell, None for those that are none, empty ones among them."""
    out: list[Chem.Mol | None] = []
    for text in texts:
        try:
            out.append(read_smiles(text))
        except ValueError:
            out.append(None)
    return out


def smiles_of(mols: Mols, *, stereo: bool = False) -> list[str | None]:
    """Canonical, None for None; ``stereo`` keeps stereochemistry and isotopes."""
    write = Chem.MolToSmiles if stereo else canonical
    return [None if m is None else write(m) for m in mols]


def has_stereo(mol: Chem.Mol) -> bool:
    """Whether a centre or a double bond is specified."""
    unspecified = (Chem.BondStereo.STEREONONE, Chem.BondStereo.STEREOANY)
    centres = any(a.GetChiralTag() != Chem.ChiralType.CHI_UNSPECIFIED for a in mol.GetAtoms())
    return centres or any(b.GetStereo() not in unspecified for b in mol.GetBonds())


def atom_types(mols: Mols) -> tuple[str, ...]:
    """The types, as graphs have them, of the atoms of the valid ones that are no hydrogens."""
    from studio.chem import graphs

    ready = (graphs.prepared(m)[0] for m in mols if m is not None)
    return graphs.vocabulary(
        graphs.atom_type(a) for m in ready for a in m.GetAtoms() if a.GetAtomicNum() != 1
    )


@dataclass(frozen=True)
class Validity:
    """Shares of all graphs. ``valid``: the whole graph sanitises, in one piece or several; ``connected``: and
    it is one molecule."""

    valid: float
    connected: float


def validity(mols: Mols) -> Validity:
    """Of decoded graphs. Raises ``ValueError`` for none."""
    if not mols:
        raise ValueError("got no molecules, expected at least one")
    good = [m for m in mols if m is not None]
    return Validity(len(good) / len(mols), sum(decode.pieces(m) == 1 for m in good) / len(mols))


def uniqueness(smiles: Sequence[str | None]) -> float:
    """Share of different ones among valid ones. Raises ``ValueError`` where none is valid."""
    good = _some(smiles)
    return len(set(good)) / len(good)


def novelty(smiles: Sequence[str | None], training: Collection[str]) -> float:
    """Share of the different valid ones that the training set (canonical SMILES) does not hold."""
    good, seen = set(_some(smiles)), set(training)
    return len(good - seen) / len(good)


def fingerprints(mols: Mols, *, bits: int = 1024, radius: int = 2) -> np.ndarray:
    """(N, bits) uint8 Morgan fingerprints (Rogers & Hahn 2010) of the valid ones."""
    from rdkit.Chem import rdFingerprintGenerator

    maker = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=bits)
    rows = [maker.GetFingerprintAsNumPy(m) for m in _some(mols)]
    return np.stack(rows).astype(np.uint8)


def tanimoto(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, M) of bits (N, d) and (M, d): those in both over those in either; two empty fingerprints are
    alike."""
    x, y = a.astype(np.float32), b.astype(np.float32)
    both = x @ y.T
    either = x.sum(1)[:, None] + y.sum(1)[None] - both
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def internal_diversity(mols: Mols | np.ndarray, *, bits: int = 1024, p: int = 1) -> float:
    """1 − the mean Tanimoto similarity over all pairs, each with itself too, as MOSES has it (so N equal
    molecules give 0, N unlike ones 1 − 1/N). Of power ``p`` 1 − mean_i (mean_j T_ij^p)^(1/p), the root taken
    molecule by molecule as in MOSES's code. ``mols`` may be `fingerprints`."""
    prints = mols if isinstance(mols, np.ndarray) else fingerprints(mols, bits=bits)
    total = 0.0
    for i in range(0, len(prints), BLOCK):
        alike = tanimoto(prints[i : i + BLOCK], prints)
        total += float(((alike if p == 1 else alike**p).mean(1, dtype=np.float64) ** (1 / p)).sum())
    return 1 - total / len(prints)


def nearest_similarity(mols: Mols | np.ndarray, reference: Mols | np.ndarray, *, bits: int = 1024) -> float:
    """Mean over molecules of the Tanimoto similarity to the most alike of the reference; either may be
    `fingerprints`."""
    mine, theirs = (v if isinstance(v, np.ndarray) else fingerprints(v, bits=bits) for v in (mols, reference))
    best = [
        np.max(
            [tanimoto(mine[i : i + 256], theirs[j : j + 8192]).max(1) for j in range(0, len(theirs), 8192)], 0
        )
        for i in range(0, len(mine), 256)
    ]
    return float(np.concatenate(best).mean())


def fragments(mols: Mols) -> Counter[str]:
    """Counts of the pieces between the bonds that synthesis would make (BRICS, Degen et al. 2008)."""
    from rdkit.Chem import BRICS

    counts: Counter[str] = Counter()
    with quiet():
        for mol in _some(mols):
            counts.update(Chem.MolToSmiles(BRICS.BreakBRICSBonds(mol)).split("."))
    return counts


def scaffolds(mols: Mols) -> Counter[str]:
    """Counts of Bemis–Murcko scaffolds; molecules without rings have none."""
    return Counter(s for s in map(scaffold, _some(mols)) if s)


def cosine(a: Mapping[str, int], b: Mapping[str, int]) -> float:
    """Of two counts; 0 where either is empty."""
    norm = np.sqrt(float(sum(v * v for v in a.values()))) * np.sqrt(float(sum(v * v for v in b.values())))
    return sum(v * b[k] for k, v in a.items() if k in b) / norm if norm else 0.0


def scaffold_share(found: Mapping[str, int], reference: Collection[str]) -> float:
    """Share of the molecules with rings, by the counts of their `scaffolds`, whose scaffold is one of the
    reference's; 0 where none has rings."""
    return sum(v for k, v in found.items() if k in reference) / max(1, sum(found.values()))


@cache
def chemnet_network() -> Any:
    """Loaded once. Raises ``ImportError`` without fcd-torch."""
    try:
        from fcd_torch import FCD
    except ImportError as error:
        raise ImportError(
            f"FCD needs fcd-torch, which is not installed; pip install 'drift-studio[chem]' ({error})"
        ) from None
    return FCD(device="cpu", canonize=False)


def chemnet(smiles: Sequence[str | None]) -> Moments:
    """Moments of ChemNet's 512 activations of the valid ones. Raises ``ImportError`` without fcd-torch."""
    from fcd_torch.utils import get_one_hot

    net, texts, moments = chemnet_network().model, _some(smiles), Moments()
    with torch.no_grad():
        for start in range(0, len(texts), 256):
            hot = np.stack([get_one_hot(t, 350) for t in texts[start : start + 256]])  # (B, 350, 35)
            moments.update(net(torch.from_numpy(hot / hot.shape[2]).transpose(1, 2).float()))
    return moments


def fcd(samples: Moments | Sequence[str | None], reference: Moments | Sequence[str | None]) -> float:
    """Fréchet ChemNet Distance of SMILES, or of moments that are there already; fewer than a few thousand
    molecules give numbers that only compare at equal N."""
    a, b = (v if isinstance(v, Moments) else chemnet(v) for v in (samples, reference))
    return frechet(a, b)


def coverage(mols: Mols, atoms: Sequence[str]) -> float:
    """Share of the atom types that stand in at least one valid molecule."""
    return len(set(atom_types(_some(mols))) & set(atoms)) / len(atoms)


@dataclass(frozen=True)
class OnTarget:
    """``mae`` mean |obtained − asked| over the valid molecules that were asked for the property, in its own
    unit; ``share`` they are of those asked."""

    mae: float
    share: float


def on_target(mols: Mols, asked: np.ndarray, names: Sequence[str]) -> dict[str, OnTarget]:
    """Of (N, K) targets in own units, NaN = not asked for; properties without a target are left out. Raises
    ``ValueError`` for a name that cannot be computed and other shapes."""
    if asked.shape != (len(mols), len(names)):
        raise ValueError(f"got targets of shape {asked.shape}, expected ({len(mols)}, {len(names)})")
    error, out = np.abs(properties.compute(mols, names) - asked), {}
    for k, name in enumerate(names):
        wanted = ~np.isnan(asked[:, k])
        got = wanted & ~np.isnan(error[:, k])
        if wanted.any():
            out[name] = OnTarget(
                float(error[got, k].mean()) if got.any() else float("nan"), float(got.sum() / wanted.sum())
            )
    return out


def _some(items: Sequence[Any]) -> list[Any]:
    """Those that are not None. Raises ``ValueError`` for none."""
    good = [i for i in items if i is not None]
    if not good:
        raise ValueError("got no valid molecule, expected at least one")
    return good
