"""Who is paired with whom, and with what weight.

    independent   every data point with its own source (diffusion, I-CFM)
    ot            the exact optimal transport of the batch (OT-CFM; Tong et al. 2302.00482, Pooladian et al.
                  2304.14772), `samplers.couplings.planned`
    sinkhorn      pairs drawn from the entropic plan of the batch, there too
    gibbs         independent pairs with the weight exp(−c/eps) (W-CFM; Calvo-Ordoñez et al. 2507.22270),
                  `samplers.couplings.gibbs`
    paired        the source that the data brings, and nothing else

A coupling sees one batch; where a step is split over processes or micro-batches, it pairs within each part.
Data points keep their places, and with them their conditions: sources move. All draws come from the
``NoiseSource``. To write one's own: a class with ``__call__`` as in `Coupling` and a line in ``REGISTRY``, or
the object itself as ``Objective(coupling=...)``.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from backbones.plugins import Registry
from backbones.types import Cond, NoiseSource, RunContext
from samplers.batch import Ends
from samplers.spaces import Space


@dataclass(frozen=True)
class Coupled(Ends):
    """A batch of pairs. ``weight`` (B,) has mean 1 over the batch (unless a coupling is told otherwise), or
    is None for all ones. ``logs``: detached scalars."""

    weight: Tensor | None = None
    logs: Mapping[str, Tensor] = field(default_factory=dict)


class Coupling(Protocol):
    """A coupling may set ``needs_source = True`` to refuse batches without a source of their own,
    ``measures = True`` to be called with ``space=``, whose ways it compares, and ``remembers = True`` to be
    called with ``state=``: a dict of tensors that lives as long as the run (`Objective.loss`)."""

    def __call__(self, source: Tensor, data: Tensor, cond: Cond, noise: NoiseSource) -> Coupled: ...


def pair(
    coupling: Coupling,
    space: Space,
    source: Tensor | None,
    data: Tensor,
    cond: Cond,
    noise: NoiseSource,
    ctx: RunContext | None = None,
) -> Coupled:
    """A batch with its own source, or a draw of the space's prior, paired. Raises ``ValueError`` when the
    coupling needs sources and there are none."""
    if source is None and getattr(coupling, "needs_source", False):
        raise ValueError(
            "got a batch without a source, expected pairs; use data that brings a source for each "
            "sample, or the coupling independent"
        )
    if source is None:
        source, cond = space.start(noise, data.shape[1:], cond, dtype=data.dtype)
    asked: dict[str, Any] = {}
    if getattr(coupling, "measures", False):
        asked["space"] = space
    if getattr(coupling, "remembers", False):
        asked["state"] = memory(ctx, "coupling")
    return coupling(source, data, cond, noise, **asked)


def memory(ctx: RunContext | None, owner: str) -> dict[str, Tensor] | None:
    """What a part keeps between the batches of a run: a dict of tensors in the run's context, None without
    one."""
    return None if ctx is None else ctx.states.setdefault(owner, {})


class Independent:
    """Every data point with its own draw of the source: the plain diffusion and I-CFM pairing."""

    def __call__(self, source: Tensor, data: Tensor, cond: Cond, noise: NoiseSource) -> Coupled:
        return Coupled(source, data, cond)


class Paired:
    """The source that came with each data point. Raises ``ValueError`` (in the objective) where none came."""

    needs_source = True

    def __call__(self, source: Tensor, data: Tensor, cond: Cond, noise: NoiseSource) -> Coupled:
        return Coupled(source, data, cond)


class Once:
    """Warnings of one object, each kind once: a run has its own couplings, so no run keeps another's warnings
    from being seen."""

    def __init__(self) -> None:
        self.said: set[str] = set()

    def __call__(self, kind: str, text: str) -> None:
        if kind not in self.said:
            self.said.add(kind)
            # Python's own register is the module's
            warnings.warn_explicit(text, UserWarning, __file__, 0, module=__name__, registry={})


REGISTRY = Registry(
    "couplings",
    {
        "independent": "samplers.couplings.coupling:Independent",
        "ot": "samplers.couplings.planned:OT",
        "sinkhorn": "samplers.couplings.planned:Sinkhorn",
        "gibbs": "samplers.couplings.gibbs:Gibbs",
        "paired": "samplers.couplings.coupling:Paired",
    },
)
