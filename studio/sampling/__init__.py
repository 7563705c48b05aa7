"""From a request to samples: the line of a sampler, the stream of its steps, what comes back and the recipe
of each."""

from studio.sampling.engine import (
    Progress,
    Request,
    check_guided,
    collect,
    fixed_rows,
    fixed_size,
    micro_batches,
    run,
    start_index,
    stream,
)
from studio.sampling.samples import Sample, Samples

__all__ = [
    "Progress",
    "Request",
    "Sample",
    "Samples",
    "check_guided",
    "collect",
    "fixed_rows",
    "fixed_size",
    "micro_batches",
    "run",
    "start_index",
    "stream",
]
