"""The store of single pictures: ``NNN/NNNNNN.png``, a thousand a folder, each with its recipe and its digest
inside."""

import io
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from studio.generation import identity, seal
from studio.generation.blocks import READERS
from studio.generation.encoding import encoded
from studio.generation.plan import Plan
from studio.runtime import files
from studio.runtime.recipes import KEY
from studio.tasks.image import MODES

FOLDER = 1000
RUN, SHARE = 32, 64  # pictures in a row that one process makes, and one machine


class Pictures:
    """``NNN/NNNNNN.png``, each with its recipe and its digest inside (`seal`; ``sealed``: also those of a set
    that was begun before there were digests)."""

    unit, step, told, older, sealed = 1, 1, True, False, True
    earlier: tuple[str, ...] = ()

    def __init__(self, root: Path, plan: Plan):
        self.root, self.plan, self.task = root, plan, plan.model.task
        self.size, self.mode = tuple(plan.model.sample_shape[:0:-1]), MODES[plan.model.sample_shape[0]]

    def hear(self, manifest: Mapping[str, Any]) -> None:
        self.older, self.earlier = identity.older_and_earlier(manifest)
        self.sealed = bool(manifest.get("sealed"))

    def path(self, first: int) -> Path:
        return self.root / f"{first // FOLDER:03d}" / f"{first:06d}.png"

    def write(self, first: int, values: Tensor, recipes: Sequence[dict[str, Any]]) -> None:
        path = self.path(first)
        path.parent.mkdir(parents=True, exist_ok=True)
        (data,) = encoded(self.task, values, recipes[:1])
        with files.replacing(path, durable=False) as draft:
            draft.write_bytes(data)

    @cached_property
    def pinned(self) -> dict[str, Any]:
        return self.plan.pinned()

    def valid(self, first: int) -> bool:
        return self._valid(first, self._labels([first])[0])

    def absent(self, wanted: Sequence[int]) -> list[int]:
        """Those that are not there or not to be trusted. Folder by folder, so that nothing is held of more
        than a thousand at once."""
        folders = [list(part) for _, part in itertools.groupby(wanted, lambda first: first // FOLDER)]
        with ThreadPoolExecutor(READERS) as pool:
            return [first for part in pool.map(self._absent, folders) for first in part]

    def _absent(self, part: list[int]) -> list[int]:
        there = names_in(self.path(part[0]).parent)
        labels = self._labels(part)
        return [
            i for i, label in zip(part, labels) if f"{i:06d}.png" not in there or not self._valid(i, label)
        ]

    def lacking(self, wanted: Sequence[int]) -> list[int]:
        """Those of which no file is there; no file is opened."""
        folders = itertools.groupby(wanted, lambda first: first // FOLDER)
        parts = ((list(part), names_in(self.root / f"{number:03d}")) for number, part in folders)
        return [i for part, there in parts for i in part if f"{i:06d}.png" not in there]

    def _labels(self, part: Sequence[int]) -> Sequence[int | None]:
        found = self.plan.labels.of(part, [self.plan.seeds[i] for i in part])
        return [None] * len(part) if found is None else found

    def _valid(self, first: int, label: int | None) -> bool:
        from PIL import Image

        try:
            data = self.path(first).read_bytes()
            whole = seal.holds(data)
            with Image.open(io.BytesIO(data)) as picture:
                if not whole and (self.sealed or seal.KEY in picture.info):
                    return False
                recipe = json.loads(picture.info[KEY])
                fits = picture.format == "PNG" and picture.size == self.size and picture.mode == self.mode
                if not fits or recipe["seed"] != self.plan.seeds[first] or recipe.get("label") != label:
                    return False
                if not whole:
                    picture.verify()  # checksums, without decoding
                return not identity.differing(recipe, self.pinned)
        except Exception:  # whatever a damaged file makes PIL or json raise, the sample is made again
            return False

    def read(self, first: int) -> np.ndarray:
        from PIL import Image

        with Image.open(self.path(first)) as picture:
            array = np.asarray(picture)
        return array.reshape(1, *array.shape[:2], -1)

    def grown(self) -> None:
        """A picture is a picture."""

    join = grown

    def run(self, total: int, count: int) -> int:
        """Pictures in a row that one of ``count`` processes gets, so that all have work and batches are
        full."""
        return max(1, min(RUN, -(-total // count)))

    def share(self, total: int, count: int) -> int:
        """The same for machines."""
        return SHARE if total > SHARE * (count - 1) else self.run(total, count)


def names_in(folder: Path) -> set[str]:
    """Of one folder; empty where there is none."""
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return set()
