"""Measurements of one's own: a table with a line for each cell and cycle, or an .npz.

A curve ends with its last measured cycle; what is written after it, NaN or anything else, is not looked at,
since where it ends is what is to be foretold. From there on a curve is 0, as that of a simulated cell in the
end, so a cell that was taken off the test alive counts as dead there. A matrix of nothing but zeros was not
measured: it counts as missing.
"""

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backbones.registry import suggest
from studio.data.npz_files import array_of, opened
from studio.recipes.battery.cells import CYCLES, POINTS, ROWS, VOLTAGES

TABLES = (".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Measured:
    """``curves`` (N, 256) float32 percent, ``matrices`` (N, 20, 50) float32, NaN where there is none, or None
    where no cell has one; ``groups`` (N,): cells that belong together. ``ends`` (N,): points that were
    measured. ``notes``: what a user should know. ``names`` of cells, where they have some."""

    curves: np.ndarray
    matrices: np.ndarray | None
    groups: np.ndarray
    ends: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def read(where: Path, *, matrix: str = "matrix", protocol: str = "protocol") -> Measured:
    """A .csv with columns ``cell``, ``cycle`` and ``capacity`` (any unit), or an .npz with ``soh`` (N, 256)
    at every tenth cycle in percent or shares of the first, NaN after the last measured cycle; there also
    ``valid_len`` (N,), as many points as were measured, and a matrix (N, 20, 50). ``protocol`` names a
    column, or an array (N,) or (N, k), equal for cells that were treated alike. Raises ``ValueError``."""
    if where.suffix.lower() in TABLES:
        return _table(where, protocol)
    with opened(where) as file:
        if "soh" not in file:
            raise ValueError(f"{where} holds {', '.join(file)}, expected soh (N, 256){suggest('soh', file)}")
        soh = array_of(file, "soh", where, "floats (N, 256)").astype(np.float64)
        lengths = array_of(file, "valid_len", where, "numbers (N,)") if "valid_len" in file else None
        matrices = array_of(file, matrix, where, "floats (N, 20, 50)") if matrix in file else None
        alike = array_of(file, protocol, where, "numbers or names (N,)") if protocol in file else None
    for name, there in (("matrix", matrices), ("protocol", alike)):
        asked = matrix if name == "matrix" else protocol
        if there is None and asked != name:
            raise ValueError(f"{where} has no array {asked!r}, expected one as data.{name} says")
    if soh.ndim != 2 or soh.shape[1] != POINTS or not len(soh):
        raise ValueError(f"{where}: got soh of shape {soh.shape}, expected (N, {POINTS}), every tenth cycle")
    for name, value in (("valid_len", lengths), (matrix, matrices), (protocol, alike)):
        if value is not None and len(value) != len(soh):
            raise ValueError(f"{where}: got {len(value)} of {name} for {len(soh)} cells, expected one each")
    ends = ended(soh) if lengths is None else lengths.astype(np.int64)
    if matrices is not None and matrices.shape[1:] != (ROWS, VOLTAGES):
        raise ValueError(f"{where}: got {matrix} of {matrices.shape}, expected (N, {ROWS}, {VOLTAGES})")
    groups = np.arange(len(soh)) if alike is None else _alike(alike)
    return finished(soh, ends, matrices, groups, str(where))


def finished(
    soh: np.ndarray, ends: np.ndarray, matrices: np.ndarray | None, groups: np.ndarray, where: str
) -> Measured:
    """Curves (N, 256) that are 0 after their ``ends`` (N,), in percent, and matrices of which none is zeros.
    Raises ``ValueError`` for cells without a measured point, and for gaps before the end."""
    there = np.arange(POINTS) < ends[:, None]
    for wrong, why in (
        ((ends < 1) | (ends > POINTS), f"got no measured points, or more than {POINTS}"),
        ((there & ~np.isfinite(soh)).any(1), "got a gap before the last measured point"),
    ):
        if wrong.any():
            raise ValueError(f"{where}: {why} in cell {int(wrong.argmax())}; mend it, or leave it out")
    notes: list[str] = []
    curves = np.where(there, soh, 0.0)
    if np.median(soh[:, 0]) < 2:
        curves, notes = 100 * curves, ["capacities are shares of the first; they were taken times 100"]
    if matrices is not None:
        matrices = matrices.astype(np.float32)
        empty = ~(np.nan_to_num(matrices) != 0).any((1, 2))
        zeros = empty & ~np.isnan(matrices).all((1, 2))
        matrices = np.where(empty[:, None, None], np.nan, matrices)
        if zeros.any():
            notes.append(f"{int(zeros.sum())} matrices are all zeros (first: cell {int(zeros.argmax())}); "
                         "they count as missing")  # fmt: skip
        matrices = None if empty.all() else matrices
    return Measured(curves.astype(np.float32), matrices, groups, ends, tuple(notes))


def ended(soh: np.ndarray) -> np.ndarray:
    """(N,) how many points of (N, 256) come before the NaN at the end."""
    there = np.isfinite(soh)
    return np.where(there.any(1), POINTS - there[:, ::-1].argmax(1), 0)


def _alike(given: np.ndarray) -> np.ndarray:
    """(N,) the group of each row, told from (N,) or (N, k)."""
    flat = given.reshape(len(given), -1)
    return np.unique(flat, axis=0, return_inverse=True)[1].reshape(-1)


def _table(where: Path, protocol: str) -> Measured:
    if not where.is_file():
        raise ValueError(f"got the table {where}, which does not exist; check the path")
    cells: dict[str, list[tuple[float, float]]] = defaultdict(list)
    alike: dict[str, str] = {}
    with open(where, newline="", encoding="utf-8-sig") as handle:
        reader: Any = csv.DictReader(handle, delimiter="\t" if where.suffix.lower() == ".tsv" else ",")
        columns = reader.fieldnames or []
        for column in ("cell", "cycle", "capacity"):
            if column not in columns:
                raise ValueError(
                    f"{where} has the columns {', '.join(columns) or 'none'}, expected cell, cycle and "
                    f"capacity{suggest(column, columns)}"
                )
        for row in reader:
            try:
                pair = float(row["cycle"]), float(row["capacity"])
            except (TypeError, ValueError):
                raise ValueError(f"{where}, line {reader.line_num}: got no numbers for cycle and capacity") \
                    from None  # fmt: skip
            if not np.isfinite(pair).all() or pair[0] < 0:
                raise ValueError(
                    f"{where}, line {reader.line_num}: got {pair}, expected finite numbers from 0"
                )
            cells[row["cell"]].append(pair)
            alike[row["cell"]] = row.get(protocol) or row["cell"]
    if not cells:
        raise ValueError(f"{where} has no lines, expected one for each cell and cycle")
    soh = np.full((len(cells), POINTS), np.nan)
    for i, (name, pairs) in enumerate(cells.items()):
        cycle, capacity = np.array(sorted(pairs)).T
        if capacity[0] <= 0 or cycle[0] > CYCLES[1]:
            raise ValueError(f"{where}: cell {name} begins at cycle {cycle[0]:g} with {capacity[0]:g}, "
                             "expected a capacity above 0 within the first ten cycles")  # fmt: skip
        at = CYCLES <= cycle[-1]
        soh[i, at] = 100 * np.interp(CYCLES[at], cycle, capacity) / capacity[0]
    groups = _alike(np.array([alike[name] for name in cells]))
    return finished(soh, ended(soh), None, groups, str(where))
