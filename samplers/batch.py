"""What an objective takes and gives, and how it treats entries that are known."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from backbones.types import Cond


@dataclass(frozen=True)
class Batch:
    """Data (B, ...) as the network sees it, its conditions, and a source where the data brings one."""

    data: Tensor
    cond: Cond = field(default_factory=Cond)
    source: Tensor | None = None


@dataclass(frozen=True)
class Ends:
    """What a path goes between: ``source`` and ``data`` (B, ...), with the conditions of the data."""

    source: Tensor
    data: Tensor
    cond: Cond


@dataclass(frozen=True)
class State:
    """A place on a path: ``x`` (B, ...) at times ``t`` (B,), the conditions that go with it, and what can be
    learned there by name, such as the ``data`` and the ``noise`` (B, ...) that x was made of."""

    x: Tensor
    t: Tensor
    cond: Cond
    targets: Mapping[str, Tensor]


@dataclass(frozen=True)
class Error:
    """A (B,) error of a prediction, as the network's head measures it, known entries left out. ``scale`` ()
    or (B,): what weights translate it by (see `samplers.weights`); None for a term that is no error along the
    path and is not weighted."""

    name: str
    value: Tensor
    scale: Tensor | None


@dataclass(frozen=True)
class Loss:
    """``per_sample`` (B,), weights included; ``logs`` are detached scalars; ``t`` (B,) the times of a loss
    along a path."""

    per_sample: Tensor
    logs: dict[str, Tensor] = field(default_factory=dict)
    t: Tensor | None = None


def check_drop(cond_drop: float, drop_each: float) -> None:
    """Raises ``ValueError`` for what is no probability."""
    for name, value in (("cond_drop", cond_drop), ("drop_each", drop_each)):
        if not 0 <= value <= 1:
            raise ValueError(f"got {name}={value}, expected a probability between 0 and 1")


def with_known(x: Tensor, data: Tensor, cond: Cond) -> Tensor:
    """x (B, ...) with known entries in their clean place: the given values, or the data's."""
    return x if cond.known is None else torch.where(cond.known, data if cond.given is None else cond.given, x)


def mean_unknown(squared: Tensor, known: Tensor | None) -> Tensor:
    """(B,) mean of (B, ...) over the entries that are not known."""
    if known is None:
        return squared.flatten(1).mean(1)
    free = (~known).expand_as(squared).to(squared.dtype)
    return (squared * free).flatten(1).sum(1) / free.flatten(1).sum(1).clamp_min(1)


def squared(differences: Iterable[tuple[str, Tensor, Tensor]], state: State, space: Any) -> list[Error]:
    """Errors of real-valued predictions: by name, (B, ...) differences and the scales of their squares."""
    return [Error(name, space.reduce(gap.square(), state.cond), scale) for name, gap, scale in differences]
