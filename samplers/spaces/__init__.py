"""What a sample is made of: where it starts, the way between two, and what of it is counted."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from backbones import registry
from backbones.plugins import Registry
from samplers.spaces.space import Space

__all__ = ["REGISTRY", "Space", "build", "name_of", "of"]

REGISTRY = Registry(
    "spaces",
    {
        "euclid": "samplers.spaces.euclid:Euclid",
        "graph": "samplers.spaces.graph:Graph",
        "torus": "samplers.spaces.torus:Torus",
        "tokens": "samplers.spaces.tokens:Tokens",
    },
)


def build(name: str, **options: Any) -> Space:
    """A space by its registry name, e.g. ``build("torus", prior="uniform")``. Raises ``ValueError`` for
    unknown names or options."""
    return registry.build(REGISTRY, name, "space", options)


def of(space: Any) -> Space:
    """A space by its name, or ``{"name": ..., options}`` as configs write it; a space itself is given back.
    Raises ``ValueError`` for an unknown name."""
    if isinstance(space, Mapping):
        return build(**space)
    return _named(space) if isinstance(space, str) else space


@cache
def _named(name: str) -> Space:
    return build(name)


def name_of(space: Any) -> str:
    return space if isinstance(space, str) else space.name
