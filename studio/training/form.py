"""The form of a network for pictures of a size: the one that trained best on small pictures, a convolutional
stem and head around a transformer over some sixty to a hundred and fifty tokens."""

from collections.abc import Sequence
from typing import Any

WIDTHS = {128: (4, 2), 192: (4, 3), 256: (6, 4), 384: (8, 6)}  # depth and heads
STEMS = {1: (32,), 2: (24, 64), 3: (24, 48, 96), 4: (16, 32, 64, 128), 5: (16, 32, 64, 96, 128)}
TOKENS, MOST_TOKENS = 12, 24  # along a side: what is aimed at, and what one step of a stem may leave


def levels_of(sides: Sequence[int]) -> int:
    """Halvings of a stem that bring pictures to about `TOKENS` tokens along a side; 0 where they cannot be
    halved."""
    level = 0
    while (
        all(s % 2 ** (level + 1) == 0 and s // 2 ** (level + 1) >= 4 for s in sides)
        and max(sides) / 2**level > TOKENS
        and level < max(STEMS)
    ):
        level += 1
    return level


def network(name: str, sides: Sequence[int], width: int) -> dict[str, Any]:
    """A backbone section for pictures of these sides."""
    depth, heads = WIDTHS[width]
    level, form = levels_of(sides), {"name": name, "hidden_size": width, "depth": depth, "num_heads": heads}
    if level and max(sides) // 2**level <= MOST_TOKENS:
        return {**form, "stem_channels": list(STEMS[level]), "stem_blocks": 2}
    patch = next(
        (
            p
            for p in range(1, max(sides) + 1)
            if all(s % p == 0 for s in sides) and max(sides) // p <= MOST_TOKENS
        ),
        1,
    )
    return {**form, "patch_size": patch}
