"""Points have their own measures: exact Wasserstein-2, energy distance, and modes covered where the data has
modes."""

from collections.abc import Sequence

import numpy as np

from studio.evaluation.results import Result
from studio.evaluation.sets import SampleSet
from studio.metrics import point_sets as metrics
from studio.runtime.version import __version__

NAMES = ("w2", "energy", "modes")
LIMIT = 2000  # points of an exact transport plan


def parse_metrics(names: str | Sequence[str] | None) -> list[str]:
    """Names from ``"w2,modes"`` or a list. Raises ``ValueError`` for unknown ones."""
    wanted = (
        list(NAMES)
        if names is None
        else [n.strip() for n in (names.split(",") if isinstance(names, str) else names)]
    )
    for n in wanted:
        if n not in NAMES:
            raise ValueError(f"got metric {n!r} for points, expected some of {', '.join(NAMES)}")
    return wanted


def check(samples: SampleSet, reference: SampleSet) -> None:
    """Raises ``ValueError`` for sets of other widths."""
    if samples.shape != reference.shape:
        raise ValueError(
            f"got samples of {samples.shape} and a reference of {reference.shape}, expected the same "
            "number of coordinates"
        )


def check_modes(reference: SampleSet) -> None:
    """Raises ``ValueError`` for a reference without labels of modes."""
    if reference.labels is None or len(np.unique(reference.labels)) < 2:
        raise ValueError(
            "the reference has no labels of modes; give one that has, such as an .npz with labels"
        )


def evaluate(samples: SampleSet, reference: SampleSet, names: str | Sequence[str] | None) -> Result:
    """Raises ``ValueError`` for unknown names and sets of other widths."""
    wanted = parse_metrics(names)
    check(samples, reference)
    rng = np.random.Generator(np.random.Philox(key=1))
    x, y = np.asarray(samples.values[:]), np.asarray(reference.values[:])
    order = rng.permutation(len(y))
    n = min(len(x), len(y) // 2)
    a, b, drawn = y[order[:n]], y[order[n : 2 * n]], x[rng.permutation(len(x))[:n]]
    values, floor, failed = {}, {}, {}
    if "w2" in wanted:
        values["w2"], floor["w2"] = (metrics.wasserstein2(p, b, limit=LIMIT) for p in (drawn, a))
    if "energy" in wanted:
        values["energy"], floor["energy"] = (metrics.energy_distance(p, b) for p in (drawn, a))
    if "modes" in wanted:
        try:
            check_modes(reference)
        except ValueError as error:
            failed["modes"] = str(error)
        else:
            assert reference.labels is not None
            centres = np.stack([y[reference.labels == k].mean(0) for k in np.unique(reference.labels)])
            radius = 3 * float(
                np.mean([y[reference.labels == k].std(0).mean() for k in np.unique(reference.labels)])
            )
            for target, points in ((values, drawn), (floor, a)):
                found = metrics.mode_coverage(points, centres, radius=radius)
                target["modes"], target["near_a_mode"] = found.modes, found.samples
    protocol = {
        "samples": len(samples),
        "compared": n,
        "reference": reference.name,
        "reference_hash": reference.hash,
        "reference_n": len(reference),
        "reference_part": reference.about.get("part", "all"),
        "floor": f"two disjoint real sets of {n}",
        "w2_at_most": LIMIT,
        "studio": __version__,
        **{
            k: samples.about.get(k)
            for k in (
                "model",
                "model_hash",
                "weights",
                "sampler",
                "num_steps",
                "guidance",
                "labels",
                "seeds",
                "dtype",
                "path",
            )
        },
    }
    return Result(samples.name, values, floor, failed, protocol)
