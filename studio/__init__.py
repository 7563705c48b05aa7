"""Floor 4: config, data, tasks, training, checkpoints, generation, the command line and the public Python
API.

import studio run = studio.train("fashion-dit") samples = studio.load("fashion-dit").sample(labels=["Sandal"],
seeds=range(8), guidance=2.0)
"""

from typing import TYPE_CHECKING, Any

from studio.runtime import name_clash
from studio.runtime.version import __version__

_PUBLIC = {
    "train": "studio.training.run",
    "Run": "studio.training.run",
    "load": "studio.model.loading",
    "Model": "studio.model",
    "list_models": "studio.checkpoints.find",
    "Samples": "studio.sampling.samples",
    "generate": "studio.generation",
    "evaluate": "studio.evaluation",
    "compare": "studio.evaluation",
    "compress": "studio.compression",
    "sweep": "studio.api",
    "translate": "studio.api",
}
__all__ = [
    "Model",
    "Run",
    "Samples",
    "__version__",
    "compare",
    "compress",
    "evaluate",
    "generate",
    "list_models",
    "load",
    "sweep",
    "train",
    "translate",
]

if TYPE_CHECKING:
    from studio.api import sweep, translate
    from studio.checkpoints.find import list_models
    from studio.compression import compress
    from studio.evaluation import compare, evaluate
    from studio.generation import generate
    from studio.model.loading import load
    from studio.model.model import Model
    from studio.sampling.samples import Samples
    from studio.training.run import Run, train


name_clash.check("backbones", "samplers", "guidance")
name_clash.check_data("configs")


def __getattr__(name: str) -> Any:  # heavy imports wait until they are asked for
    if name in _PUBLIC:
        import importlib

        return getattr(importlib.import_module(_PUBLIC[name]), name)
    if name in ("data", "tasks"):  # studio.data.from_arrays, after nothing but `import studio`
        import importlib

        return importlib.import_module(f"studio.{name}")
    raise AttributeError(f"module 'studio' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
