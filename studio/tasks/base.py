"""The verbs of a task."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image


class Task(Protocol):
    """``values`` are decoded samples (B, ...), as the codec gives them."""

    name: str
    suffix: str

    def pictures(self, values: Tensor) -> "list[Image]": ...
    def sheet(self, values: Tensor, *, columns: int | None = None, captions: Sequence[str] = ()) -> "Image": ...
