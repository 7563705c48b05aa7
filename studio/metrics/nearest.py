"""Exact nearest neighbours and balls of two large sets, in blocks of rows: a fast product finds the
candidates, float64 decides.

With x̂, ŷ rounded to a low precision, e = |x̂ − x| / |x| at most, and their product added up in float32,
Cauchy–Schwarz and 2ab <= a² + b² give

    |2 x̂·ŷ − 2 x·y| <= h (|x|² + |y|²)   with   h = e_x + e_y + d 2⁻²⁴,   plus u max |2 x̂·ŷ| where the
                                                 product itself is rounded to unit roundoff u.

What this band leaves open is decided by Σ (x_k − y_k)² in float64, so every decision is that of the full
float64 matrix, ties included, and never more than ``block`` rows × M distances are held. Rows are centred
first, which makes norms and band small. Where too much stays open (a set collapsed to a point far from the
other) the block is multiplied again in float64. bf16 products are taken where the hardware has them.
"""

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from studio.metrics.distances import Array, checked, same_width
from studio.runtime.devices import fast_bf16

HELD = 1 << 22  # distances that are held at a time
PIECE = 1 << 19  # numbers that are held in float64 at a time
TINY = 1e-33  # below float32's smallest products, in units of the largest norm
CROWD = 64  # open pairs a row, beyond which a block is multiplied in float64


@dataclass(frozen=True)
class Pointset:
    """``rows`` (N, d) as they came; ``low`` (N, d) = ``scale`` (rows − ``centre``) in low precision;
    ``square`` (N,) its squared norms before rounding, float64; ``error`` the largest relative rounding error
    of a row."""

    rows: Tensor
    low: Tensor
    square: Tensor
    centre: Tensor
    scale: float
    error: float

    def __len__(self) -> int:
        return len(self.rows)

    @functools.cached_property
    def twins(self) -> Tensor:
        """(N,) for each row the index of the first row with the same bytes."""
        data = np.ascontiguousarray(self.rows.numpy())
        _, first, group = np.unique(
            data.view(np.dtype((np.void, data.itemsize * data.shape[1]))).ravel(),
            return_index=True,
            return_inverse=True,
        )
        return torch.from_numpy(first[group])


@dataclass(frozen=True)
class Balls:
    """Squared radii, one a row of x or (``rows=False``) of y; a pair is inside when its distance is below the
    radius, or equal unless ``strict``."""

    squared: Tensor
    rows: bool
    strict: bool


