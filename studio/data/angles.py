"""Angles: a user's own (N, d) or (N, L, d) in radians, or those that come with the studio."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samplers.spaces.torus import wrap
from studio.data.arrays import Data, from_arrays
from studio.data.finite import check_values
from studio.data.npz_files import array_of, beside, named_array, opened
from studio.data.parts import HELD_OUT, parted
from studio.runtime.name_clash import HOME

BUNDLED = "studio/bundled/data/protein_angles.npz"
FAR = 8 * math.pi  # beyond which angles are more likely degrees


def angles(
    *,
    path: str = "",
    angles: str = "angles",
    labels: str | None = None,
    conditions: tuple[str, ...] = (),
    centre: bool = False,
    held_out: float = HELD_OUT,
    stratify: bool = True,
) -> Data:
    """An .npz with (N, d) radians, or sequences (N, L, d) of them, any whole turns off, under the name that
    ``angles`` says; ``labels``, ``classes``, ``numeric``, ``conditions`` and ``held_out`` as of
    `studio.data.sources.npz`. Without a ``path`` the bundled (phi, psi) of 40,000 residues of proteins, with
    the secondary structure as class.
    ``centre``: the network counts each angle from its mean direction, in sequences that over all places.

    Raises ``ValueError`` for another shape, and for a value that is not finite, by its row.
    """
    where = Path(path).expanduser() if path else HOME / BUNDLED
    with opened(where) as file:
        key = str(named_array(list(file), angles, (), "angles", where))
        values = array_of(file, key, where, "radians (N, d) or (N, L, d): try angles.astype(float)")
        if values.dtype.kind not in "fiu" or values.ndim not in (2, 3) or not values.size:
            tip = "; of one angle each angles[:, None]" if values.ndim == 1 else ""
            raise ValueError(
                f"{where} ({key}): got {values.dtype} of shape {values.shape}, expected radians (N, d) or "
                f"(N, L, d){tip}"
            )
        extra = beside(file, where, len(values), labels=labels, conditions=conditions)
    check_values(values, f"{where} ({key})")
    y, classes = extra.pop("labels"), extra.pop("classes")
    turned = wrap(torch.from_numpy(values.astype(np.float64)))
    codec: dict[str, Any] = {"name": "angles"}
    train, rest = parted(len(values), y, held_out, stratify)
    if centre:
        codec["centre"] = torch.exp(1j * turned[train]).flatten(0, -2).mean(0).angle().tolist()
    data = from_arrays(
        where.stem.replace("_", "-"),
        turned.float().numpy(),
        y,
        classes,
        held_out=held_out,
        task="angles",
        codec=codec,
        parts=(train, rest),
        **extra,
    )
    return replace(data, stratified=stratify, notes=(*_degrees(values, where), *data.notes))


def _degrees(values: np.ndarray, where: Path) -> tuple[str, ...]:
    """What is to be told of angles that are hardly radians."""
    least, greatest = float(values.min()), float(values.max())
    if max(-least, greatest) <= FAR:
        return ()
    return (
        f"{where} holds angles from {least:g} to {greatest:g}, which are taken for radians and wound onto "
        "the circle; if they are degrees, convert them with np.deg2rad",
    )
