"""Samples that lie together: files of up to a thousand, and while they are made pieces of such files, so that
work can be shared out and a call stopped at any number of samples.

A piece, ``.pieces/FIRST-COUNT``, is written like the file that it will be part of; when all pieces of a file
are there they are joined, and nothing of them is left. Only whole files count for readers.
"""

import re
import shutil
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from studio.generation import identity
from studio.generation.plan import Plan
from studio.runtime import files
from studio.sampling.engine import fixed_rows

UNIT = 1000
# samples of a piece: parts of a thousand, so that none lies in two files
STEPS = (1, 2, 4, 5, 8, 10, 20, 25, 40, 50, 100)
PIECES = 64  # a set has at least so many, where it has so many samples
FOLDER = ".pieces"
RUN = 32  # samples in a row that one process makes, at least
READERS = 8


def step_of(num: int) -> int:
    """Samples of a piece, for a set of ``num``."""
    return max(s for s in STEPS if s <= max(1, num // PIECES))


class Blocks(ABC):
    """``NNN`` + ``suffix``, a thousand samples each, of the set whose ``digest`` they bear or, from before
    the set grew, one of the ``earlier`` ones; `older`: files may say nothing of it. A kind of file has
    `rows`, `save`, `load` and `joined`."""

    unit, suffix, told = UNIT, "", False  # told: files hold recipes

    def __init__(self, root: Path, plan: Plan, digest: str):
        self.root, self.plan, self.digest = root, plan, digest
        self.step, self.older = step_of(plan.num), False
        self.earlier: tuple[str, ...] = ()

    def hear(self, manifest: Mapping[str, Any]) -> None:
        self.older, self.earlier = identity.older_and_earlier(manifest)

    @abstractmethod
    def rows(self, values: Tensor, recipes: Sequence[dict[str, Any]]) -> Any:
        """Decoded samples as a file of this kind holds them."""

    @abstractmethod
    def save(self, path: Path, first: int, rows: Any) -> None: ...

    @abstractmethod
    def load(self, path: Path, first: int) -> Any:
        """The rows of a whole file that begins with sample ``first``. Raises ``ValueError`` or ``OSError``
        for any other."""

    @abstractmethod
    def joined(self, parts: Sequence[Any]) -> Any: ...

    def path(self, first: int) -> Path:
        return self.root / f"{first // UNIT:03d}{self.suffix}"

    def piece(self, first: int, count: int) -> Path:
        return self.root / FOLDER / f"{first:09d}-{count}{self.suffix}"

    def size(self, first: int) -> int:
        """Samples of the file that begins with ``first``."""
        return min(UNIT, self.plan.num - first)

    def write(self, first: int, values: Tensor, recipes: Sequence[dict[str, Any]]) -> None:
        self.put(first, self.rows(values, recipes))

    def put(self, first: int, rows: Any) -> None:
        """A whole file, or a piece of one."""
        whole = first % UNIT == 0 and len(rows) == self.size(first)
        path = self.path(first) if whole else self.piece(first, len(rows))
        path.parent.mkdir(parents=True, exist_ok=True)
        self.save(path, first, rows)

    def valid(self, first: int) -> bool:
        """Whether the whole file that begins with ``first`` is there."""
        return self.count(self.path(first), first) == self.size(first)

    def read(self, first: int) -> Any:
        return self.load(self.path(first), first)

    def count(self, path: Path, first: int) -> int:
        """How many samples a file holds; 0 for one that is not there, damaged or another set's."""
        try:
            return len(self.load(path, first))
        except (OSError, ValueError, EOFError):
            return 0

    def pieces(self) -> Iterator[tuple[Path, int, int]]:
        """Files of pieces with their first sample and their number, as their names have it."""
        folder = self.root / FOLDER
        for path in folder.iterdir() if folder.is_dir() else ():
            found = re.fullmatch(rf"(\d{{9,}})-(\d+){re.escape(self.suffix)}", path.name)
            if found and int(found[1]) + int(found[2]) <= self.plan.num:
                yield path, int(found[1]), int(found[2])

    def have(self, firsts: Iterable[int] | None = None) -> np.ndarray:
        """(num,) bool: the samples that are there, in these files (all)."""
        there = np.zeros(self.plan.num, bool)
        wanted = list(range(0, self.plan.num, UNIT) if firsts is None else firsts)
        with ThreadPoolExecutor(READERS) as pool:
            for first, count in zip(wanted, pool.map(lambda u: self.count(self.path(u), u), wanted)):
                there[first : first + count] = count == self.size(first)
            asked = set(wanted)
            rest = [
                p
                for p in self.pieces()
                if p[1] // UNIT * UNIT in asked and not there[p[1] : p[1] + p[2]].all()
            ]
            for (_, first, count), good in zip(
                rest, pool.map(lambda p: self.count(p[0], p[1]) == p[2], rest)
            ):
                there[first : first + count] |= good
        return there

    def absent(self, wanted: Sequence[int]) -> list[int]:
        """Those pieces, by their first sample, that are not wholly there."""
        there = self.have(sorted({first // UNIT * UNIT for first in wanted}))
        return [first for first in wanted if not there[first : first + self.step].all()]

    lacking = absent

    def grown(self) -> None:
        """A file that was the last one of a smaller set is a piece of what it will be."""
        for first in range(0, self.plan.num, UNIT):
            if 0 < (count := self.count(self.path(first), first)) < self.size(first):
                self.piece(first, count).parent.mkdir(parents=True, exist_ok=True)
                self.move(self.path(first), self.piece(first, count))

    def move(self, path: Path, target: Path) -> None:
        path.replace(target)

    def join(self) -> None:
        """Make files of the pieces that are complete, and drop what nobody needs any more."""
        parts: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for _, first, count in self.pieces():
            parts[first // UNIT * UNIT].append((first, count))
        for unit, found in parts.items():
            size = self.size(unit)
            if not self.valid(unit):
                rows, place = [], unit
                for first, count in sorted(found):
                    if first <= place < first + count:
                        try:
                            rows.append(self.load(self.piece(first, count), first)[place - first :])
                        except (OSError, ValueError, EOFError):
                            continue
                        place = first + count
                if place != unit + size:
                    continue
                self.save(self.path(unit), unit, self.joined(rows))
            for first, count in found:
                self.drop(self.piece(first, count))
        if (self.root / FOLDER).is_dir() and not any((self.root / FOLDER).iterdir()):
            shutil.rmtree(self.root / FOLDER, ignore_errors=True)

    def drop(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def run(self, total: int, count: int) -> int:
        """How many pieces in a row one of ``count`` gets, so that all have work and batches are full; whole
        files where there are many."""
        whole, rows = (
            UNIT // self.step,
            max(RUN, fixed_rows(self.plan.model.denoiser, self.plan.model.info.shape)),
        )
        return whole if total >= 4 * count * whole else max(1, min(-(-rows // self.step), total // count))

    share = run


class Vectors(Blocks):
    """``NNN.npy`` of up to a thousand rows (n, ...), of the task's dtype, with the set's ``digest`` behind
    them."""

    suffix = ".npy"

    def __init__(self, root: Path, plan: Plan, digest: str):
        super().__init__(root, plan, digest)
        self.shape, self.dtype = tuple(plan.model.sample_shape), np.dtype(plan.model.task.dtype)

    def rows(self, values: Tensor, recipes: Sequence[dict[str, Any]]) -> np.ndarray:
        return values.to(getattr(torch, self.dtype.name)).numpy()

    def save(self, path: Path, first: int, rows: np.ndarray) -> None:
        with files.replacing(path) as draft, open(draft, "wb") as handle:
            np.save(handle, rows)
            handle.write(identity.line_of(self.digest, first))

    def load(self, path: Path, first: int) -> np.ndarray:
        rows = np.load(path, allow_pickle=False)
        mine = any(
            identity.is_of(path, digest, first, older=self.older) for digest in (self.digest, *self.earlier)
        )
        if (
            not mine
            or rows.shape[1:] != self.shape
            or rows.dtype != self.dtype
            or not np.isfinite(rows).all()
        ):
            raise ValueError(f"{path} is not of this set; run the same command again")
        return rows

    def joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts)
