"""What an objective takes and gives."""

from dataclasses import dataclass, field

from torch import Tensor

from backbones.types import Cond


@dataclass(frozen=True)
class Batch:
    """Data (B, ...) as the network sees it, its conditions, and a source where the data brings one."""

    data: Tensor
    cond: Cond = field(default_factory=Cond)
    source: Tensor | None = None


@dataclass(frozen=True)
class Loss:
    """``per_sample`` (B,), weights included; ``logs`` are detached scalars; ``t`` (B,) the times."""

    per_sample: Tensor
    logs: dict[str, Tensor]
    t: Tensor
