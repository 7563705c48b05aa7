"""Which class each sample of a set is of: rules such as ``balanced``, lists that are repeated, and files with
a label for each sample."""

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backbones.types import NoiseSource
from studio.data.labels import FILES, Names, names_of, parse_labels, word

RULES = ("balanced", "random", "data")


@dataclass(frozen=True)
class Labels:
    """``rule`` is what the manifest records: balanced (i mod K), random (a draw of the sample's seed), data
    (the same by ``counts``, how often the training data has each class), list (repeated) or file."""

    rule: str
    classes: int
    values: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()

    def of(self, index: Sequence[int], seeds: Sequence[int]) -> tuple[int, ...] | None:
        """Class numbers of these samples, −1 for none."""
        if not self.classes:
            return None
        if self.rule in ("random", "data"):
            u = NoiseSource(seeds).uniform(stream="label", dtype=torch.float64)
            if self.counts:
                share = np.cumsum(self.counts) / sum(self.counts)
                return tuple(
                    np.searchsorted(share, u.numpy(), side="right")
                    .clip(0, max(np.flatnonzero(self.counts)))
                    .tolist()
                )
            return tuple((u * self.classes).long().clamp_max(self.classes - 1).tolist())
        if self.rule == "balanced":
            return tuple(i % self.classes for i in index)
        return tuple(self.values[i % len(self.values)] for i in index)


def parse_rule(
    text: Any, classes: Sequence[str], num: int, counts: Callable[[], Sequence[int]] = tuple
) -> Labels:
    """``balanced``, ``random``, ``data`` (by the ``counts`` of the training data), numbers and names
    (`studio.data.labels`, repeated in turn), or a file (.txt or .csv with one label a line, .json with a
    list, .npy) with at least ``num`` labels. A class of the same name goes before a rule or a file; the rule
    is then called ``(random)``.

    Raises ``ValueError`` for classes that do not exist and for files that are too short.
    """
    if not classes:
        parse_labels(None if text == "balanced" else text, classes, [])
        return Labels("none", 0)
    names = names_of(tuple(classes))
    if text is None or isinstance(text, str) and text not in names.exact:
        rule = next((r for r in RULES if text == word(r, classes)), None)
        if text is None or text == "" or rule is not None:
            return Labels(
                rule or "balanced",
                len(classes),
                counts=_prior(counts(), len(classes)) if rule == "data" else (),
            )
    if (
        isinstance(text, str | Path)
        and text not in names.exact
        and (path := _file(str(text), names)) is not None
    ):
        values = _from_file(path, names)
        if len(values) < num:
            raise ValueError(f"{path} holds {len(values)} labels, expected at least --num {num}")
        return Labels(file_rule(values), len(classes), values)
    values = tuple(names.parse(text))
    if not values:
        raise ValueError("got an empty list of labels, expected balanced, random, numbers, names or a file")
    return Labels(f"list {','.join(map(str, values))}", len(classes), values)


def file_rule(values: Sequence[int]) -> str:
    return f"file {hashlib.sha256(np.asarray(values, dtype=np.int64).tobytes()).hexdigest()[:16]}"


def _prior(counts: Sequence[int], classes: int) -> tuple[int, ...]:
    if len(counts) != classes or not sum(counts):
        raise ValueError(
            "got labels 'data' for a model that does not say how many training samples each class had, "
            "and whose data is not here; "
            "expected balanced, random, or a file of labels"
        )
    return tuple(counts)


def _file(text: str, names: Names) -> Path | None:
    """The file of labels that a text names: one that is there, or one that is called so and says no
    labels."""
    path = Path(text)
    if path.suffix not in FILES:
        return None
    if not path.is_file():
        try:
            names.parse(text)
            return None
        except ValueError:
            raise ValueError(
                f"got labels {text!r}, and there is no such file; expected balanced, random, numbers, "
                "names or a file"
            ) from None
    return path


def _from_file(path: Path, names: Names) -> tuple[int, ...]:
    if path.suffix == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except (ValueError, OSError) as error:
            raise ValueError(f"{path} is not a readable .npy file: {error}") from None
        if array.ndim != 1 or array.dtype.kind not in "iuU":
            raise ValueError(
                f"{path} holds {array.dtype} of shape {array.shape}, expected a row of whole numbers, "
                "or of names"
            )
        return tuple(names.parse(array))
    try:
        text = path.read_text(encoding="utf-8")
        items = (
            json.loads(text) if path.suffix == ".json" else [row for row in _lines(text, path) if row.strip()]
        )
    except ValueError as error:
        raise ValueError(
            f"{path} is not a readable file of labels ({error}); expected one label a line, or a JSON "
            "list in a .json"
        ) from None
    if not isinstance(items, list):
        raise ValueError(f"{path} holds {type(items).__name__}, expected a list of labels")
    try:
        return tuple(names.parse(items))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _lines(text: str, path: Path) -> list[str]:
    """One label a line; of a .csv the only column."""
    if path.suffix != ".csv":
        return [line.removesuffix("\r") for line in text.split("\n")]
    rows = [row for row in csv.reader(text.splitlines(keepends=True)) if row]
    if any(len(row) > 1 for row in rows):
        raise ValueError(f"got {max(map(len, rows))} columns, expected one")
    return [row[0] for row in rows]
