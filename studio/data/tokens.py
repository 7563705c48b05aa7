"""Sequences of tokens: a user's own (N, L) or (N, H, W) ids, or a Markov chain whose law is known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from backbones.noise import NoiseSource
from studio.data.arrays import Data, from_arrays
from studio.data.npz_files import array_of, beside, named_array, opened
from studio.data.parts import HELD_OUT, parted

# of the chain: the probability of the next state, by row
TRANSITIONS = np.array(
    [[0.70, 0.20, 0.05, 0.05], [0.05, 0.60, 0.30, 0.05], [0.10, 0.05, 0.55, 0.30], [0.45, 0.05, 0.05, 0.45]]
)
MOST = 100_000  # tokens of a vocabulary


def stationary(transitions: np.ndarray = TRANSITIONS) -> np.ndarray:
    """(V,) shares of the states of a chain that runs for ever."""
    values, vectors = np.linalg.eig(transitions.T)
    found = np.real(vectors[:, np.argmax(np.real(values))])
    return found / found.sum()


def entropy_rate(transitions: np.ndarray = TRANSITIONS) -> float:
    """Nats of a state, given those before it."""
    return float(-(stationary(transitions)[:, None] * transitions * np.log(transitions)).sum())


def chain(seeds: range, length: int, transitions: np.ndarray = TRANSITIONS) -> np.ndarray:
    """(N, length) int64 states, each row of its own seed."""
    u = NoiseSource(seeds).uniform((length,), stream="chain").double().numpy()
    rows = np.empty((len(seeds), length), dtype=np.int64)
    rows[:, 0] = (u[:, :1] > stationary(transitions).cumsum()[:-1]).sum(1)
    steps = transitions.cumsum(1)[:, :-1]
    for k in range(1, length):
        rows[:, k] = (u[:, k, None] > steps[rows[:, k - 1]]).sum(1)
    return rows


def tokens(
    *,
    path: str = "",
    tokens: str = "tokens",
    vocab: int = 0,
    labels: str | None = None,
    conditions: tuple[str, ...] = (),
    count: int = 20_000,
    length: int = 32,
    held_out: float = HELD_OUT,
    stratify: bool = True,
) -> Data:
    """An .npz with (N, L) or (N, H, W) whole numbers under the name that ``tokens`` says; ``symbols`` (V,) in
    it are what the ids stand for; ``labels``, ``classes``, ``numeric``, ``conditions`` and ``held_out`` as of
    `studio.data.sources.npz`. ``vocab``: how many tokens there are, by default one more than the greatest.
    Without a ``path``, ``count`` sequences of ``length`` states of a Markov chain of four (`TRANSITIONS`).

    Raises ``ValueError`` for other shapes, for what are no whole numbers, and for ids beyond the vocabulary.
    """
    symbols: tuple[str, ...] = ()
    extra: dict[str, Any] = {"labels": None, "classes": ()}
    name = "markov-chain"
    if path:
        where = Path(path).expanduser()
        with opened(where) as file:
            key = str(named_array(list(file), tokens, (), "tokens", where))
            values = array_of(file, key, where, "whole numbers (N, L): try tokens.astype(int)")
            if values.dtype.kind not in "iu" or values.ndim not in (2, 3) or not values.size:
                raise ValueError(
                    f"{where} ({key}): got {values.dtype} of shape {values.shape}, expected whole numbers "
                    "(N, L) or (N, H, W)"
                )
            if "symbols" in file:
                symbols = tuple(str(s) for s in array_of(file, "symbols", where, "texts"))
            extra = beside(file, where, len(values), labels=labels, conditions=conditions)
        name, said = where.stem.replace("_", "-"), f"{where} ({key})"
    else:
        if count < 2 or length < 1:
            raise ValueError(f"got {count} sequences of {length}, expected two or more of one or more")
        values, said = chain(range(count), length), name
    size = vocab or len(symbols) or 1 + int(values.max())
    least, greatest = int(values.min()), int(values.max())
    if least < 0 or greatest >= size or not 2 <= size <= MOST:
        raise ValueError(
            f"{said}: got tokens from {least} to {greatest} and a vocabulary of {size}, expected 0 to "
            f"{size - 1}, and 2 to {MOST:,} tokens; see data.vocab"
        )
    y, classes = extra.pop("labels"), extra.pop("classes")
    codec: dict[str, Any] = {"name": "tokens", "vocab": size, "dtype": str(values.dtype)}
    if symbols:
        codec["symbols"] = list(symbols)
    data = from_arrays(
        name,
        values,
        y,
        classes,
        held_out=held_out,
        task="tokens",
        codec=codec,
        parts=parted(len(values), y, held_out, stratify),
        **extra,
    )
    return replace(data, stratified=stratify)
