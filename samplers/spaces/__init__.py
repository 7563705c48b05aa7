"""What a sample is made of: where it starts, what lies between two, and what of it is counted."""

from backbones.plugins import Registry

REGISTRY = Registry(
    "spaces", {"euclid": "samplers.spaces.euclid:Euclid", "graph": "samplers.spaces.graph:Graph"}
)
