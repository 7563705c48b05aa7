"""Further ways to look at what a job made (`studio.tasks.views`): told with it, drawn when they are first
looked at, and kept beside the samples."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from studio import sampling
from studio.jobs.result import Result
from studio.model.maker import Asked
from studio.model.model import Model
from studio.tasks.views import Seen


def file_of(result: Result, place: int, again: Callable[[], tuple[Model, sampling.Request]]) -> Path:
    """The file of a result's view. ``again``: the model and the request that it is of, asked where the file
    is not there yet. Raises ``ValueError`` where it cannot be drawn any more."""
    told = result.views[place]
    path = result.folder / told["file"]
    if path.is_file():
        return path
    model, request = again()
    view = next((v for v in model.task.views(model.sample_shape) if v.file == path.name), None)
    arrays = result.folder / "samples.npz"
    if view is None or view.draw is None or not arrays.is_file():
        raise ValueError(f"{path.name} is not there any more; sample again to have it")
    if model.hash != result.recipes[0].get("model_hash"):
        raise ValueError(f"the weights of {model.name} are others by now; sample again to see {view.name}")
    with np.load(arrays) as saved:
        values = torch.from_numpy(saved[model.task.array])
    view.draw(path, Seen(values, result.recipes, Asked(model, request)))
    return path
