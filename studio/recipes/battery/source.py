"""Cells to learn from: simulated ones, or a user's own measurements."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from studio.data.arrays import Data, from_arrays
from studio.data.conditions import Field
from studio.data.parts import HELD_OUT, parted
from studio.recipes.battery import batteryml, measured
from studio.recipes.battery.cells import simulate
from studio.recipes.battery.measured import Measured


def battery(
    *,
    path: str = "",
    matrix: str = "matrix",
    protocol: str = "protocol",
    count: int = 30000,
    seed: int = 0,
    held_out: float = HELD_OUT,
) -> Data:
    """Capacity curves (N, 256) in percent at every tenth cycle, with the early matrix (20, 50) as the
    condition ``matrix``. ``path``: a table or an .npz of measurements (`studio.recipes.battery.measured`), or
    a file or a folder of BatteryML (`studio.recipes.battery.batteryml`); ``matrix`` and ``protocol`` name
    arrays, columns of the table, or entries of a cell; cells of one protocol are trained on together or held
    out together. Without one, ``count`` simulated cells from ``seed``
    (`studio.recipes.battery.cells`). Raises ``ValueError`` for what does not fit together."""
    if path:
        where = Path(path).expanduser()
        found, name = own(where, matrix=matrix, protocol=protocol), where.stem.replace("_", "-")
    else:
        made = simulate(count, seed)
        found, name = Measured(made["curve"], made["matrix"], np.arange(count)), "simulated-cells"
    parts = apart(found.groups, held_out)
    mean, std = units(found.curves[parts[0]])
    asked: dict[str, Any] = {}
    if found.matrices is not None:
        asked = {"matrix": (Field("matrix", "field"), found.matrices)}
    data = from_arrays(
        name,
        found.curves,
        None,
        (),
        held_out=held_out,
        task="battery",
        codec={"name": "curves", "mean": mean, "std": std, "places": True},
        conditions=asked,
        parts=parts,
    )
    return replace(data, notes=(*found.notes, *data.notes))


def own(where: Path, *, matrix: str = "matrix", protocol: str = "protocol") -> Measured:
    """A user's cells: of BatteryML, or a table or arrays. Raises ``ValueError``."""
    if batteryml.is_batteryml(where):
        return batteryml.read(where, protocol=protocol)
    return measured.read(where, matrix=matrix, protocol=protocol)


def apart(groups: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """(train, held-out) indices, sorted: whole groups are held out, in a fixed random order, until they are a
    ``share`` of all; one always stays."""
    names, member = np.unique(groups, return_inverse=True)
    if len(names) == len(groups):
        return parted(len(groups), None, share)
    order = np.random.Generator(np.random.Philox(key=0)).permutation(len(names))
    sizes = np.bincount(member)[order]
    before = np.cumsum(sizes) - sizes
    chosen = order[:-1][before[:-1] < round(share * len(groups))]
    rest = np.isin(member, chosen)
    return np.flatnonzero(~rest), np.flatnonzero(rest)


def units(curves: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and deviation of every place of (N, L); 1 for one that is constant."""
    mean, std = curves.mean(0, dtype=np.float64), curves.std(0, dtype=np.float64)
    return mean.tolist(), np.where(std > 1e-6, std, 1.0).tolist()
