"""A task says how samples are shown and judged. Evaluation and the page ask the task, never the type of the data."""

from backbones.registry import resolve
from studio.tasks.base import Task

REGISTRY = {"image": "studio.tasks.image:ImageTask", "points": "studio.tasks.points:PointsTask"}


def build_task(name: str) -> Task:
    """A task by name. Raises ``ValueError`` for an unknown one."""
    return resolve(REGISTRY, name, "task")()
