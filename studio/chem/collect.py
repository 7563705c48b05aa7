"""A file of molecules as graphs and numbers: rows are read, cut to their largest fragment, freed of
duplicates and checked one by one; what is left out is told with its line. Every graph that is kept gives its
molecule back, or the row is left out too."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from studio.chem import decode, graphs, properties
from studio.chem.collection import Collection, digest, read, write
from studio.chem.reading import Rejected, Table, has_commas, number, read_table
from studio.chem.toolkit import canonical, read_smiles, version
from studio.runtime.files import cache_home

FORMAT = 2
MOST_BYTES = 4_000_000_000  # of all graphs together


class Column(NamedTuple):
    """A condition: its ``place`` in the file or the property that is ``computed``; ``log`` takes the
    logarithm."""

    name: str
    place: int | None
    computed: str | None
    log: bool
    commas: bool = False

    def value(self, number: float) -> float:
        """Raises ``ValueError`` for a number that has no logarithm where one is asked for."""
        if not self.log or math.isnan(number):
            return number
        if number <= 0:
            raise ValueError(f"got {number:g} for {self.name}, expected a positive number")
        return math.log10(number)


def _inner(condition: str) -> str:
    """NAME of ``log10(NAME)``, otherwise the condition itself."""
    return (
        condition[6:-1].strip() if condition.startswith("log10(") and condition.endswith(")") else condition
    )


@dataclass
class _Rows:
    """What has been kept so far."""

    smiles: dict[str, None] = field(default_factory=dict)
    types: list[list[str]] = field(default_factory=list)
    bonds: list[np.ndarray] = field(default_factory=list)
    numeric: list[list[float]] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    unread: list[Rejected] = field(default_factory=list)
    salts: int = 0
    duplicates: int = 0


def collect(
    path: str | Path,
    *,
    smiles: str | None = None,
    conditions: Sequence[str] = (),
    aromatic: bool = False,
    max_atoms: int = 30,
    size: int | None = None,
    atoms: Sequence[str] | None = None,
    limit: int | None = None,
    extra: str | None = None,
    cache: bool = True,
) -> Collection:
    """The molecules of a .csv, .tsv or .smi file, kept in the user's cache by its content.

    ``conditions``: columns of the file, or properties that are computed where it has no such column;
    ``log10(NAME)`` is the logarithm of one. ``max_atoms``: rows with more atoms (open ends count, hydrogens
    do not) are left out; ``size``: n of the arrays, by default that of the largest molecule; ``atoms``: atom
    types of a model that exists, rows with others are left out; ``limit``: so many rows, chosen at random.
    Raises ``ValueError`` for a column that is not there, two conditions with one name, and a file without a
    single usable molecule.
    """
    if len({c.lower() for c in conditions}) < len(conditions):
        raise ValueError(
            f"got conditions {', '.join(conditions)}, of which two have one name; expected different names"
        )
    if max_atoms < 1 or (size is not None and size < 1) or (limit is not None and limit < 1):
        raise ValueError(f"got max_atoms={max_atoms}, size={size} and limit={limit}, expected at least 1")
    where = Path(path).expanduser()
    options = [
        smiles,
        list(conditions),
        aromatic,
        max_atoms,
        size,
        atoms and list(atoms),
        limit,
        extra,
        where.suffixes,
        version,
        FORMAT,
    ]
    store = (
        cache_home() / "molecules" / f"{digest(where, options)}.npz" if cache and where.is_file() else None
    )
    found = read(store) if store is not None else None
    if found is None:
        found = _collect(
            read_table(where),
            smiles,
            conditions,
            aromatic,
            min(max_atoms, size or max_atoms),
            size,
            atoms,
            limit,
            extra,
        )
        if store is not None:
            write(store, found)
    return found


def _collect(
    table: Table,
    smiles: str | None,
    conditions: Sequence[str],
    aromatic: bool,
    most: int,
    size: int | None,
    atoms: Sequence[str] | None,
    limit: int | None,
    extra: str | None,
) -> Collection:
    place, aside = table.smiles(smiles), table.place(extra) if extra is not None else None
    if extra is not None and aside is None:
        raise ValueError(
            f"{table.path} has the columns {', '.join(table.columns)}, expected {extra!r} among them"
        )
    columns = [
        Column(name, table.place(inner), properties.known(inner), inner != name)
        for name, inner in ((c, _inner(c)) for c in conditions)
    ]
    for name, column, computed, *_ in columns:
        if column is None and computed is None:
            raise ValueError(
                f"got the condition {_inner(name)!r}, expected a column of {table.path} "
                f"({', '.join(table.columns)}) or a property ({', '.join(properties.PROPERTIES)})"
            )
    columns = [
        c if c.place is None else c._replace(commas=has_commas([row[c.place] for row in table.rows]))
        for c in columns
    ]
    order: Sequence[int] = range(len(table.rows))
    if limit is not None and limit < len(order):
        order = sorted(np.random.Generator(np.random.Philox(key=0)).permutation(len(order))[:limit].tolist())
    kept = _Rows(rejected=list(table.broken))
    for row, line in ((table.rows[i], table.lines[i]) for i in order):
        try:
            _add(kept, row, line, place, columns, aromatic, most, atoms, "" if aside is None else row[aside])
        except ValueError as error:
            kept.rejected.append(Rejected(line, row[place], str(error)))
    if not kept.smiles:
        first = min(kept.rejected, key=lambda r: r.line)
        raise ValueError(f"{table.path} has no usable molecule, first line {first.line}: {first.reason}")
    names = tuple(atoms) if atoms is not None else graphs.vocabulary(t for types in kept.types for t in types)
    n = size or max(map(len, kept.types))
    _check_size(table.path, kept, n, size)
    values = np.stack([graphs.to_graph(t, b, names, n) for t, b in zip(kept.types, kept.bonds)])
    numeric = np.array(kept.numeric, dtype=np.float64).reshape(len(values), len(columns))
    for (name, *_), numbers in zip(columns, numeric.T):
        if np.isnan(numbers).all():
            raise ValueError(
                f"{table.path} has no number for the condition {name!r}, expected at least one; choose "
                "another column"
            )
    return Collection(
        tuple(kept.smiles),
        values,
        names,
        numeric,
        tuple(kept.extra),
        tuple(kept.rejected),
        kept.salts,
        kept.duplicates,
        tuple(kept.unread),
    )


def _add(
    kept: _Rows,
    row: Sequence[str],
    line: int,
    place: int,
    columns: Sequence[Column],
    aromatic: bool,
    most: int,
    atoms: Sequence[str] | None,
    extra: str,
) -> None:
    """One row. Raises ``ValueError`` for one that cannot be used."""
    unread: list[Rejected] = []

    def read(column: Column) -> float | None:
        if column.place is None:
            return None
        try:
            return number(row[column.place], column.name, column.commas)
        except ValueError as error:
            unread.append(Rejected(line, row[place], str(error)))
            return math.nan

    numbers = [read(c) for c in columns]
    whole = read_smiles(row[place])
    mol = decode.largest(whole)
    if graphs.size_of(mol) > most:
        raise ValueError(
            f"got a molecule of {graphs.size_of(mol)} atoms, expected at most {most}; raise data.max_atoms"
        )
    ready, text = graphs.prepared(mol, aromatic=aromatic)
    if text in kept.smiles:
        kept.duplicates += 1
        return
    types, bonds = graphs.types_of(ready), graphs.bonds_of(ready)
    unknown = next((t for t in types if atoms is not None and t not in atoms), None)
    if unknown is not None:
        raise ValueError(f"got the atom type {unknown}, expected one of {', '.join(atoms or ())}")
    _check(types, bonds, text)
    computed = [c.computed for c in columns if c.place is None and c.computed is not None]
    more = iter(properties.compute([mol], computed)[0]) if computed else iter(())
    values = [c.value(float(next(more)) if v is None else v) for c, v in zip(columns, numbers)]
    kept.smiles[text] = None
    kept.types.append(types)
    kept.bonds.append(bonds)
    kept.numeric.append(values)
    kept.extra.append(extra)
    kept.unread += unread
    kept.salts += mol is not whole


def _check_size(path: Path, kept: _Rows, n: int, size: int | None) -> None:
    """Raises ``ValueError`` where all graphs, each as large as the largest, would take more memory than is
    reasonable."""
    need = len(kept.smiles) * n * (n + 1)
    if need <= MOST_BYTES:
        return
    fits = int((MOST_BYTES / len(kept.smiles)) ** 0.5) - 1
    larger = sum(len(t) > fits for t in kept.types)
    way = (
        f"data.max_atoms={fits} leaves out the {larger:,} that are larger"
        if size is None
        else f"set data.size={fits} or less"
    )
    raise ValueError(
        f"{path}: {len(kept.smiles):,} molecules as graphs of {n} atoms, as many as the largest has, take "
        f"{need / 1e9:.0f} GB, expected at most "
        f"{MOST_BYTES / 1e9:.0f}; {way}"
    )


def _check(types: Sequence[str], bonds: np.ndarray, text: str) -> None:
    """Raises ``ValueError`` where the graph is not the molecule, such as radicals, whose missing hydrogens it
    does not tell."""
    names = graphs.vocabulary(types)
    back = decode.plain(graphs.to_graph(types, bonds, names, len(types)), names)
    found = None if back is None else canonical(back)
    if found != text:
        raise ValueError(
            f"got {text}, which a graph without hydrogens does not hold (it gives {found or 'no molecule'})"
        )
