"""Points have their own measures: exact Wasserstein-2, energy distance, and modes covered where the data has
modes."""

import numpy as np

from studio.evaluation.array_judge import Measure
from studio.evaluation.sets import SampleSet
from studio.metrics import point_sets as metrics

LIMIT = 2000  # points of an exact transport plan


def w2(samples: SampleSet, real: SampleSet) -> float:
    return metrics.wasserstein2(_points(samples), _points(real), limit=LIMIT)


def energy(samples: SampleSet, real: SampleSet) -> float:
    return metrics.energy_distance(_points(samples), _points(real))


def check_modes(reference: SampleSet) -> None:
    """Raises ``ValueError`` for a reference without labels of modes."""
    if reference.labels is None or len(np.unique(reference.labels)) < 2:
        raise ValueError(
            "the reference has no labels of modes; give one that has, such as an .npz with labels"
        )


def modes(samples: SampleSet, real: SampleSet) -> dict[str, float]:
    """``modes`` that samples lie near, as a share, and the share of samples ``near_a_mode``."""
    assert real.labels is not None
    y, kinds = _points(real), np.unique(real.labels)
    centres = np.stack([y[real.labels == k].mean(0) for k in kinds])
    radius = 3 * float(np.mean([y[real.labels == k].std(0).mean() for k in kinds]))
    found = metrics.mode_coverage(_points(samples), centres, radius=radius)
    return {"modes": found.modes, "near_a_mode": found.samples}


def _points(samples: SampleSet) -> np.ndarray:
    return np.asarray(samples.values[:])


MEASURES = {
    "w2": Measure(w2, notes={"w2_at_most": LIMIT}, slow=True, once=True),
    "energy": Measure(energy),
    "modes": Measure(modes, against_all=True, needs=check_modes),
}
