"""What may be given where a model is asked for samples: the types of the public signatures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image
from torch import Tensor

from guidance.rules import Rule
from samplers.solvers.base import Sampler

Labels = int | str | Sequence[int | str] | np.ndarray | Tensor | None  # names or numbers of classes, −1: none
Seeds = int | str | Sequence[int] | range | np.ndarray | Tensor | None  # also a text such as "0-7,12"
Solver = str | Mapping[str, Any] | Sampler | None  # "ddim(eta=0.5)", {"name": ..., options}, an object
# "cfg=2.0,interval=0.1:0.9", a cfg scale, a rule, a tree, a list of these
Guidance = str | int | float | Rule | Mapping[str, Any] | Sequence[Any] | None
Conditions = Mapping[str, Any] | None  # by name, in their own units
Picture = str | Path | Image | np.ndarray | Tensor | None  # `studio.sampling.inputs`
Entries = str | Path | np.ndarray | Tensor | Sequence[Any] | None  # of samples: `studio.sampling.kept`
