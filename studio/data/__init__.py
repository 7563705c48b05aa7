"""Data sets. A source is a function in `REGISTRY` that returns a `Data`; a user's own
``torch.utils.data.Dataset`` becomes one by `from_dataset`, arrays by `from_arrays`."""

from collections.abc import Mapping
from typing import Any

from backbones.plugins import Registry
from backbones.registry import build, parameters, resolve
from studio.data.arrays import Arrays, Data
from studio.data.in_memory import from_arrays
from studio.data.own import from_dataset

__all__ = ["Arrays", "Data", "REGISTRY", "from_arrays", "from_dataset", "load_data", "takes"]

REGISTRY = Registry(
    "data",
    {
        "fashion-mnist": "studio.data.sources:fashion_mnist",
        "fashion-restore": "studio.data.degraded:fashion_restore",
        "emoji": "studio.data.emoji:emoji",
        "emoji-pictures": "studio.data.emoji:emoji_pictures",
        "npz": "studio.data.sources:npz",
        "images": "studio.data.images:images",
        "points": "studio.data.toy:points",
        "sets": "studio.data.sets:sets",
        "simulated": "studio.recipes.posterior.data:simulated",
        "angles": "studio.data.angles:angles",
        "tokens": "studio.data.tokens:tokens",
        "curves": "studio.data.curves:curves",
        "rows": "studio.data.rows:rows",
        "clips": "studio.data.clips:clips",
        "molecules": "studio.data.molecules:molecules",
        "moses": "studio.data.molecules:moses",
        "battery": "studio.recipes.battery.source:battery",
        "protein-backbones": "studio.recipes.protein.backbones:backbones",
    },
)


def takes(name: Any, option: str) -> bool:
    """Whether a data set by name has an option."""
    return name in REGISTRY and option in parameters(resolve(REGISTRY, name, "data"))


def load_data(spec: Mapping[str, Any]) -> Data:
    """From a config's ``data`` section ``{name: ..., options}``."""
    options = dict(spec)
    if "name" not in options:
        raise ValueError(f"data has no name, expected one of {', '.join(REGISTRY)}")
    return build(REGISTRY, options.pop("name"), "data", options)
