"""Curves: a user's own (N, L) or (N, C, L) floats, or a Gaussian process whose law is known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from backbones.noise import NoiseSource
from studio.data.arrays import Data, from_arrays
from studio.data.finite import check_values
from studio.data.npz_files import array_of, beside, named_array, opened
from studio.data.parts import HELD_OUT, parted

WIDTH = 0.1  # of the process's correlation, in lengths of the curve
TYPES = ("float16", "float32", "float64")


def law(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (L,) and covariance (L, L) of the process at s in [0, 1): sin 2πs, and
    a(s) a(t) exp(−(s − t)²/2w²) with w = `WIDTH` and a(s) = 0.2 + 0.6 s."""
    s = np.arange(length) / length
    wide = 0.2 + 0.6 * s
    near = np.exp(-((s[:, None] - s) ** 2) / (2 * WIDTH**2))
    return np.sin(2 * np.pi * s), wide[:, None] * wide * near


def process(seeds: range, length: int) -> np.ndarray:
    """(N, L) float32 draws of the Gaussian process of that `law`, each of its own seed."""
    mean, covariance = law(length)
    values, vectors = np.linalg.eigh(covariance)
    z = NoiseSource(seeds).normal((length,), stream="process").double().numpy()
    return (mean + (z * np.sqrt(values.clip(0))) @ vectors.T).astype(np.float32)


def curves(
    *,
    path: str = "",
    curves: str = "curves",
    labels: str | None = None,
    conditions: tuple[str, ...] = (),
    count: int = 6000,
    length: int = 64,
    held_out: float = HELD_OUT,
    stratify: bool = True,
) -> Data:
    """An .npz with floats (N, L) or (N, C, L) in any unit under the name that ``curves`` says. ``labels``,
    ``classes``, ``numeric``, ``conditions`` and ``held_out`` as of `studio.data.sources.npz`. Without a
    ``path``, ``count`` curves of ``length`` places (`process`).

    Raises ``ValueError`` for other shapes and types, and for a value that is not finite.
    """
    extra: dict[str, Any] = {"labels": None, "classes": ()}
    if path:
        where = Path(path).expanduser()
        with opened(where) as file:
            key = str(named_array(list(file), curves, (), "curves", where))
            values = array_of(file, key, where, "floats (N, L) or (N, C, L)")
            if values.dtype.name not in TYPES or values.ndim not in (2, 3) or not values.size:
                raise ValueError(
                    f"{where} ({key}): got {values.dtype} of shape {values.shape}, expected floats (N, L) or "
                    f"(N, C, L); try {key}.astype(np.float32)"
                )
            values = values.astype(values.dtype.name)  # in this machine's order of bytes
            extra = beside(file, where, len(values), labels=labels, conditions=conditions)
        name = where.stem.replace("_", "-")
    else:
        if count < 2 or length < 1:
            raise ValueError(f"got {count} curves of {length} places, expected two or more of one or more")
        values, name = process(range(count), length), "process"
    check_values(values, name)
    y, classes = extra.pop("labels"), extra.pop("classes")
    parts = parted(len(values), y, held_out, stratify)
    mean, std = units(values[parts[0]])
    data = from_arrays(
        name,
        values,
        y,
        classes,
        held_out=held_out,
        task="curves",
        codec={"name": "curves", "mean": mean, "std": std, "dtype": values.dtype.name},
        parts=parts,
        **extra,
    )
    return replace(data, stratified=stratify)


def units(values: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of every channel of (N, L) or (N, C, L); 1 for one that is constant."""
    channels = (values if values.ndim == 3 else values[:, None]).astype(np.float64)
    mean, std = channels.mean((0, 2)), channels.std((0, 2))
    return mean.tolist(), np.where(std > 0, std, 1.0).tolist()
