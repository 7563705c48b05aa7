"""How sets of sequences of tokens differ: frequencies of single tokens and of neighbours."""

import numpy as np


def frequencies(rows: np.ndarray, vocab: int, length: int = 1) -> np.ndarray:
    """(vocab^length,) shares of ``length`` neighbouring tokens in (N, L) ids."""
    codes = np.zeros((len(rows), rows.shape[1] - length + 1), dtype=np.int64)
    for k in range(length):
        codes = codes * vocab + rows[:, k : rows.shape[1] - length + 1 + k]
    return np.bincount(codes.ravel(), minlength=vocab**length) / codes.size


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """In nats, 0 to log 2: the mean Kullback–Leibler divergence to their mean (Lin 1991)."""
    middle = (p + q) / 2

    def towards(a: np.ndarray) -> float:
        some = a > 0
        return float((a[some] * np.log(a[some] / middle[some])).sum())

    return (towards(p) + towards(q)) / 2


def entropy(p: np.ndarray) -> float:
    """In nats."""
    some = p[p > 0]
    return float(-(some * np.log(some)).sum())


def repeated(rows: np.ndarray) -> float:
    """The share of samples that are copies of an earlier one."""
    return 1 - len(np.unique(rows, axis=0)) / len(rows)
