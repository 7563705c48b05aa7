"""Floor 4: config, data, tasks, training, checkpoints, generation, the command line and the public Python API.

import studio
run = studio.train("fashion-dit")
samples = studio.load("fashion-dit").sample(labels=["Sandal"], seeds=range(8), guidance=2.0)
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from studio import neighbours
from studio.version import __version__

_PUBLIC = {
    "train": "studio.trainer",
    "Run": "studio.trainer",
    "load": "studio.loading",
    "Model": "studio.model",
    "list_models": "studio.shelf",
    "Samples": "studio.samples",
    "generate": "studio.generation",
    "evaluate": "studio.evaluation",
    "compare": "studio.evaluation",
    "sweep": "studio.api",
    "translate": "studio.api",
}
__all__ = [
    "Model", "Run", "Samples", "__version__", "compare", "evaluate", "generate", "list_models", "load", "sweep", "train", "translate",
]  # fmt: skip

if TYPE_CHECKING:
    from studio.api import sweep, translate
    from studio.evaluation import compare, evaluate
    from studio.generation import generate
    from studio.loading import load
    from studio.model import Model
    from studio.samples import Samples
    from studio.shelf import list_models
    from studio.trainer import Run, train


neighbours.check("backbones", "samplers", "guidance")
neighbours.check_data("configs")


def __getattr__(name: str) -> Any:  # heavy imports wait until they are asked for
    if name in _PUBLIC:
        import importlib

        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'studio' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """`studio.sweep` and `studio.translate` are functions, also after a module of that name was imported from: Python would then put the
    module in their place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PUBLIC and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
