"""Floor 1: networks, condition encoders and attention. Knows shapes, not noise."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from backbones import registry
from backbones.attention import Bias, BlockDiagonal, Full, GridWindow, Window, attend
from backbones.dit import DiT
from backbones.noise import NoiseSource, RecordedNoise
from backbones.plugins import Registry
from backbones.types import Backbone, Cond, RunContext

__all__ = [
    "Backbone",
    "Bias",
    "BlockDiagonal",
    "Cond",
    "DiT",
    "Full",
    "GridWindow",
    "NoiseSource",
    "REGISTRY",
    "RecordedNoise",
    "RunContext",
    "Window",
    "attend",
    "build",
    "from_original",
]

REGISTRY = Registry(
    "backbones",
    {
        "dit": "backbones.dit:DiT",
        "dis": "backbones.dis:DiS",
        "rwkv": "backbones.rwkv:DiffusionRWKV",
        "graph_dit": "backbones.graph_dit:GraphDiT",
        "mlp": "backbones.mlp:MLPBackbone",
    },
)


def build(name: str, **options: Any) -> nn.Module:
    """A backbone by its registry name, e.g. ``build("dit", size="S/2", input_size=32)``."""
    return registry.build(REGISTRY, name, "backbone", options)


def from_original(
    family: str, state_dict: Mapping[str, Tensor], config: Mapping[str, Any], compat: bool = True
) -> nn.Module:
    """Our module with the weights and, if ``compat``, the semantics of an original implementation.

    ``family``: dit, dis, rwkv or graph_dit. ``config``: the original constructor's arguments. ``state_dict``:
    the original key names, inside whatever training wraps around a network (`backbones.wrapped`). Returned in
    eval mode. Raises ``ValueError`` when the weights do not fit the config.
    """
    from backbones.originals.dit import FAMILIES
    from backbones.wrapped import unwrapped

    make = registry.resolve(FAMILIES, family, "family")
    return make(unwrapped(state_dict, family), config, compat=compat)
