"""Floor 4: config, data, tasks, training, checkpoints, generation, the command line and the public Python API.

import studio
run = studio.train("fashion-dit")
samples = studio.load("fashion-dit").sample(labels=["Sandal"], seeds=range(8), guidance=2.0)
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
_PUBLIC = {
    "train": "studio.trainer",
    "Run": "studio.trainer",
    "load": "studio.model",
    "Model": "studio.model",
    "list_models": "studio.shelf",
    "Samples": "studio.samples",
    "generate": "studio.generation",
}
__all__ = ["Model", "Run", "Samples", "__version__", "generate", "list_models", "load", "train"]

if TYPE_CHECKING:
    from studio.generation import generate
    from studio.model import Model, load
    from studio.samples import Samples
    from studio.shelf import list_models
    from studio.trainer import Run, train


def _check_neighbours() -> None:
    """Another distribution's ``guidance`` or ``configs`` on the path would be imported instead of ours; say so instead of failing oddly."""
    from importlib.util import find_spec

    home = Path(__file__).resolve().parent.parent
    for name in ("backbones", "samplers", "guidance", "configs"):
        spec = find_spec(name)
        where = Path(spec.origin).resolve().parent.parent if spec is not None and spec.origin else None
        if where != home:
            found = "is missing" if where is None else f"was found in {where}"
            raise ImportError(
                f"the package {name!r} of drift-studio {found}, expected {home}: another distribution of that name is in the way; "
                "install drift-studio into an environment of its own"
            )


_check_neighbours()


def __getattr__(name: str) -> Any:  # heavy imports wait until they are asked for
    if name in _PUBLIC:
        import importlib

        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'studio' has no attribute {name!r}")
