"""Curves, rows and clips are measured by energy distances: of whole samples, of the frames of clips and the
rows one by one, and of the steps between neighbours in time. Nothing here sees what is in a picture."""

from collections.abc import Callable

import numpy as np

from studio.evaluation.array_judge import Measure
from studio.evaluation.sets import SampleSet
from studio.metrics.point_sets import energy_distance

MOST = 1000  # rows that are compared, the first of a fixed order


def _energy(rows: Callable[[np.ndarray], np.ndarray]) -> Measure:
    """The energy distance of what ``rows`` makes of an array (N, ...), as many rows as it likes."""

    def of(samples: SampleSet) -> np.ndarray:
        made = rows(np.asarray(samples.values[:MOST]).astype(np.float64))
        if not made.size:
            raise ValueError(f"samples of {samples.shape} have no steps, expected two places in time or more")
        order = np.random.Generator(np.random.Philox(key=2)).permutation(len(made))[:MOST]
        return made[order].reshape(len(order), -1)

    return Measure(lambda samples, real: energy_distance(of(samples), of(real)), notes={"rows_at_most": MOST})


def _frames(clips: np.ndarray) -> np.ndarray:
    return clips.reshape(-1, *clips.shape[2:])


def _real(rows: np.ndarray) -> np.ndarray:
    """(N, n) which rows are no padding, which is 0."""
    return (rows != 0).any(-1)


CURVES = {
    "energy": _energy(lambda curves: curves),
    "steps": _energy(lambda curves: np.diff(curves, axis=-1)),
}
ROWS = {
    "energy": _energy(lambda rows: rows),
    "rows": _energy(lambda rows: rows[_real(rows)]),
    "steps": _energy(lambda rows: np.diff(rows, axis=1)[_real(rows)[:, 1:]]),
    "lengths": _energy(lambda rows: _real(rows).sum(1)),
}
CLIPS = {
    "energy": _energy(lambda clips: clips / 255),
    "frames": _energy(lambda clips: _frames(clips) / 255),
    "steps": _energy(lambda clips: _frames(np.diff(clips, axis=1)) / 255),
}
