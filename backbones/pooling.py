"""Many rows to one: (B, K, D) of which some are there, to (B, D). What is not there counts as if it had never
been given, and the order of the rows does not count.
"""

import torch
from torch import Tensor, nn

POOLINGS = ("mean", "attention")


class Pool(nn.Module):
    """``mean`` of the rows that are there, or ``attention``: a mean with weights that each head learns to
    give (Lee et al. 1810.00825, pooling by attention with one learned query). Rows of a sample that has none
    are 0. Raises ``ValueError`` for another pooling, and for heads that do not divide ``dim``."""

    def __init__(self, dim: int, *, pooling: str = "mean", heads: int = 4):
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"got pooling={pooling!r}, expected one of {', '.join(POOLINGS)}")
        self.heads = heads if pooling == "attention" else 0
        if self.heads and (heads < 1 or dim % heads):
            raise ValueError(f"got heads={heads} for a width of {dim}, expected a divisor of it")
        self.score = nn.Linear(dim, heads) if self.heads else None
        self.value = nn.Linear(dim, dim) if self.heads else None

    def forward(self, rows: Tensor, there: Tensor) -> Tensor:
        """``there`` (B, K) bool."""
        shown, full = there[..., None], rows.float()  # a sum of many rows is no work for half precision
        if self.score is None or self.value is None:
            return summed(full, there) / shown.sum(1).clamp(min=1)
        scores = self.score(rows).float().masked_fill(~shown, -torch.inf)  # (B, K, heads)
        scores = scores.masked_fill(~there.any(1)[:, None, None], 0.0)
        values = self.value(rows).float().unflatten(-1, (self.heads, -1))  # (B, K, heads, D / heads)
        return summed((scores.softmax(1)[..., None] * values).flatten(2), there)


def summed(rows: Tensor, there: Tensor) -> Tensor:
    """(B, D): the sum of the rows that are there."""
    return torch.where(there[..., None], rows, 0.0).sum(1)
