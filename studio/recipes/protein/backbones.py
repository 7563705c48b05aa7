"""Backbones to learn from: 3,500 chains of the Protein Data Bank that come with the studio, or a folder of
one's own PDB files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from studio.data.arrays import Arrays, Data, from_arrays
from studio.data.parts import parted
from studio.recipes.protein import pdb
from studio.recipes.protein.placing import FIRST, LAST, angles_of, real
from studio.runtime.name_clash import HOME

BUNDLED = "studio/bundled/data/protein_backbones.npz"
SHORTEST, LONGEST = 40, 128  # residues
CUT = 1e-4  # share of a narrow angle's values that lie beyond its scale


def backbones(
    *, path: str = "", shortest: int = SHORTEST, longest: int = LONGEST, held_out: float = 0.1
) -> Data:
    """(N, ``longest``, 6) radians, NaN on padding and where an angle does not exist: see
    `studio.recipes.protein.placing` for their order. ``path``: a folder of PDB files (with all folders in
    it), whose chains are cut where residues are missing; longer ones give their first ``longest`` residues.
    Without it the bundled chains. No two of those share much, so a plain part is held out.

    Raises ``ValueError`` for a folder without a chain that is long enough, and for lengths that are none.
    """
    if not 2 <= shortest <= longest:
        raise ValueError(f"got chains of {shortest} to {longest} residues, expected 2 or more")
    chains, left = bundled() if not path else in_folder(Path(path).expanduser())
    kept = [chain[:longest] for chain in chains if len(chain) >= shortest]
    if len(kept) < 2:
        raise ValueError(
            f"got {len(kept)} chains of {shortest} or more residues in {path or BUNDLED}, expected two or "
            "more; choose a lower data.shortest, or more files"
        )
    short = len(chains) - len(kept)
    notes = (*left, *((f"{short} chains of less than {shortest} residues are left out",) if short else ()))
    values = filled(kept, longest)
    train, rest = parted(len(values), None, held_out)
    data = from_arrays(
        Path(path).name if path else "protein-backbones",
        values,
        None,
        (),
        held_out=held_out,
        task="protein",
        codec=codec_of(values[train]),
        parts=(train, rest),
    )

    def told(part: Any) -> Any:
        return part and Arrays(part.values, named={"valid": real(part.values)})

    return replace(data, train=told(data.train), held_out=told(data.held_out), notes=notes)


def bundled() -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Chains (n, 6) of the file that comes with the studio. It holds half-precision numbers as two bytes, the
    higher ones first, which take less room in a zip."""
    with np.load(HOME / BUNDLED, allow_pickle=False) as file:
        bits = (file["high"].astype(np.uint16) << 8) | file["low"]
        ends = file["lengths"].astype(np.int64).cumsum()
    return np.split(bits.view(np.float16).astype(np.float32).T, ends[:-1]), ()


def in_folder(folder: Path) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Chains (n, 6) of the PDB files of a folder, and what is to be told of those that cannot be read.
    Raises ``ValueError`` for a folder without any."""
    if not folder.is_dir():
        raise ValueError(f"got data.path={folder}, expected a folder of PDB files; check the path")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".pdb", ".ent"))
    if not found:
        raise ValueError(f"{folder} holds no .pdb or .ent file, expected one or more")
    chains, lost = [], []
    for path in found:
        try:
            chains += [angles_of(atoms).astype(np.float32) for atoms in pdb.read(path)]
        except ValueError:
            lost.append(path.name)
    told = f"{len(lost)} of {len(found)} files cannot be read (first {lost[0]})" if lost else ""
    return chains, (told,) if told else ()


def filled(chains: Sequence[np.ndarray], longest: int) -> np.ndarray:
    """Chains (n, 6) as one array (N, longest, 6) float32; NaN on padding, and where an end has no angle."""
    made = np.full((len(chains), longest, 6), np.nan, np.float32)
    for row, chain in zip(made, chains):
        row[: len(chain)] = chain
        row[0, list(FIRST)] = np.nan
        row[len(chain) - 1, list(LAST)] = np.nan
    return made


def codec_of(values: np.ndarray) -> dict[str, Any]:
    """Mean directions, scales and lengths of (N, n, 6). Angles that stay within a part of the circle are
    scaled up, so that all but `CUT` of them lie within 3 of the π radians to a side."""
    turned = np.exp(1j * values.astype(np.float64))
    centre = np.angle(np.nanmean(turned, (0, 1))).astype(np.float32).astype(np.float64)
    far = np.abs(np.angle(turned * np.exp(-1j * centre)))
    scale = np.minimum(1.0, np.nanquantile(far, 1 - CUT, axis=(0, 1)) / 3)
    return {
        "name": "chains",
        "centre": centre.tolist(),
        "scale": np.maximum(scale, 1e-3).round(4).tolist(),
        "lengths": np.bincount(real(values).sum(1), minlength=values.shape[1] + 1)[1:].tolist(),
        "first": list(FIRST),
        "last": list(LAST),
    }
