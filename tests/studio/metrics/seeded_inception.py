"""FID's Inception with the weights that tests/golden/inception.json describes: every tensor from a generator
seeded by its name."""

import math
import zlib
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import torch
from torch import Tensor

from studio.metrics.inception import Inception


def draw(name: str, like: Tensor) -> Tensor:
    r = torch.randn(like.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if name.endswith("conv.weight"):
        return r * math.sqrt(2 / like[0].numel())
    if name.endswith("running_var"):
        return 1 + 0.1 * r.abs()
    if name.endswith("bn.weight"):
        return 1 + 0.1 * r
    return r * {"fc.weight": 0.02, "fc.bias": 0.01}.get(name, 0.1)


@cache
def state() -> Mapping[str, Tensor]:
    """Keys as in the published file, without counters of batches."""
    with torch.device("meta"):
        own = Inception().state_dict()
    return MappingProxyType({k: draw(k, v) for k, v in own.items() if not k.endswith("num_batches_tracked")})
