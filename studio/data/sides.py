"""The size of pictures as people say it: one number, which is square, or height and width."""

from collections.abc import Sequence
from typing import Any

from backbones.registry import plain

Size = int | Sequence[int]


def sides_of(size: Any, name: str = "data.size") -> tuple[int, int]:
    """(height, width) in pixels. Raises ``ValueError`` for what is neither one whole number nor two, each of
    at least 1."""
    both = [plain(v) for v in (size if isinstance(size, list | tuple) else (size, size))]
    if len(both) != 2 or not all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in both):
        raise ValueError(
            f"got {name}={said(size)}, expected a whole number of pixels of at least 1, or height and width, "
            "such as [16,24]"
        )
    return both[0], both[1]


def as_size(sides: Sequence[int]) -> int | list[int]:
    """As a config holds it: one number where all sides are equal."""
    return sides[0] if len({*sides}) == 1 else list(sides)


def said(size: Any) -> str:
    """As it is typed: ``16`` or ``[16,24]``."""
    short = as_size(size) if isinstance(size, list | tuple) and len(size) > 1 else size
    return str(list(short)).replace(" ", "") if isinstance(short, list | tuple) else str(short)
