"""Measures of angles, each a mean over them: errors of mean direction and resultant length, Kuiper's
statistic, and divergences of histograms of neighbouring pairs (of (phi, psi) the Ramachandran plot)."""

import numpy as np

from studio.evaluation.array_judge import Measure
from studio.evaluation.sets import SampleSet
from studio.metrics import angle_sets as metrics

BINS = 24  # a side: of a thousand samples most cells that matter are hit


def direction(samples: SampleSet, real: SampleSet) -> float:
    """Radians between the mean directions."""
    ours, theirs = (metrics.moments(_angles(s)) for s in (samples, real))
    return float(np.abs(np.angle(ours * theirs.conj())).mean())


def resultant(samples: SampleSet, real: SampleSet) -> float:
    """Between the resultant lengths, which are 1 where all point one way."""
    ours, theirs = (np.abs(metrics.moments(_angles(s))) for s in (samples, real))
    return float(np.abs(ours - theirs).mean())


def kuiper(samples: SampleSet, real: SampleSet) -> float:
    x, y = _angles(samples), _angles(real)
    return float(np.mean([metrics.kuiper(x[:, k], y[:, k]) for k in range(x.shape[1])]))


def histogram(samples: SampleSet, real: SampleSet) -> float:
    """Jensen–Shannon divergence in nats, over angles k and k + 1 together; of one angle its own."""
    x, y = _angles(samples), _angles(real)
    pairs = [slice(k, k + 2) for k in range(max(x.shape[1] - 1, 1))]
    return float(np.mean([metrics.jensen_shannon(x[:, k], y[:, k], BINS) for k in pairs]))


def _angles(samples: SampleSet) -> np.ndarray:
    """(N, d); of sequences all places together."""
    values = np.asarray(samples.values[:])
    return values.reshape(-1, values.shape[-1])


MEASURES = {
    "direction": direction,
    "resultant": resultant,
    "kuiper": kuiper,
    "histogram": Measure(histogram, notes={"bins": BINS}),
}
