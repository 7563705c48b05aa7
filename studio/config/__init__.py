"""Configs: one YAML tree, typed; overrides as they are typed."""

from studio.config.config import AUTO, Config, DDPConfig, SampleConfig, TrainConfig, from_tree, migrate
from studio.config.sources import files_of, former_name, load_config, shipped, tree_of

__all__ = [
    "AUTO",
    "Config",
    "DDPConfig",
    "SampleConfig",
    "TrainConfig",
    "files_of",
    "former_name",
    "from_tree",
    "load_config",
    "migrate",
    "shipped",
    "tree_of",
]
