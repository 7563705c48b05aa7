"""Values, and for each the set of rows that was seen of it: what simulators and their parameters give, to
learn p(values | set) from.

Without a file: a straight line θ₀ + θ₁ t with θ ~ N(0, I), seen at a few places with noise, whose posterior
is known (`posterior`).
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from backbones.registry import suggest
from studio.data.arrays import Data, from_arrays
from studio.data.condition_files import masked
from studio.data.conditions import Field
from studio.data.finite import check_values
from studio.data.npz_files import array_of, opened
from studio.data.parts import HELD_OUT, parted

NOISE, REACH = 0.5, 2.0  # of the toy: deviation of y, and how far t goes
COUNTS = (2, 20)  # of its rows, at least and at most


def sets(
    *,
    path: str | None = None,
    pooling: str = "mean",
    count: int = 40000,
    seed: int = 0,
    held_out: float = HELD_OUT,
) -> Data:
    """An .npz with ``values`` (N, d), ``set`` (N, K, f) and ``mask`` (N, K), true where a row of the set is
    there; without a mask absent rows are NaN. ``columns`` (f,) may name what a row holds. The condition is
    called ``set``, ``pooling`` is that of its encoder (mean or attention), and ``held_out`` the share kept
    from training. Without a ``path`` ``count`` lines from ``seed``. Raises ``ValueError`` for arrays that do
    not fit together."""
    values, rows, names = lines(count, seed) if path is None else _read(Path(path).expanduser())
    name = "lines" if path is None else Path(path).stem
    train, rest = parted(len(values), None, held_out)
    mean, std = values[train].mean(0, dtype=np.float64), values[train].std(0, dtype=np.float64)
    codec = {"name": "columns", "mean": mean.tolist(), "std": np.where(std > 0, std, 1.0).tolist()}
    asked: dict[str, Any] = {"set": (Field("set", "set", names=names, options={"pooling": pooling}), rows)}
    data = from_arrays(
        name,
        values,
        None,
        (),
        held_out=held_out,
        task="vectors",
        codec=codec,
        conditions=asked,
        parts=(train, rest),
    )
    return data if len(rest) else replace(data, held_out=None)


def lines(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """(N, 2) intercepts and slopes, (N, 20, 2) rows t, y of which 2 to 20 are there (others NaN), and the
    names of the columns."""
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal((count, 2))
    t = rng.uniform(-REACH, REACH, (count, COUNTS[1]))
    y = theta[:, :1] + theta[:, 1:] * t + NOISE * rng.standard_normal(t.shape)
    there = np.arange(COUNTS[1]) < rng.integers(COUNTS[0], COUNTS[1] + 1, count)[:, None]
    rows = masked(np.stack([t, y], -1), there, "lines")
    return theta.astype(np.float32), rows.astype(np.float32), ("t", "y")


def posterior(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (2,) and covariance (2, 2) of a line given its rows t, y (k, 2): with A = [1, t] and noise s,
    (I + AᵀA/s²)⁻¹ and that times Aᵀy/s²."""
    rows = rows[~np.isnan(rows).any(1)].astype(np.float64)
    design = np.stack([np.ones(len(rows)), rows[:, 0]], 1)
    covariance = np.linalg.inv(np.eye(2) + design.T @ design / NOISE**2)
    return covariance @ design.T @ rows[:, 1] / NOISE**2, covariance


def _read(where: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    with opened(where) as file:
        for key in ("values", "set"):
            if key not in file:
                raise ValueError(
                    f"{where} holds {', '.join(file)}, expected values (N, d), set (N, K, f) and mask (N, "
                    f"K){suggest(key, file)}"
                )
        values, rows = (array_of(file, key, where, "numbers") for key in ("values", "set"))
        mask = array_of(file, "mask", where, "bool (N, K)") if "mask" in file else None
        names = array_of(file, "columns", where, "names (f,)") if "columns" in file else ()
    for key, array, sides in (("values", values, "(N, d)"), ("set", rows, "(N, K, f)")):
        if array.dtype.kind not in "biuf" or array.ndim != sides.count(",") + 1 or 0 in array.shape:
            raise ValueError(f"{where}: got {key} of {array.dtype} {array.shape}, expected numbers {sides}")
    if len(rows) != len(values):
        raise ValueError(f"{where}: got {len(rows)} sets for {len(values)} values, expected one for each")
    if len(names) not in (0, rows.shape[-1]):
        raise ValueError(f"{where}: got {len(names)} columns, expected the names of {rows.shape[-1]}")
    check_values(values, f"{where} (values)")
    rows = rows.astype(np.float32) if mask is None else masked(rows, mask, str(where))
    return values.astype(np.float32), rows, tuple(map(str, names))
