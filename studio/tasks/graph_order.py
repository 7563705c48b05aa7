"""The atoms of a graph in another order: the same molecule."""

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.types import NoiseSource


def reordered(data: Tensor, noise: NoiseSource) -> Tensor:
    """(B, n, n + 1) with the atoms of each graph in a new order (stream ``order``): that of a random walk
    that goes deep first, as SMILES are written; see `walk`."""
    order = walk(data, noise.uniform((data.shape[1],), stream="order"))
    rows = data.gather(1, order[..., None].expand_as(data))
    columns = F.pad(order + 1, (1, 0))  # the atom's type stays in front
    return rows.gather(2, columns[:, None].expand_as(data))


def walk(data: Tensor, u: Tensor) -> Tensor:
    """(B, n) int64, the atoms of graphs (B, n, n + 1) in the order of a depth-first walk: next comes a
    neighbour of the atom visited last that has any left, the one with the greatest ``u`` (B, n) in (0, 1); a
    new piece begins anywhere; padding stays behind."""
    batch, n = u.shape
    linked = data[..., 1:] > 0
    each = torch.arange(batch, device=u.device)
    rank = torch.where(data[..., 0] > 0, u, u - 1)  # + k + 1 of a neighbour visited in step k
    order = []
    for k in range(n):
        chosen = rank.argmax(1)
        order.append(chosen)
        rank = torch.where(linked[each, chosen] & (rank > -1), u + k + 1, rank)
        rank[each, chosen] = -2
    return torch.stack(order, 1)
