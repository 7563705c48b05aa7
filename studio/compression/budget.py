"""What a plan may cost: an error, or a share of the operations."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Budget:
    """``kind``: error, the most that a sample may move as a share of how far two of one class are apart, or
    flops, the most that a run may cost as a share of what it costs without a plan."""

    kind: str
    most: float

    def __str__(self) -> str:
        return f"{self.kind}={self.most:g}"

    def share(self, part: float) -> "Budget":
        """Of an error a part of it."""
        return Budget(self.kind, self.most * part) if self.kind == "error" else self

    def met(self, found: Any, whole: Any) -> bool:
        """Whether a plan is within it; ``whole``: what a run costs without."""
        return self._spent(found, whole) <= self.most

    def better(self, found: Any, than: Any, whole: Any) -> bool:
        """Of two that are within it the cheaper one, of a cost the more exact one; else the nearer one."""
        if self.met(found, whole) != self.met(than, whole):
            return self.met(found, whole)
        if not self.met(found, whole):
            return self._spent(found, whole) < self._spent(than, whole)
        if self.kind == "error":
            return found.cost.flops < than.cost.flops
        return found.error < than.error

    def _spent(self, found: Any, whole: Any) -> float:
        return found.error if self.kind == "error" else found.cost.flops / whole.flops


def parse_budget(text: str) -> Budget:
    """``error=0.05`` or ``flops=0.5``. Raises ``ValueError``."""
    kind, _, value = str(text).partition("=")
    try:
        most = float(value)
    except ValueError:
        most = math.nan
    if kind.strip() not in ("error", "flops") or not 0 < most <= (1 if kind.strip() == "flops" else math.inf):
        raise ValueError(
            f"got budget {text!r}, expected error=NUMBER above 0, such as error=0.05, or flops=SHARE above "
            "0 and at most 1, such as flops=0.5"
        )
    return Budget(kind.strip(), most)
