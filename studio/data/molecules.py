"""Molecules from a file, as graphs with numeric conditions; needs the extra ``chem``."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from studio.data.arrays import Arrays, Data, content_hash, from_arrays, split
from studio.runtime.name_clash import at_home

LEFT_OUT = "rows-left-out.csv"
HELD_OUT = ("test", "held_out", "heldout", "valid", "validation", "val", "test_scaffolds")


def molecules(
    *,
    path: str,
    smiles: str | None = None,
    conditions: tuple[str, ...] = (),
    held_out: float = 0.1,
    split: str = "random",
    aromatic: bool = False,
    max_atoms: int = 30,
    size: int | None = None,
    atoms: tuple[str, ...] | None = None,
    limit: int | None = None,
    cache: bool = True,
) -> Data:
    """Graphs (n, n + 1) of a .csv, .tsv or .smi file (also .gz) with the conditions standardised.

    ``smiles``: the column with the molecules, found by its usual names; ``conditions``: columns of the file,
    or logP, QED, SA, TPSA, MW, rings, heavy_atoms, HBD, HBA and rotatable, computed where there is no such
    column, or ``log10(NAME)`` of one; ``split``: random, scaffold, or a column that says train or test;
    ``max_atoms``: larger molecules are left out; ``size``: n, by default that of the largest molecule;
    ``atoms``: the atom types of a model to go on with; ``limit``: so many rows, at random. What is left out
    stands in ``rows-left-out.csv`` beside the run. Raises ``ValueError`` for a file or column that does not
    fit, ``ImportError`` without RDKit.
    """
    from studio.chem.collect import collect
    from studio.chem.reading import report

    column = None if split in ("random", "scaffold") else split
    found = collect(
        path,
        smiles=smiles,
        conditions=conditions,
        aromatic=aromatic,
        max_atoms=max_atoms,
        size=size,
        atoms=atoms,
        limit=limit,
        extra=column,
        cache=cache,
    )
    train, rest = parts(found.smiles, found.extra, split, held_out)
    name = Path(path).name.partition(".")[0]
    numeric = found.numeric if conditions else None
    data = from_arrays(
        name,
        found.graphs,
        None,
        (),
        held_out=held_out,
        task="molecule",
        codec={},
        numeric=numeric,
        numeric_names=conditions,
        parts=(train, rest),
    )
    codec = {
        "name": "graph",
        "atoms": list(found.atoms),
        "size": found.graphs.shape[1],
        "aromatic": aromatic,
        **node_counts(data.train),
    }
    about = np.frombuffer(json.dumps([found.atoms, aromatic]).encode(), np.uint8)
    out = (*found.rejected, *found.unread)
    beside = {LEFT_OUT: report(out)} if out else {}
    digest = content_hash(found.graphs, found.numeric, train, about)
    return replace(data, codec=codec, hash=digest, skipped=0, notes=found.notes, beside=beside)


def parts(
    smiles: tuple[str, ...], marks: tuple[str, ...], how: str, held_out: float
) -> tuple[np.ndarray, np.ndarray]:
    """(train, held-out) indices: at random, by whole scaffolds, or by what a column says of each row. Raises
    ``ValueError`` for marks that leave no training molecule."""
    if how == "random":
        return split(len(smiles), held_out)
    if how == "scaffold":
        from studio.chem.splits import scaffold_split

        return scaffold_split(smiles, held_out)
    held = np.array([m.lower() in HELD_OUT for m in marks])
    if held.all():
        raise ValueError(
            f"got split: {how}, a column without a single training row, expected train and test in it"
        )
    return np.flatnonzero(~held), np.flatnonzero(held)


def node_counts(train: Arrays) -> dict[str, Any]:
    """``counts``: share of molecules with 0, 1, 2 … atoms; ``joint``: mean and covariance of (number of
    atoms, standardised conditions) over molecules that have all conditions, from which the number of atoms
    follows for conditions that are asked for."""
    sizes = (train.values[..., 0] > 0).sum(1)
    counts = np.bincount(sizes, minlength=train.values.shape[1] + 1) / len(sizes)
    columns = (
        sizes[:, None].astype(np.float64)
        if train.numeric is None
        else np.column_stack([sizes, train.numeric])
    )
    whole = columns[~np.isnan(columns).any(1)]
    width = columns.shape[1]
    if len(whole) < 2:  # nothing to learn a relation from
        mean, cov = (
            np.concatenate([[sizes.mean()], np.zeros(width - 1)]),
            np.diag([max(float(sizes.var()), 1e-6), *[1.0] * (width - 1)]),
        )
    else:
        mean, cov = whole.mean(0), np.cov(whole.T).reshape(width, width)
    return {"counts": counts.tolist(), "joint": {"mean": mean.tolist(), "cov": cov.tolist()}}


def moses(
    *,
    path: str = "data/molecules_moses_45k.csv.gz",
    conditions: tuple[str, ...] = ("logP", "QED", "TPSA"),
    aromatic: bool = False,
    max_atoms: int = 30,
    size: int | None = None,
    atoms: tuple[str, ...] | None = None,
    limit: int | None = None,
    cache: bool = True,
) -> Data:
    """40,000 drug-like molecules of MOSES (Polykovskiy et al. 1811.12823, MIT) to train on and 5,000 of its
    test set held out; at most 26 atoms."""
    if not (where := at_home(path)).is_file():
        raise ValueError(
            f"got molecule file {path}, which does not exist; it lies in the repository under data/, set "
            "data.path"
        )
    return molecules(
        path=str(where),
        smiles="smiles",
        conditions=conditions,
        split="split",
        aromatic=aromatic,
        max_atoms=max_atoms,
        size=size,
        atoms=atoms,
        limit=limit,
        cache=cache,
    )
