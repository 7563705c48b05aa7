"""What travels with a batch (`Cond`), with a run (`RunContext`) and with a draw (`NoiseSource`)."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from backbones.caching.plan import Plan
from backbones.noise import NoiseSource, RecordedNoise

__all__ = ["Cond", "RunContext", "NoiseSource", "RecordedNoise", "Backbone", "Noise"]

Field = Tensor | Mapping[str, Tensor] | None
CONDITIONS = ("label", "numeric", "tokens", "image", "named")


class Noise(Protocol):
    """What samplers and objectives ask of a source of randomness."""

    def at(self, step: int) -> "Noise": ...
    def normal(
        self, shape: Sequence[int] = (), *, stream: str, dtype: torch.dtype = torch.float32
    ) -> Tensor: ...


class Backbone(Protocol):
    """A network: ``(B, ...), (B,), Cond -> (B, ...)``. Knows shapes, not noise. It may say what a sample
    costs it: ``tokens(shape)``, in how many pieces it sees one of a shape (`tokens_of`), ``few_tokens``, how
    many in a batch are too few to fill a CPU, and ``fixed_rows``, how many samples make a batch of fixed
    size."""

    def __call__(self, x: Tensor, t: Tensor, cond: "Cond", ctx: "RunContext | None" = None) -> Tensor: ...


def tokens_of(net: Any, shape: Sequence[int]) -> int:
    """In how many pieces a network sees a sample of a shape: as it says itself (``tokens``), otherwise the
    places of the sample, all axes but the channels in front."""
    own = getattr(net, "tokens", None)
    return own(shape) if callable(own) else math.prod(shape[1:])


def _each(value: Field, fn: Callable[[Tensor], Tensor]) -> Field:
    if value is None:
        return None
    return {k: fn(v) for k, v in value.items()} if isinstance(value, Mapping) else fn(value)


def _missing(value: Tensor) -> Tensor:
    return torch.full_like(value, torch.nan if value.is_floating_point() else -1)


def _lost(value: Tensor, lost: Tensor) -> Tensor:
    """(B, ...) with the samples ``lost`` (B,) missing."""
    return torch.where(lost.view(-1, *[1] * (value.ndim - 1)), _missing(value), value)


@dataclass(frozen=True)
class Cond:
    """A batch of conditions. Every field is (B, ...), or a dict of such tensors by name, or None.

    ``label`` (B,) int64, −1 = missing. ``numeric`` (B, K) float, NaN = missing. ``tokens`` (B, L, D) and
    ``image`` (B, C, H, W) float, NaN = missing. ``named``: conditions of all other names, of integers (−1 =
    missing) or floats (NaN). Of the sample itself, and kept when the condition is nulled: ``valid`` (padding
    mask, True = real), ``known`` (mask of entries that are given), ``given`` (their values).
    """

    label: Field = None
    numeric: Field = None
    tokens: Field = None
    image: Field = None
    valid: Tensor | None = None
    known: Tensor | None = None
    given: Tensor | None = None
    named: Mapping[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def of(columns: Mapping[str, Tensor]) -> "Cond":
        """From tensors (B, ...) by name: those that are no fields of their own are ``named``."""
        own = {f.name for f in fields(Cond)}
        return Cond(
            **{k: v for k, v in columns.items() if k in own},
            named={k: v for k, v in columns.items() if k not in own},
        )

    def get(self, name: str) -> Field:
        """A condition by its name, None where it is not given."""
        return getattr(self, name) if name in CONDITIONS[:-1] else self.named.get(name)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the conditions that are there."""
        return (*(n for n in CONDITIONS[:-1] if getattr(self, n) is not None), *self.named)

    def _map(self, fn: Callable[[Tensor], Tensor], names: Sequence[str] | None = None) -> "Cond":
        chosen = names or [f.name for f in fields(self)]
        changed: dict[str, Any] = {n: _each(getattr(self, n), fn) for n in chosen}
        return replace(self, **changed)

    def null(self) -> "Cond":
        """Every condition missing; what is known of the sample stays."""
        return self._map(_missing, CONDITIONS)

    def index(self, i: Tensor | slice) -> "Cond":
        """Rows ``i`` of every field (permutes conditions with their pairs)."""
        return self._map(lambda v: v[i])

    def beside(self, other: "Cond") -> "Cond":
        """The rows of this one, then those of another with the same fields."""
        joined: dict[str, Any] = {}
        for f in fields(self):
            a, b = getattr(self, f.name), getattr(other, f.name)
            joined[f.name] = (
                None
                if a is None
                else {k: torch.cat([v, b[k]]) for k, v in a.items()}
                if isinstance(a, Mapping)
                else torch.cat([a, b])
            )
        return Cond(**joined)

    def to(self, device: torch.device | str) -> "Cond":
        return self._map(lambda v: v.to(device, non_blocking=True))

    def clone(self) -> "Cond":
        """A copy, which gradients can pass where they could not before (tensors of inference mode)."""
        return self._map(torch.clone)

    def drop(self, p: float, noise: NoiseSource, *, each: float = 0.0) -> "Cond":
        """Classifier-free dropout: each sample loses all its conditions with probability ``p`` (stream
        ``drop``), and each of its numbers and of the ``named`` by itself with probability ``each`` (streams
        ``drop-each...``), so that a network learns what to do when some are asked for and others are free."""
        kept = self
        if each > 0 and self.named:
            kept = replace(
                kept,
                named={
                    k: _lost(v, noise.uniform(stream=f"drop-each-named-{k}") < each)
                    for k, v in self.named.items()
                },
            )
        if each > 0 and self.numeric is not None:
            columns = dict(self.numeric) if isinstance(self.numeric, Mapping) else {"": self.numeric}
            for name, value in columns.items():
                # (B, K)
                gone = noise.uniform(value.shape[1:], stream=f"drop-each{name and f'-{name}'}") < each
                columns[name] = torch.where(gone, _missing(value), value)
            kept = replace(kept, numeric=columns if isinstance(self.numeric, Mapping) else columns[""])
        if p <= 0:
            return kept
        lost = noise.uniform(stream="drop") < p  # (B,)
        return kept._map(lambda v: _lost(v, lost), CONDITIONS)


