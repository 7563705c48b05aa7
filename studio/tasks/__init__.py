"""A task says how samples are shown and judged. Evaluation and the page ask the task, never the type of the data."""

import inspect
from collections.abc import Mapping
from typing import Any

from backbones.registry import resolve
from studio.tasks.base import Task

REGISTRY = {"image": "studio.tasks.image:ImageTask", "points": "studio.tasks.points:PointsTask", "molecule": "studio.tasks.molecule:MoleculeTask"}


def build_task(name: str, codec: Mapping[str, Any] | None = None) -> Task:
    """A task by name, with what its constructor asks for of the data's codec. Raises ``ValueError`` for an unknown one."""
    kind = resolve(REGISTRY, name, "task")
    return kind(**{k: v for k, v in (codec or {}).items() if k in inspect.signature(kind).parameters})
