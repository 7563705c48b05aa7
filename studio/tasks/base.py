"""The verbs of a task."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor

from backbones.types import NoiseSource

if TYPE_CHECKING:
    from PIL.Image import Image

    from studio.tasks.views import View


USUAL = {"flip": "pictures", "reorder": "graphs"}  # what has the augmentations that configs name


@dataclass(frozen=True)
class Augment:
    """``turn`` (B, ...) with draws of its own for every sample: of data as files hold it, or, not ``raw``, of
    what the network sees. Both ends of a pair are turned by the same draws."""

    turn: Callable[[Tensor, NoiseSource], Tensor]
    raw: bool = True


class Task(Protocol):
    """``values`` are decoded samples (B, ...), as the codec gives them.

    ``one_each``: every sample is a picture file of its own; others lie together in ``samples.npz``, called
    ``array`` there, with ``dtype`` and, so that the file can be read alone, the arrays of ``legend``.
    ``channels_last``: such a file holds (N, C, H, W) as (N, H, W, C). ``listing`` names further files that a
    whole set is written to by `write`. ``together``: one drawing shows them all; ``beside``: a picture of
    each is saved beside the arrays. ``previewed``: samples of a preview in training. ``parts_of``: the task
    whose samples stand along the first axis of these, as pictures do in clips; a model of it can begin one.

    ``measures``: what such samples are measured by, in `studio.evaluation.judges`: a mapping of names to
    functions of two sets, a `Judge`, or a string ``module:attribute`` that names either; empty where there is
    none. ``augments``: what training can do to samples, by the names that its config has. ``unguided``: why
    no guidance may be asked for, where that is so.
    """

    name: str
    one_each: bool = False
    dtype: str = "float32"
    array: str = "arr_0"
    channels_last: bool = False
    together: bool = False
    beside: bool = False
    parts_of: str = ""
    previewed: int = 20
    listing: tuple[str, ...] = ()
    any_length: bool = False
    measures: Any = ""
    unguided: str = ""

    @property
    def says(self) -> str:
        """What the samples are called in a sentence."""
        return self.name

    @property
    def legend(self) -> Mapping[str, np.ndarray]:
        return {}

    @property
    def augments(self) -> Mapping[str, Augment]:
        return {}

    def augment(self, name: str) -> Augment:
        """Raises ``ValueError`` for one that such samples do not have."""
        if name not in self.augments:
            whose = USUAL.get(name) or " or ".join(self.augments) or "no augmentation"
            raise ValueError(f"got train.{name}=true on {self.name} data, expected {whose}; take it out")
        return self.augments[name]

    def ready(self) -> None:
        """Raises ``ImportError`` where what draws and lists these samples is not installed; asked before any
        is made."""
        return

    def shows(self, shape: Sequence[int]) -> bool:
        """Whether decoded samples of this shape can be drawn."""
        return True

    @classmethod
    def misfit(cls, array: np.ndarray) -> str:
        """What a file's array (N, ...) should have been, where it holds no samples of this task; empty where
        it does."""
        return ""

    def part(self, init: Any, mask: Any) -> tuple[Tensor | None, Tensor | None]:
        """Of codecs with ``parts``: what is given of a sample, and the mask of what may change. Raises
        ``ValueError`` for what is no such part."""
        return init, mask

    def trimmed(self, values: Tensor) -> Tensor:
        """Decoded samples without what is padding in all of them."""
        return values

    def file_names(self, recipes: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
        """Names of all that `write` writes of these samples."""
        return self.listing

    def pictures(self, values: Tensor) -> "list[Image]": ...
    def sheet(
        self, values: Tensor, *, columns: int | None = None, captions: Sequence[str] = ()
    ) -> "Image": ...

    def frames(self, steps: Sequence[Tensor], *, captions: Sequence[str] = ()) -> "Iterable[Image]":
        """A sheet of the same samples at each of several steps of their making, (B, ...) every one."""
        return (self.sheet(values, captions=captions) for values in steps)

    def views(self, shape: Sequence[int]) -> "tuple[View, ...]":
        """Further ways to look at decoded samples of this shape, see `studio.tasks.views`. Samples that are
        files of their own (``one_each``) have none that are drawn."""
        return ()

    def write(self, folder: Path, values: Tensor, recipes: Sequence[Mapping[str, Any]]) -> None:
        """The files of `file_names`: nothing here."""
        return


def names_of(recipes: Sequence[Mapping[str, Any]]) -> list[str]:
    """What files of single samples are called: ``seed-000005``, with the class where a seed stands more than
    once."""
    times = Counter(r["seed"] for r in recipes)
    names = [
        f"seed-{r['seed']:06d}" + (f"-class-{r.get('label', -1)}" if times[r["seed"]] > 1 else "")
        for r in recipes
    ]
    taken = Counter(names)
    return [n if taken[n] == 1 else f"{n}-{i:04d}" for i, n in enumerate(names)]
