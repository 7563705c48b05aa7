"""The verbs of a task."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image


class Task(Protocol):
    """``values`` are decoded samples (B, ...), as the codec gives them.

    ``suffix`` is .png where each sample is a picture of its own; others lie together in ``samples.npz``, with
    ``dtype`` and, so that the file can be read alone, the arrays of ``legend``. ``listing`` names further
    files that a whole set is written to by `write`. ``together``: one drawing shows them all; ``beside``: a
    picture of each is saved beside the arrays. ``judged``: the family of measures in `studio.evaluation`
    (image, points or molecule), empty where there is none.
    """

    name: str
    suffix: str
    together: bool = False
    beside: bool = False
    dtype: str = "float32"
    listing: tuple[str, ...] = ()
    judged: str = ""

    @property
    def legend(self) -> Mapping[str, np.ndarray]:
        return {}

    def ready(self) -> None:
        """Raises ``ImportError`` where what draws and lists these samples is not installed; asked before any
        is made."""
        return

    def pictures(self, values: Tensor) -> "list[Image]": ...
    def sheet(
        self, values: Tensor, *, columns: int | None = None, captions: Sequence[str] = ()
    ) -> "Image": ...

    def write(self, folder: Path, values: Tensor, recipes: Sequence[Mapping[str, Any]]) -> None:
        """The files of ``listing``: nothing here."""
        return
