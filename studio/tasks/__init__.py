"""A task says how samples are shown and judged. Evaluation and the page ask the task, never the type of the
data."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from backbones.plugins import Registry
from backbones.registry import parameters, resolve
from studio.codecs.codec import makes_pictures
from studio.tasks.base import Task

REGISTRY = Registry(
    "tasks",
    {
        "image": "studio.tasks.image:ImageTask",
        "field": "studio.tasks.field:FieldTask",
        "points": "studio.tasks.points:PointsTask",
        "vectors": "studio.tasks.points:VectorsTask",
        "angles": "studio.tasks.angles:AnglesTask",
        "tokens": "studio.tasks.tokens:TokensTask",
        "curves": "studio.tasks.curves:CurvesTask",
        "rows": "studio.tasks.curves:RowsTask",
        "clips": "studio.tasks.clips:ClipsTask",
        "molecule": "studio.tasks.molecule:MoleculeTask",
        "posterior": "studio.recipes.posterior.linear_gaussian:LinearGaussian",
        "nb-regression": "studio.recipes.posterior.nb_regression:NBRegression",
        "two-moons": "studio.recipes.posterior.sbi_tasks:TwoMoons",
        "slcp": "studio.recipes.posterior.sbi_tasks:SLCP",
        "seir": "studio.recipes.posterior.seir:SEIR",
        "battery": "studio.recipes.battery.task:BatteryTask",
        "protein": "studio.recipes.protein.task:ProteinTask",
    },
)


def name_of(name: str, codec: Mapping[str, Any] | None = None) -> str:
    """The task of data that calls itself so: what a codec does not decode to pictures is a field of
    numbers."""
    return "field" if name == "image" and codec is not None and not makes_pictures(codec) else name


def kind_of(name: str) -> Any:
    """The class of a task, which says what does not depend on a codec. Raises ``ValueError`` for an unknown
    one."""
    return resolve(REGISTRY, name, "task")


def parts_of(name: str) -> str:
    """The task of the parts that samples of a task are made of, as of clips the frames; empty for most."""
    return getattr(kind_of(name), "parts_of", "") if name in REGISTRY else ""


def guessed(array: Any, legend: Mapping[str, Any]) -> str:
    """The task of arrays (N, ...) whose maker recorded none."""
    if "atoms" in legend or array.dtype.kind == "U":
        return "molecule"
    if len(array.shape) == 2:
        return "points"
    if len(array.shape) == 5 and array.dtype == np.uint8:
        return "clips"
    return "image" if len(array.shape) == 4 and array.dtype == np.uint8 else "field"


def name_of_own(task: Any) -> str:
    """What data and files call a task that is given as an object. Raises ``ValueError`` for what is no task,
    and for one that is called like another."""
    if isinstance(task, type):
        raise ValueError(
            f"got the class {task.__name__} as the task, expected an object; try {task.__name__}()"
        )
    name = getattr(task, "name", None)
    if not isinstance(name, str) or not name or not hasattr(task, "sheet"):
        raise ValueError(
            f"got {type(task).__name__} as the task, expected an object such as studio.tasks.base.Task, with "
            "a name"
        )
    if name in REGISTRY and type(task) is not kind_of(name):
        raise ValueError(f"got a task of your own called {name}, as another is called; give it another name")
    return name


def build_task(name: str, codec: Mapping[str, Any] | None = None, own: Task | None = None) -> Task:
    """A task by name, with what its constructor asks for of the data's codec; what a codec does not decode to
    pictures is a field of numbers. ``own``: an object in its place. Raises ``ValueError`` for an unknown
    one."""
    if own is not None:
        return own
    kind = resolve(REGISTRY, name_of(name, codec), "task")
    return kind(**{k: v for k, v in (codec or {}).items() if k in parameters(kind)})


def build(name: str) -> Any:
    """The task of a name, without a model or its codec: what recipes simulate by
    (``studio.tasks.build("posterior").simulate(100, seed=0)``). Raises ``ValueError`` for an unknown one."""
    return build_task(name)
