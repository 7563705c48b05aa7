"""No sample that is not finite is ever shown or written: a picture of it would be black, and a number of it
nothing.

A state is looked at after every solver step, which costs one sum; a molecule's, which is always zeros and
ones, by what the network said of it.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from samplers.solvers.base import Step

TRY = (
    "try dtype=fp32, a lower guidance scale, a sampler with clip=1 or lambda_min=-5.1, or another "
    "sampler or number of steps"
)


class NotFinite(ValueError):
    """Samples that became infinite or no number; nothing of them was written."""


def finite(values: Tensor) -> bool:
    """Whether every entry is. One sum tells: what is not finite stays so in it."""
    return (
        not values.is_floating_point()
        or math.isfinite(float(values.sum()))
        or bool(torch.isfinite(values).all())
    )


def check_step(step: Step, seeds: Sequence[int | None], *, told: bool = False) -> None:
    """Raises `NotFinite` with the step and the seeds where the state after a step is not finite; rows without
    a seed are padding. ``told``: look at what the network said instead."""
    values = step.prediction.value if told else step.x
    if finite(values):
        return
    bad = ~torch.isfinite(values).flatten(1).all(1).cpu()
    if told:  # a class that is ruled out has log-probability -inf
        bad = (values.isnan() | (values == math.inf)).flatten(1).any(1).cpu()
    lost = [seed for seed, of in zip(seeds, bad.tolist()) if of and seed is not None]
    if lost:
        raise NotFinite(
            f"got numbers that are not finite in step {step.index + 1} of {step.num_steps} (t = "
            f"{step.t:.3g}) for seed {_few(lost)}, expected finite "
            f"ones; nothing of them was written; {TRY}"
        )


def check_decoded(values: Tensor, what: str) -> Tensor:
    """Decoded values as they are; raises `NotFinite` where the decoder itself made some that are not
    finite."""
    if not finite(values):
        raise NotFinite(
            f"got numbers that are not finite from {what}, expected finite ones; nothing of them was "
            f"written; {TRY}"
        )
    return values


def _few(seeds: Sequence[int], most: int = 8) -> str:
    return ", ".join(map(str, seeds[:most])) + (f" and {len(seeds) - most} more" if len(seeds) > most else "")
