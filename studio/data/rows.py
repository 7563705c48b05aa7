"""Rows of numbers: a user's own (N, n, d) with a mask of padding, or walks of steps whose law is known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from backbones.noise import NoiseSource
from studio.data.arrays import Arrays, Data, content_hash, from_arrays
from studio.data.curves import TYPES
from studio.data.finite import check_values
from studio.data.npz_files import array_of, beside, named_array, opened
from studio.data.parts import HELD_OUT, parted

SHORTEST = 4  # walk


def walks(seeds: range, longest: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """(N, longest, 2) float32 walks in the plane, 0 on padding, and (N, longest) which rows are real:
    `SHORTEST` to ``longest``, all alike likely. A step is a draw of N(0, 1) along each axis; the first row is
    the first step. Drawn from their seeds."""
    noise = NoiseSource(seeds)
    u = noise.uniform(stream="rows").double().numpy()
    count = SHORTEST + (u * (longest - SHORTEST + 1)).astype(int)
    real = np.arange(longest) < count[:, None]
    values = noise.normal((longest, 2), stream="walk").numpy().cumsum(1)
    return values * real[..., None], real


def rows(
    *,
    path: str = "",
    values: str = "values",
    mask: str = "mask",
    labels: str | None = None,
    conditions: tuple[str, ...] = (),
    count: int = 6000,
    longest: int = 12,
    held_out: float = HELD_OUT,
    stratify: bool = True,
) -> Data:
    """An .npz with floats (N, n, d) under the name that ``values`` says and bools (N, n) under that of
    ``mask``, which rows are real: one or more, which come first. What stands on padding counts nowhere.
    ``labels``, ``classes``, ``numeric``, ``conditions`` and ``held_out`` as of `studio.data.sources.npz`.
    Without a ``path``, ``count`` walks of up to ``longest`` rows (`walks`).

    Raises ``ValueError`` for other shapes and types, for a mask that does not fit, and for a value of a real
    row that is not finite.
    """
    extra: dict[str, Any] = {"labels": None, "classes": ()}
    if path:
        where = Path(path).expanduser()
        with opened(where) as file:
            key = str(named_array(list(file), values, (), "values", where))
            array = array_of(file, key, where, "floats (N, n, d)")
            if array.dtype.name not in TYPES or array.ndim != 3 or not array.size:
                raise ValueError(
                    f"{where} ({key}): got {array.dtype} of shape {array.shape}, expected floats (N, n, d); "
                    f"try {key}.astype(np.float32)"
                )
            named = str(named_array(list(file), mask, (), "mask", where))
            real = mask_of(array_of(file, named, where, "bools (N, n)"), array.shape, f"{where} ({named})")
            array = np.where(real[..., None], array, 0).astype(array.dtype.name)
            extra = beside(file, where, len(array), labels=labels, conditions=conditions)
        name = where.stem.replace("_", "-")
    else:
        if count < 2 or longest < SHORTEST:
            raise ValueError(
                f"got {count} walks of up to {longest} rows, expected two or more of up to {SHORTEST} or more"
            )
        (array, real), name = walks(range(count), longest), "walks"
    check_values(array, name)
    y, classes = extra.pop("labels"), extra.pop("classes")
    train, rest = parted(len(array), y, held_out, stratify)
    data = from_arrays(
        name,
        array,
        y,
        classes,
        held_out=held_out,
        task="rows",
        codec=codec_of(array[train], real[train]),
        parts=(train, rest),
        **extra,
    )

    def told(part: Any, places: np.ndarray) -> Any:
        return part and Arrays(part.values, part.labels, part.numeric, {**part.named, "valid": real[places]})

    both = content_hash(np.frombuffer(data.hash.encode(), np.uint8), real)
    return replace(
        data,
        train=told(data.train, train),
        held_out=told(data.held_out, rest),
        hash=both,
        stratified=stratify,
    )


def mask_of(mask: np.ndarray, shape: tuple[int, ...], where: str) -> np.ndarray:
    """(N, n) bools. Raises ``ValueError`` for a mask of other values, and for one whose real rows do not come
    first."""
    if mask.shape != shape[:2] or not np.isin(mask, (0, 1)).all():
        raise ValueError(
            f"{where}: got a mask of {mask.dtype} {mask.shape} for values of {shape}, expected bools (N, n) "
            "for rows (N, n, d)"
        )
    real = mask.astype(bool)
    wrong = np.flatnonzero(~real[:, 0] | (real[:, 1:] > real[:, :-1]).any(1))
    if len(wrong):
        raise ValueError(
            f"{where}: got a mask whose real rows do not come first (index {wrong[0]}), expected one real "
            "row or more, then padding; sort them"
        )
    return real


def codec_of(values: np.ndarray, real: np.ndarray) -> dict[str, Any]:
    """Units and lengths of (N, n, d) rows, of the real ones."""
    flat = values[real].astype(np.float64)
    std = flat.std(0)
    return {
        "name": "rows",
        "mean": flat.mean(0).tolist(),
        "std": np.where(std > 0, std, 1.0).tolist(),
        "lengths": np.bincount(real.sum(1), minlength=real.shape[1] + 1)[1:].tolist(),
        "dtype": values.dtype.name,
    }
