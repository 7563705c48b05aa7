"""What a sample is made of: where it starts, the way between two, and what of it is counted."""

from functools import cache
from typing import Any

from backbones.plugins import Registry
from backbones.registry import build
from samplers.spaces.space import Space

__all__ = ["REGISTRY", "Space", "name_of", "of"]

REGISTRY = Registry(
    "spaces", {"euclid": "samplers.spaces.euclid:Euclid", "graph": "samplers.spaces.graph:Graph"}
)


def of(space: Any) -> Space:
    """A space by its name; a space itself is given back. Raises ``ValueError`` for an unknown name."""
    return _named(space) if isinstance(space, str) else space


@cache
def _named(name: str) -> Space:
    return build(REGISTRY, name, "space")


def name_of(space: Any) -> str:
    return space if isinstance(space, str) else space.name
