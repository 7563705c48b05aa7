"""How many samples run at once, where what a plan keeps of them is to stay within a limit."""

import math
from typing import Any

from backbones.registry import plain
from studio.checkpoints.plans import Saved
from studio.runtime import caches


def bytes_of(limit: Any) -> int | None:
    """``2GB``, ``500MB`` or a number, as bytes; None for none. Raises ``ValueError``."""
    if limit is None:
        return None
    try:
        size = caches.size_of(str(plain(limit)))
    except ValueError:
        size = 0
    if size < 1:
        raise ValueError(
            f"got cache limit {limit!r}, expected a size above 0, such as 500MB, 2GB or a number of bytes"
        )
    return size


def batch_within(limit: int, saved: Saved, batch: int, fixed: int | None) -> int:
    """Of a batch as many as a plan's memory allows; where micro-batches have a ``fixed`` size that is not
    asked for, all of them. Raises ``ValueError`` where that, or a single sample, is too much."""
    each = saved.number("memory")
    if each is None:
        raise ValueError(
            f"the plan {saved.name} does not say what it keeps; make it again with studio compress, or leave "
            "the cache limit out"
        )
    least = each * (fixed or 1)
    if least > limit:
        together = f", {size(least)} for a micro-batch of {fixed}, whose size is fixed here" if fixed else ""
        ways = "another plan, or none"
        ways = f"leave deterministic out and sample in fp32, or choose {ways}" if fixed else f"choose {ways}"
        raise ValueError(
            f"the plan {saved.name} keeps {size(each)} a sample{together}: more than the cache limit of "
            f"{size(limit)}; allow {size(least)}, {ways}"
        )
    return batch if fixed or not each else min(batch, int(limit // each))


def size(count: float) -> str:
    """Bytes as `bytes_of` reads them, never fewer."""
    unit = next(u for u in ("GB", "MB", "KB", "B") if count >= caches.UNITS[u] or u == "B")
    share = count / caches.UNITS[unit]
    return f"{math.ceil(share) if share >= 100 else math.ceil(share * 10) / 10:g}{unit}"
