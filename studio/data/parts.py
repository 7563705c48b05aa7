"""Which samples are kept from training."""

import numpy as np

from studio.data.arrays import split

HELD_OUT = 0.05  # by default


def parted(
    count: int, labels: np.ndarray | None, held_out: float | None, stratify: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(train, held-out) indices, sorted: a fixed random share of each class, or of all together. As many in
    all as without classes; where that is too few for all classes those with the largest remainder have one,
    and the last sample of a class is always trained on."""
    share = HELD_OUT if held_out is None else held_out
    train, rest = split(count, share)
    if labels is None or not stratify or not len(rest):
        return train, rest
    order = np.random.Generator(np.random.Philox(key=0)).permutation(count)
    kinds, sizes = np.unique(labels, return_counts=True)
    wanted = share * sizes
    room = np.where(kinds < 0, sizes, sizes - 1)
    taken = np.minimum(np.floor(wanted), room).astype(int)
    taken = np.minimum(np.maximum(taken, 1 if len(rest) >= len(kinds) else 0), room)
    while taken.sum() > len(rest):
        taken[taken.argmax()] -= 1
    first = np.argsort(-(wanted - taken), kind="stable")
    while taken.sum() < len(rest) and (taken < room).any():
        for k in first:
            taken[k] += taken.sum() < len(rest) and taken[k] < room[k]
    held = np.concatenate([order[labels[order] == kind][:n] for kind, n in zip(kinds, taken)])
    return np.setdiff1d(np.arange(count), held), np.sort(held)
