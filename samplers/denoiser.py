"""A trained network that can be queried: ``predict(x, t, cond, ctx) -> Prediction``. Never under inference
mode: wrappers may need its gradient."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from backbones.batching import doubles
from backbones.inference import lowered
from backbones.types import Cond, RunContext, tokens_of
from samplers.heads.gradient import check_forms, grad_of, told
from samplers.paths import Path, Time
from samplers.prediction import Prediction
from samplers.spaces import name_of

LOW = (torch.bfloat16, torch.float16)


@runtime_checkable
class Queryable(Protocol):
    """What a sampler needs. ``space``: the name of what its states are made of; ``starts``: from ``noise``,
    or from a ``source`` of its own."""

    @property
    def path(self) -> Path: ...
    @property
    def known_trained(self) -> bool: ...
    @property
    def space(self) -> str: ...
    @property
    def starts(self) -> str: ...

    def predict(self, x: Tensor, t: Time, cond: Cond, ctx: RunContext | None = None) -> Prediction: ...


class Head(Protocol):
    """What a denoiser asks its network by: a `samplers.heads.parameterization.Parameterization`, or a head of
    bridges, which knows their paths only."""

    def predict(
        self, net: Any, x: Tensor, t: Time, cond: Cond, path: Any, ctx: RunContext | None = None
    ) -> Prediction: ...


class Denoiser(nn.Module):
    """Network + path + parameterisation. ``dtype`` torch.bfloat16 or float16 runs the network under autocast;
    x and the prediction keep x's dtype; raises ``ValueError`` for a head that
    forbids it. ``known_trained``: the network saw clean known entries in training (a
    sampler then puts them back clean). ``starts``: ``source`` for a model that starts from data instead of
    noise."""

    def __init__(
        self,
        net: nn.Module,
        path: Path,
        parameterization: Head,
        *,
        dtype: torch.dtype | None = None,
        known_trained: bool = False,
        starts: str = "noise",
    ):
        super().__init__()
        check_forms(parameterization, dtype=dtype)
        self.net, self.path, self.parameterization, self.dtype, self.known_trained = (
            net,
            path,
            parameterization,
            dtype,
            known_trained,
        )
        self.starts = starts

    @property
    def space(self) -> str:
        """The name of what its samples are made of."""
        return name_of(self.path.space)

    @property
    def grad(self) -> str:
        """Which gradient its head takes of the network (`samplers.heads.gradient`)."""
        return grad_of(self.parameterization)

    def lowered(self) -> "Denoiser":
        """A twin for a run in which the weights do not change: those that autocast would cast at every call
        are cast once. Same results."""
        if self.dtype not in LOW:
            return self
        return self.with_net(lowered(self.net, self.dtype))

    def with_net(
        self, net: nn.Module, dtype: torch.dtype | None = None, *, head: Head | None = None
    ) -> "Denoiser":
        """The same model with another network, and another precision or head where one is given."""
        return Denoiser(
            net,
            self.path,
            head or self.parameterization,
            dtype=dtype or self.dtype,
            known_trained=self.known_trained,
            starts=self.starts,
        )

    def doubles(self, x: Tensor) -> bool:
        """Whether one call of twice the batch is faster than two: on a CPU as was measured, on other devices
        always."""
        if x.device.type != "cpu":
            return True
        tokens = len(x) * tokens_of(self.net, x.shape[1:])
        return doubles(tokens, self.dtype, getattr(self.net, "few_tokens", None))

    def predict(self, x: Tensor, t: Time, cond: Cond, ctx: RunContext | None = None) -> Prediction:
        """(B, ...) state at time t (a float or (B,)) to a prediction at the same place."""
        low = self.dtype if self.dtype in LOW else None
        with torch.autocast(x.device.type, dtype=low, enabled=low is not None):
            head = self.parameterization
            return head.predict(self.net, x, t, cond, self.path, told(head, ctx))


class FunctionDenoiser:
    """Wraps any ``fn(x, t, cond) -> Prediction`` on a path, e.g. an exact score."""

    starts, known_trained = "noise", False

    def __init__(self, path: Path, fn: Callable[[Tensor, Time, Cond], Prediction]):
        self.path, self.fn = path, fn

    @property
    def space(self) -> str:
        return name_of(self.path.space)

    def predict(self, x: Tensor, t: Time, cond: Cond, ctx: RunContext | None = None) -> Prediction:
        return self.fn(x, t, cond)
