"""Who sees whom: the masks that attention knows, which part of the keys a stretch of queries reaches, and the
additive mask of any rectangle of the scores."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

KEPT = 2**18  # numbers of a mask that is not made anew for every call


@dataclass(frozen=True)
class Full:
    """Every query sees every key."""


@dataclass(frozen=True)
class Window:
    """Query i sees keys i − left … i + right of the flattened order."""

    left: int
    right: int


@dataclass(frozen=True)
class GridWindow:
    """Tokens lie on a ``grid`` of one, two or three axes, the last one fastest; a query sees the keys that
    are at most ``radius`` away along each axis."""

    grid: tuple[int, ...]
    radius: tuple[int, ...]


@dataclass(frozen=True)
class BlockDiagonal:
    """The sequence is a row of independent pieces of these lengths."""

    lengths: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Bias:
    """An additive mask, broadcastable to (B, H, N, M); −inf forbids. A query with no key left gets zeros;
    ``blind=False`` says that there is none, which saves looking for it."""

    bias: Tensor
    blind: bool = True


def among(valid: Tensor) -> Bias:
    """Every query sees the keys that are ``valid`` (B, N); at least one of each sample is."""
    bias = torch.zeros(valid.shape, device=valid.device).masked_fill(~valid, -math.inf)
    return Bias(bias[:, None, None], blind=False)


Local = Window | GridWindow | BlockDiagonal
Spec = Full | Local | Bias


def check(spec: Spec, n: int, m: int) -> None:
    """Raises ``ValueError`` for a spec that does not fit n queries and m keys."""
    if isinstance(spec, BlockDiagonal) and (sum(spec.lengths) != n or n != m):
        raise ValueError(f"block lengths sum to {sum(spec.lengths)}, expected {n} tokens")
    if isinstance(spec, GridWindow):
        if len(spec.grid) != len(spec.radius) or min((*spec.grid, 1)) < 1 or min((*spec.radius, 0)) < 0:
            raise ValueError(
                f"got a window of radius {spec.radius} on the grid {spec.grid}, expected one radius of at "
                "least 0 for each axis"
            )
        if math.prod(spec.grid) != n or n != m:
            raise ValueError(
                f"got the grid {spec.grid} for {n} queries and {m} keys, expected as many tokens"
            )


def reach(spec: Spec, a: int, b: int, m: int) -> tuple[int, int]:
    """The stretch of the m keys that holds all that queries a … b − 1 see; it may be empty."""
    if isinstance(spec, Window):
        low, high = a - spec.left, b + spec.right
    elif isinstance(spec, GridWindow):
        row = m // spec.grid[0]  # tokens of one step along the first axis
        low, high = (a // row - spec.radius[0]) * row, ((b - 1) // row + spec.radius[0] + 1) * row
    elif isinstance(spec, BlockDiagonal):
        ends = torch.tensor(spec.lengths).cumsum(0)
        first, last = torch.bucketize(torch.tensor([a, b - 1]), ends, right=True).tolist()
        low, high = int(ends[first]) - spec.lengths[first], int(ends[last])
    else:
        low, high = 0, m
    low = min(max(low, 0), m)
    return low, max(low, min(high, m))


def mask_of(spec: Spec, n: int, m: int, like: Tensor) -> Tensor | None:
    """The additive mask of a spec, (N, M) or the bias itself; None where all is seen. Raises what `check`
    raises."""
    check(spec, n, m)
    return part_of(spec, (0, n), (0, m), like)


def part_of(spec: Spec, rows: tuple[int, int], columns: tuple[int, int], like: Tensor) -> Tensor | None:
    """The same for queries and keys of a rectangle."""
    if isinstance(spec, Full):
        return None
    if isinstance(spec, Bias):
        bias = spec.bias.to(like.dtype)
        bias = bias[..., slice(*rows), :] if bias.ndim > 1 and bias.shape[-2] > 1 else bias
        return bias[..., slice(*columns)] if bias.shape[-1] > 1 else bias
    if not isinstance(spec, BlockDiagonal):  # the same wherever they lie alike
        step = math.prod(spec.grid[1:]) if isinstance(spec, GridWindow) else 1
        shift = min(rows[0], columns[0]) // step * step
        rows, columns = (rows[0] - shift, rows[1] - shift), (columns[0] - shift, columns[1] - shift)
    small = (rows[1] - rows[0]) * (columns[1] - columns[0]) <= KEPT
    return (_kept if small else _local)(spec, rows, columns, like.dtype, like.device)


def _local(
    spec: Local, rows: tuple[int, int], columns: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> Tensor | None:
    with torch.inference_mode(False):  # a mask that was made in a run serves a training step
        i, j = torch.arange(*rows, device=device)[:, None], torch.arange(*columns, device=device)[None]
        if isinstance(spec, Window):
            seen = (j - i >= -spec.left) & (j - i <= spec.right)
        elif isinstance(spec, GridWindow):
            seen, step = torch.ones(1, 1, dtype=torch.bool, device=device), 1
            for size, radius in zip(spec.grid[::-1], spec.radius[::-1]):
                seen = seen & ((i // step % size - j // step % size).abs() <= radius)
                step *= size
        else:
            ends = torch.tensor(spec.lengths, device=device).cumsum(0)
            seen = torch.bucketize(i, ends, right=True) == torch.bucketize(j, ends, right=True)
        shape = (rows[1] - rows[0], columns[1] - columns[0])
        if bool(seen.all()):
            return None
        return torch.zeros(shape, dtype=dtype, device=device).masked_fill(~seen, -math.inf)


_kept = lru_cache(maxsize=64)(_local)