def prepare(*sets: Array, dtype: torch.dtype | None = None) -> tuple[Pointset, ...]:
    """Sets of the same d, centred on the first one's mean. Raises ``ValueError`` for NaN, infinity or widths
    that differ."""
    arrays = [checked(s) for s in sets]
    for a in arrays[1:]:
        same_width(arrays[0], a)
    kind = dtype or (torch.bfloat16 if fast_bf16(torch.device("cpu")) else torch.float32)
    width, scratch = arrays[0].shape[1], Scratch()
    centre, step = arrays[0].mean(0, dtype=torch.float64), max(1, PIECE // width)

    def centred(part: Tensor) -> Tensor:
        return scratch.take("centred", len(part), width, torch.float64).copy_(part).sub_(centre)

    def rounding(part: Tensor, rows: Tensor) -> Tensor:
        """Fills ``rows`` and returns how far off each of them is."""
        exact = centred(part).mul_(scale)
        return (
            exact.sub_(scratch.take("rounded", len(part), width, torch.float64).copy_(rows.copy_(exact)))
            .square_()
            .sum(1)
        )

    squares = [torch.cat([centred(p).square_().sum(1) for p in a.split(step)]) for a in arrays]
    largest = max(float(s.max()) for s in squares)
    scale = largest**-0.5 if largest else 1.0
    made = []
    for a, square in zip(arrays, squares):
        low, square = torch.empty(a.shape, dtype=kind), square * scale**2
        off = torch.cat([rounding(part, rows) for part, rows in zip(a.split(step), low.split(step))])
        error = float((off / square.clamp(min=1e-120)).max().sqrt()) + 2.0**-23
        made.append(Pointset(a, low, square, centre, scale, error))
    return tuple(made)


class Scratch:
    """Memory that is used again and again: fresh pages cost more than the arithmetic on them."""

    def __init__(self) -> None:
        self.held: dict[str, Tensor] = {}

    def take(self, name: str, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        """(rows, columns), holding whatever was there before."""
        have = self.held.get(name)
        if have is None or have.numel() < rows * columns or have.dtype != dtype:
            have = self.held[name] = torch.empty(rows * columns, dtype=dtype)
        return have[: rows * columns].view(rows, columns)


class Workers:
    """A thread a core, each with its own `Scratch`, for work in pieces: none waits for another at every
    operation."""

    def __init__(self) -> None:
        self.pool, self.own = ThreadPoolExecutor(torch.get_num_threads()), threading.local()

    def each(self, fn: Callable[[int, Scratch], None], starts: range) -> None:
        def run(start: int) -> None:
            if not hasattr(self.own, "scratch"):
                self.own.scratch = Scratch()
            fn(start, self.own.scratch)

        list(self.pool.map(run, starts))


def squared_distances(x: Pointset, y: Pointset, i: Tensor, j: Tensor, workers: Workers) -> Tensor:
    """(P,) float64 squared distances of the pairs (x_i, y_j); the same bits with the roles exchanged."""
    if len(i) > CROWD * (len(x) + len(y)) // 8:  # copies of one sample make many pairs with one distance
        pairs, place = torch.unique(x.twins[i] * len(y) + y.twins[j], return_inverse=True)
        if len(pairs) <= len(i) // 2:
            return squared_distances(x, y, pairs // len(y), pairs % len(y), workers)[place]
    left, right, p, q = x.rows.numpy(), y.rows.numpy(), i.numpy(), j.numpy()
    out, step = np.empty(len(p)), max(1, PIECE // left.shape[1])

    def piece(start: int, scratch: Scratch) -> None:
        part = slice(start, start + step)
        off = gather(left, p[part], "x", scratch)
        off -= gather(right, q[part], "y", scratch)
        np.einsum("ij,ij->i", off, off, out=out[part])

    workers.each(piece, range(0, len(p), step))
    return torch.from_numpy(out)


def gather(rows: np.ndarray, index: np.ndarray, name: str, scratch: Scratch) -> np.ndarray:
    """Rows in float64."""
    size, dtype = (len(index), rows.shape[1]), torch.from_numpy(rows[:0]).dtype
    found = np.take(
        rows, index, axis=0, out=scratch.take(f"rows of {name}", *size, dtype).numpy(), mode="clip"
    )
    exact = scratch.take(f"exact rows of {name}", *size, torch.float64).numpy()
    exact[...] = found
    return exact


def blocks(x: Pointset, y: Pointset, block: int | None) -> Iterator[slice]:
    """Rows of x, ``block`` at a time or as many as keep the distances to y within `HELD`."""
    step = block or max(64, HELD // len(y))
    return (slice(i, i + step) for i in range(0, len(x), step))


def bounds(
    x: Pointset, y: Pointset, rows: slice, scratch: Scratch
) -> Iterator[tuple[Tensor, Tensor, float, float]]:
    """``(lower, two, h, u)``: 2 x·y (block, M), its h and u, and lower bounds on |x − y|² − (1 − h) |x|²;
    first fast, then in float64."""
    left, width = x.low[rows] * 2, x.rows.shape[1]
    two = torch.mm(left, y.low.T, out=scratch.take("two", len(left), len(y), left.dtype))
    h, u = (
        1.02 * (x.error + y.error + (width + 32) * 2.0**-24),
        1.02 * 2.0**-8 if two.dtype == torch.bfloat16 else 0.0,
    )
    rounding = u * max(abs(float(v)) for v in two.aminmax()) if u else 0.0
    constant = ((1 - h) * y.square - TINY - rounding).float()
    yield torch.sub(constant, two, out=scratch.take("lower", len(left), len(y), torch.float32)), two, h, u
    left = (x.rows[rows].double() - x.centre).mul_(2 * x.scale)
    two = torch.cat([left @ (p.double() - y.centre).mul_(y.scale).T for p in y.rows.split(4096)], 1)
    h = (width + 32) * 2.0**-52
    yield (1 - h) * y.square - TINY - two, two, h, 0.0


def uppers(x: Pointset, y: Pointset, i: Tensor, j: Tensor, two: Tensor, h: float, u: float) -> Tensor:
    """Upper bounds on the scaled squared distances of pairs, from their entries of 2 x·y."""
    near = two.double()
    return (1 + h) * (x.square[i] + y.square[j]) - near + u * near.abs() + TINY


def nearest(x: Pointset, y: Pointset, k: int, *, block: int | None = None) -> tuple[Tensor, Tensor]:
    """Squared distances (N, k) float64, ascending, and indices (N, k) of the k nearest rows of y for each of
    x; a row is not its own neighbour when ``x is y``. Raises ``ValueError`` for fewer than k (or k + 1) rows
    in y.

    The largest upper bound of any k rows bounds the k-th distance; every row whose lower bound does not
    exceed it is a candidate.
    """
    need = k + (x is y)
    if k < 1 or len(y) < need:
        raise ValueError(
            f"got {len(y)} reference samples, expected at least {need} for k={k}; use more samples or a "
            "smaller k"
        )
    distances, indices = (
        torch.empty(len(x), k, dtype=torch.float64),
        torch.empty(len(x), k, dtype=torch.int64),
    )
    scratch, workers = Scratch(), Workers()
    for rows in blocks(x, y, block):
        place = torch.arange(len(x))[rows, None]
        for lower, two, h, u in bounds(x, y, rows, scratch):
            if x is y:
                lower.diagonal(rows.start).fill_(torch.inf)
            few = lower.topk(k, largest=False).indices
            bound = uppers(x, y, place, few, two.gather(1, few), h, u).amax(1, keepdim=True)
            i, j = (lower <= (bound - (1 - h) * x.square[rows, None]).to(lower)).nonzero(as_tuple=True)
            if len(i) <= CROWD * k * len(place):
                break
        d = squared_distances(x, y, rows.start + i, j, workers)
        order = d.argsort(stable=True)
        order = order[i[order].argsort(stable=True)]  # by row, then distance, then index
        count = i.bincount(minlength=len(place))
        pick = order[(count.cumsum(0) - count)[:, None] + torch.arange(k)]
        distances[rows], indices[rows] = d[pick], j[pick]
    return distances, indices


def inside(
    x: Pointset, y: Pointset, balls: Sequence[Balls], *, block: int | None = None
) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """For blocks of rows of x the pairs (i, j) that are inside, a list in the order of ``balls``."""
    groups = [g for g in ([b for b in balls if b.rows], [b for b in balls if not b.rows]) if g]
    scratch, workers = Scratch(), Workers()
    for rows in blocks(x, y, block):
        for lower, two, h, u in bounds(x, y, rows, scratch):
            found = [candidates(x, y, g, rows, lower, two, h, u, scratch) for g in groups]
            if sum(int(still.sum()) for *_, still in found) <= CROWD * len(lower):
                break
        hits = {}
        for group, (i, j, d, still) in zip(groups, found):
            d[still] = squared_distances(x, y, i[still], j[still], workers)
            for b in group:
                r = b.squared[i if b.rows else j]
                hit = d < r if b.strict else d <= r
                hits[id(b)] = i[hit], j[hit]
        yield [hits[id(b)] for b in balls]


def candidates(
    x: Pointset,
    y: Pointset,
    balls: Sequence[Balls],
    rows: slice,
    lower: Tensor,
    two: Tensor,
    h: float,
    u: float,
    scratch: Scratch,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pairs (i, j) that may be inside some of the balls, all of rows of x or all of y; upper bounds on their
    squared distances; which stay open."""
    by_row, limit = balls[0].rows, (h - 1) * x.square[rows, None]
    r = torch.stack([b.squared for b in balls]).amax(0) * x.scale**2
    if by_row:
        near = lower <= (limit + r[rows, None]).to(lower)
    else:
        near = torch.sub(
            lower, r.to(lower), out=scratch.take("less radius", lower.shape[0], lower.shape[1], lower.dtype)
        ) <= limit.to(lower)
    i, j = near.nonzero(as_tuple=True)
    high = uppers(x, y, rows.start + i, j, two[i, j], h, u) / x.scale**2
    i = rows.start + i
    return i, j, high, torch.stack([high >= b.squared[i if by_row else j] for b in balls]).any(0)