@dataclass
class RunContext:
    """The only carrier of run state: made by a sampler or trainer for one run and passed down through every
    call.

    ``step`` of ``num_steps`` from time ``t`` to ``t_next`` (``t`` is None where steps are not known ahead),
    ``evaluation`` within the step, at ``time``; ``branch`` ("cond", "uncond", "both" in one call, "weak",
    "perturbed"); ``layer`` of the network that is asked; ``accepted``: whether this evaluation belongs to an
    accepted step (rules commit their state only then); ``caches`` and ``states``: free storage by owner,
    split per branch by the owner; ``plan``: what is not computed but taken from before; ``attention``:
    backend name or "auto"; ``double_backward``: ask for a form that can be differentiated twice; ``taps``:
    names to record -> tensors.
    """

    step: int = 0
    num_steps: int = 0
    evaluation: int = 0
    time: float | None = None
    t: float | None = None
    t_next: float | None = None
    branch: str = "cond"
    layer: int = 0
    accepted: bool = True
    plan: Plan | None = None
    attention: str = "auto"
    double_backward: bool = False
    caches: dict[Any, Any] = field(default_factory=dict)
    states: dict[Any, Any] = field(default_factory=dict)
    taps: dict[str, Any] = field(default_factory=dict)

    def on(self, branch: str) -> "RunContext":
        """The same run seen from another branch (storage is shared)."""
        return replace(self, branch=branch)

    @staticmethod
    def at(ctx: "RunContext | None", layer: int) -> "RunContext | None":
        """The run seen from a layer, where a plan asks for its number."""
        return ctx if ctx is None or ctx.plan is None else replace(ctx, layer=layer)
