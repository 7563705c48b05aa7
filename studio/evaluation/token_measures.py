"""Tokens have their own measures: divergences of single tokens and of neighbours, the entropy that a sampler
which prefers the likely loses, and copies."""

import numpy as np

from studio.evaluation.array_judge import Measure
from studio.evaluation.sets import SampleSet
from studio.metrics import token_sets as metrics

MOST = 1000  # tokens of a vocabulary whose pairs are counted


def _rows(samples: SampleSet) -> np.ndarray:
    values = np.asarray(samples.values[:])
    return values.reshape(len(values), -1).astype(np.int64)


def _vocab(*sets: SampleSet) -> int:
    return 1 + max(int(_rows(s).max()) for s in sets)


def unigram(samples: SampleSet, real: SampleSet) -> float:
    return _divergence(samples, real, 1)


def check_pairs(reference: SampleSet) -> None:
    """Raises ``ValueError`` for a vocabulary whose pairs are too many, and for single tokens."""
    vocab, length = _vocab(reference), _rows(reference).shape[1]
    if vocab > MOST or length < 2:
        raise ValueError(
            f"the reference has {vocab} tokens in {length} places, expected at most {MOST} in two or more; "
            "leave bigram and entropy out"
        )


def bigram(samples: SampleSet, real: SampleSet) -> float:
    """Of neighbours along the last axis, rows of a grid after each other."""
    return _divergence(samples, real, 2)


def entropy(samples: SampleSet, real: SampleSet) -> dict[str, float]:
    """``entropy`` of what follows a token given it, in nats: of pairs less that of single ones."""
    rows, vocab = _rows(samples), _vocab(samples, real)
    pairs, ones = (metrics.frequencies(rows, vocab, n) for n in (2, 1))
    return {"entropy": metrics.entropy(pairs) - metrics.entropy(ones)}


def copies(samples: SampleSet, real: SampleSet) -> float:
    return metrics.repeated(_rows(samples))


def _divergence(samples: SampleSet, real: SampleSet, length: int) -> float:
    vocab = _vocab(samples, real)
    p, q = (metrics.frequencies(_rows(s), vocab, length) for s in (samples, real))
    return metrics.jensen_shannon(p, q)


MEASURES = {
    "unigram": Measure(unigram),
    "bigram": Measure(bigram, needs=check_pairs),
    "entropy": Measure(entropy, needs=check_pairs),
    "copies": Measure(copies),
}
