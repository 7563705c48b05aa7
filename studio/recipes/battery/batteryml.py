"""Cells as BatteryML keeps them (Zhang et al. 2310.14714): a file a cell, the pickle of a plain dict.

``cycle_data`` is a list of dicts, one for each cycle: ``cycle_number``, and series over the time of the cycle
``voltage_in_V``, ``current_in_A`` (negative where the cell is discharged) and ``discharge_capacity_in_Ah``.
Beside it stand ``nominal_capacity_in_Ah``, ``min_voltage_limit_in_V``, ``max_voltage_limit_in_V``,
``charge_protocol`` and ``discharge_protocol``. What else there is, is not looked at.

**Curve**: the greatest discharge capacity of a cycle over the nominal one (the first where none is told), in
percent, as the median of five cycles around, since single cycles go wrong; on a line between cycles.

**Matrix** (20, 50): of the cycles 5, 10, … 100 the charge Q(V) given until the voltage first falls to V, at
50 voltages evenly from the upper limit to the lower one, less that of cycle 10, in shares of the nominal
capacity. Only what flows faster than the nominal capacity in fifty hours is discharge. A cycle that was not
recorded, or not discharged, is stood for by one at most two cycles away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import median_filter

from studio.recipes.battery.cells import CYCLES, EARLY, POINTS, VOLTAGES
from studio.recipes.battery.measured import Measured, ended, finished
from studio.runtime import plain_pickle

SUFFIX = ".pkl"
AROUND = 5  # cycles of a median
BASE, NEAR = 10, 2  # the cycle that others are told less of, and how far a cycle may stand for another
SLOWEST = 1 / 50  # of the nominal capacity in an hour
SHOWN = 3  # reasons


class Lacking(ValueError):
    """Why a cell has no curve, or no matrix."""


@dataclass(frozen=True)
class Cell:
    """``soh`` (256,) percent, NaN after the last cycle; ``matrix`` (20, 50) of NaN where it lacks something
    (``lacks``); ``treated``: equal for cells of one protocol, empty where none is told."""

    name: str
    soh: np.ndarray
    matrix: np.ndarray
    treated: str = ""
    lacks: str = ""


def is_batteryml(where: Path) -> bool:
    return where.is_dir() or where.suffix.lower() == SUFFIX


def read(where: Path, *, protocol: str = "protocol") -> Measured:
    """A file, or all .pkl of a folder by name. ``protocol``: an entry of the dicts that is equal for cells
    that were treated alike; by default how they were charged and discharged. Cells that lack a curve are left
    out, and ``notes`` say why. Raises ``ValueError`` for what is no such file, and where no cell is left."""
    files = sorted(where.glob(f"*{SUFFIX}")) if where.is_dir() else [where]
    if not files:
        raise ValueError(
            f"{where} holds no {SUFFIX} file, expected one for each cell, as BatteryML makes them"
        )
    cells, out = list[Cell](), list[str]()
    for file in files:
        try:
            cells.append(cell_of(plain_pickle.read(file), file.stem, protocol))
        except Lacking as why:
            out.append(f"{file.name}: {why}")
    if not cells:
        raise ValueError(f"{where}: no cell has a curve ({_some(out)})")
    notes = [f"{len(out)} of {len(files)} cells are left out ({_some(out)})"] if out else []
    bare = [f"{cell.name}: {cell.lacks}" for cell in cells if cell.lacks]
    if bare:
        notes.append(f"{len(bare)} of {len(cells)} cells have no matrix ({_some(bare)})")
    treated = [cell.treated or f"{cell.name} alone" for cell in cells]
    if len(cells) > 1 and len(set(treated)) == 1:
        treated = [cell.name for cell in cells]
        notes.append("all cells were treated alike: they are split cell by cell")
    soh, matrices = np.stack([cell.soh for cell in cells]), np.stack([cell.matrix for cell in cells])
    groups = np.unique(treated, return_inverse=True)[1].reshape(-1)
    whole = None if len(bare) == len(cells) else matrices
    found = finished(soh, ended(soh), whole, groups, str(where))
    names = tuple(cell.name for cell in cells)
    return Measured(found.curves, found.matrices, groups, found.ends, (*notes, *found.notes), names)


def cell_of(held: Any, name: str, protocol: str = "protocol") -> Cell:
    """Raises `Lacking` for one without a curve, ``ValueError`` for what is no cell."""
    if not isinstance(held, Mapping) or not isinstance(held.get("cycle_data"), Sequence):
        raise ValueError(f"{name}{SUFFIX} is no cell of BatteryML, expected a dict with a list cycle_data")
    if protocol != "protocol" and protocol not in held:
        raise ValueError(
            f"{name}{SUFFIX} has no entry {protocol!r}, expected one as data.protocol says; it has "
            f"{', '.join(map(str, held))}"
        )
    cycles = _by_number(held["cycle_data"])
    capacities = {n: _most(cycle.get("discharge_capacity_in_Ah")) for n, cycle in cycles.items()}
    kept = {n: capacity for n, capacity in sorted(capacities.items()) if capacity > 0}
    if not kept:
        raise Lacking("no cycle has a discharge capacity")
    number, capacity = np.array(list(kept), float), np.array(list(kept.values()))
    nominal = _number(held.get("nominal_capacity_in_Ah")) or capacity[0]
    if number[0] > CYCLES[1]:
        raise Lacking(f"it begins at cycle {number[0]:g}, expected one of the first ten")
    health = 100 * median_filter(capacity, AROUND, mode="nearest") / nominal
    if not 50 <= health[0] <= 200:
        raise Lacking(f"its first capacity is {health[0]:.0f} % of the nominal one")
    soh = np.full(POINTS, np.nan)
    at = CYCLES <= number[-1]
    soh[at] = np.interp(CYCLES[at], number, health)
    keys = ("charge_protocol", "discharge_protocol") if protocol == "protocol" else (protocol,)
    told = [held.get(key) for key in keys]
    treated = "" if all(value is None or value == [] for value in told) else repr(told)
    try:
        return Cell(name, soh, _matrix(held, cycles, nominal), treated)
    except Lacking as why:
        return Cell(name, soh, np.full((len(EARLY), VOLTAGES), np.nan), treated, str(why))


def _matrix(held: Mapping[str, Any], cycles: Mapping[int, Mapping[str, Any]], nominal: float) -> np.ndarray:
    high, low = (_number(held.get(f"{end}_voltage_limit_in_V")) for end in ("max", "min"))
    if not high > low >= 0:
        raise Lacking("no voltage limits")
    volts = np.linspace(high, low, VOLTAGES)
    rows = {}
    for wanted in sorted({BASE, *map(int, EARLY)}):
        near = sorted((n for n in cycles if abs(n - wanted) <= NEAR), key=lambda n: (abs(n - wanted), n))
        given = (_given(cycles[n], volts, SLOWEST * nominal) for n in near)
        row = next((row for row in given if row is not None), None)
        if row is None:
            raise Lacking(f"no discharge near cycle {wanted}")
        rows[wanted] = row
    return np.stack([rows[int(n)] - rows[BASE] for n in EARLY]) / nominal


def _given(cycle: Mapping[str, Any], volts: np.ndarray, slowest: float) -> np.ndarray | None:
    """(50,) charge until the voltage first falls to each of the falling ``volts``; None where nothing was
    discharged, or series do not fit together."""
    keys = ("voltage_in_V", "current_in_A", "discharge_capacity_in_Ah")
    voltage, current, charge = (_series(cycle.get(key)) for key in keys)
    if not len(voltage) == len(current) == len(charge):
        return None
    flows = (current < -slowest) & np.isfinite(voltage) & np.isfinite(charge)
    low = np.minimum.accumulate(voltage[flows])
    if len(low) < 3:
        return None
    first = np.append(True, np.diff(low) < 0)
    return np.asarray(np.interp(-volts, -low[first], charge[flows][first]))


def _by_number(listed: Sequence[Any]) -> dict[int, Mapping[str, Any]]:
    """Cycles by their number, of those that are told twice the later one."""
    return {
        int(_number(cycle.get("cycle_number"))): cycle
        for cycle in listed
        if isinstance(cycle, Mapping) and _number(cycle.get("cycle_number"), -1.0) >= 0
    }


def _series(held: Any) -> np.ndarray:
    try:
        found = np.asarray([] if held is None else held, dtype=np.float64)
    except (TypeError, ValueError):
        return np.zeros(0)
    return found if found.ndim == 1 else np.zeros(0)


def _most(held: Any) -> float:
    found = _series(held)
    found = found[np.isfinite(found)]
    return float(found.max()) if len(found) else 0.0


def _number(held: Any, missing: float = 0.0) -> float:
    return float(held) if isinstance(held, int | float) and np.isfinite(held) else missing


def _some(reasons: Sequence[str]) -> str:
    return "; ".join(reasons[:SHOWN]) + ("; …" if len(reasons) > SHOWN else "")
