"""The numerics of pairing a batch: distances, the optimal assignment, entropic plans and draws from them.

Rows are sources, columns are data, both with uniform marginals 1/B.

    assignment   min over permutations of Σ_j C[i(j), j]
    entropic     P = argmin ⟨P, C⟩ + reg·KL(P | ab^T) = u_i exp(−C_ij/reg) v_j        (Sinkhorn; Cuturi
                 1306.0895)

Everything runs outside autocast (`exact`). The assignment is exact. scipy's solver grows one augmenting path
a point, and those paths are short when the costs are first reduced by potentials that are nearly the dual
solution; a few rounds of Sinkhorn give such potentials. Any potentials leave the optimum where it is.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

DIRECT = 96  # points up to which potentials cost more than they save
EXACT_DIM = 128  # entries a point up to which distances are computed in float64
TOGETHER = 2**20  # numbers of ways at a time
Way = Callable[[Tensor, Tensor], Tensor]


@contextlib.contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """No gradients and no autocast, under which products of float32 would be rounded to bf16."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


def _float64(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def squared_distances(x: Tensor, y: Tensor, free: Tensor | None = None) -> Tensor:
    """(B, ...), (M, ...) to (B, M) of |x_i − y_j|², by one matrix product of centred points: float64 up to
    `EXACT_DIM` entries a point, float32 above, where what cancels is small against the distance. ``free`` (M,
    ...) bool: entries of y_j that count."""
    x, y = x.flatten(1), y.flatten(1)
    dtype = _float64(x.device) if x.shape[1] <= EXACT_DIM else torch.float32
    x, y = x.to(dtype), y.to(dtype)
    centre = y.mean(0)
    x, y = x - centre, y - centre
    if free is None:
        base = _squares(x)[:, None] + _squares(y)
    else:
        mask = free.flatten(1).to(dtype)
        y = y * mask
        base = x.square() @ mask.T + _squares(y)
    if x.dtype == torch.float32 and x.device.type == "cpu" and _onednn() and not torch.is_grad_enabled():
        return base.sub_(_product(x.contiguous(), y.contiguous()), alpha=2).clamp_min_(0)
    return torch.addmm(base, x, y.T, alpha=-2).clamp_min_(0)


def _squares(x: Tensor) -> Tensor:
    """(B, D) to (B,) of |x_i|², without a copy of x."""
    return torch.linalg.vector_norm(x, dim=1).square()


@lru_cache(maxsize=1)
def _onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _product(x: Tensor, y: Tensor) -> Tensor:
    """x yᵀ in float32 by oneDNN, which is twice as fast as MKL's product on some CPUs."""
    return torch.ops.mkldnn._linear_pointwise(x, y, None, "none", [], "")


def squared_ways(x: Tensor, y: Tensor, way: Way, free: Tensor | None = None) -> Tensor:
    """(B, ...), (M, ...) to (B, M) of the squared lengths of the ways ``way(x_i, y_j)`` of a space, in
    float64 where the device has it; a few rows at a time."""
    dtype, rows = _float64(x.device), max(1, TOGETHER // max(y.numel(), 1))
    y, parts = y.to(dtype), []
    for few in x.to(dtype).split(rows):
        apart = way(
            few[:, None].expand(-1, *y.shape).flatten(0, 1), y.expand(len(few), *y.shape).flatten(0, 1)
        ).view(len(few), *y.shape)
        parts.append((apart if free is None else torch.where(free, apart, 0)).flatten(2).square().sum(2))
    return torch.cat(parts)


def pair_squares(x: Tensor, y: Tensor, free: Tensor | None = None, *, way: Way = torch.sub) -> Tensor:
    """(B,) of |x_i − y_i|² over the entries that count, or of the squared lengths of the ways of a space;
    sums in float32 at least."""
    difference = way(x, y) if free is None else torch.where(free, way(x, y), 0)
    difference = difference.flatten(1)
    if difference.dtype in (torch.float16, torch.bfloat16):
        difference = difference.float()
    return torch.linalg.vector_norm(difference, dim=1).square()


def memory_error(points: int, limit: int, copies: int = 3) -> ValueError:
    """What to say of a batch whose matrix of distances does not fit."""
    size = copies * 8 * points**2 / 2**30
    return ValueError(
        f"got {points} points to pair, expected at most {limit}: their matrix of distances would take "
        f"{size:,.0f} GiB and the solution grows with "
        "the cube of their number; try smaller batches, or the coupling gibbs, which compares each point "
        "with its own partner only"
    )


def _potentials(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Approximate duals (B,), (B,) with C − f − g >= 0: Sinkhorn at falling temperatures, then one exact pass
    over rows and columns.

    In numpy, on one thread: thirty products with a small matrix gain nothing from more, and wait for them
    where other processes run.
    """
    c = cost.astype(np.float32)
    f, g = c.mean(1), c.mean(0) - c.mean()
    kernel = c - f[:, None]
    kernel -= g
    spread = max(float(kernel.std()), 1e-30)
    for level, rounds in ((0.2, 4), (0.03, 8), (0.006, 12)):
        reg = np.float32(level * spread)
        np.subtract(f[:, None], c, out=kernel)
        kernel += g
        kernel /= reg
        # below -60 lie subnormal products, a hundred times slower on some CPUs
        np.exp(np.maximum(kernel, -60, out=kernel), out=kernel)
        u, v = np.ones_like(f), np.ones_like(g)
        for _ in range(rounds):
            u = 1 / np.maximum(np.einsum("ij,j->i", kernel, v), 1e-30)
            v = 1 / np.maximum(np.einsum("i,ij->j", u, kernel), 1e-30)
        f, g = f + reg * np.log(u), g + reg * np.log(v)
    rest = cost - g
    exact_f = rest.min(1)
    return exact_f, np.subtract(cost, exact_f[:, None], out=rest).min(0)


def assignment(cost: Tensor) -> Tensor:
    """(B, B) costs to (B,) int64: the source of each data point in the permutation of least total cost.
    Exact.

    Raises ``ValueError`` for costs that are not finite.
    """
    from scipy.optimize import linear_sum_assignment

    values = cost.detach().cpu().double().numpy()
    if not np.isfinite(values).all():
        raise ValueError(
            "got distances that are not finite, expected numbers; look for NaN or infinity in the data"
        )
    if len(values) > DIRECT:
        f, g = _potentials(values)
        values = values - f[:, None]
        values -= g
    rows, columns = linear_sum_assignment(values)
    source = torch.empty(len(values), dtype=torch.int64)
    source[torch.from_numpy(columns)] = torch.from_numpy(rows)
    return source.to(cost.device)


def sort_assignment(x: Tensor, y: Tensor) -> Tensor:
    """(B,), (B,) numbers to the source of each data point: on a line the k-th smallest goes to the k-th
    smallest, for every convex cost."""
    source = torch.empty(len(y), dtype=torch.int64, device=y.device)
    source[y.argsort(stable=True)] = x.argsort(stable=True)
    return source


def entropic_plan(
    log_kernel: Tensor, iterations: int, *, tolerance: float = 0.0, strength: float = 1.0
) -> Tensor:
    """(B, M) log kernel −C/reg to log P, in logs. ``iterations`` rounds of rows, then columns (whose sums are
    then exact); stops when the row sums are within ``tolerance`` of 1/B, summed over rows. ``strength`` =
    λ/(λ + reg) < 1 replaces the constraint on the marginals by λ·KL (unbalanced transport; Chizat et al.
    1607.05816)."""
    a, b = (-math.log(n) for n in log_kernel.shape)
    log_kernel = log_kernel + (a + b)
    f = strength * (a - log_kernel.logsumexp(1))
    g = strength * (b - (log_kernel + f[:, None]).logsumexp(0))
    f0, g0, near = f, g, None  # type: Tensor, Tensor, Tensor | None
    for k in range(1, iterations):
        # products with exp(f + g − C/reg), whose entries are at most of order 1, in place of sums in logs
        if near is None or k % 25 == 0:
            f0, g0, near = f, g, (log_kernel + f[:, None] + g).exp_()
        rows = (near @ (g - g0).exp()).log() - f0
        new = strength * (a - rows)
        columns = ((new - f0).exp() @ near).log() - g0
        # a row has nothing left in this precision
        if not math.isfinite(float(rows.sum() + columns.sum())):
            new = strength * (a - (log_kernel + g).logsumexp(1))
            columns, near = (log_kernel + new[:, None]).logsumexp(0), None
        change = float((f - new).expm1().abs().mean()) if tolerance > 0 else math.inf
        f, g = new, strength * (b - columns)
        if change < tolerance:
            break
    return log_kernel + f[:, None] + g


def draw(log_plan: Tensor, order: Tensor, u: Tensor, columns: Tensor | None = None) -> Tensor:
    """(B, M) log plan to one source for each of ``columns`` (all by default), from its column, by the inverse
    of its distribution function at u.

    ``order`` (B,) is the order of the sources in that function: drawn with them, it makes a draw independent
    of their places in the batch.
    """
    log = log_plan[order] if columns is None else log_plan[order][:, columns]
    return order[pick((log - log.amax(0)).exp().T, u)]


def pick(weights: Tensor, u: Tensor) -> Tensor:
    """(N, B) weights >= 0, or (B,) for all, and (N,) numbers in (0, 1) to (N,) indices, drawn in proportion
    to the weights; never one of weight 0."""
    steps = weights.to(_float64(weights.device)).cumsum(-1).contiguous()
    heights = u.to(steps) * steps[..., -1]
    place = (
        torch.searchsorted(steps, heights)
        if weights.ndim == 1
        else torch.searchsorted(steps, heights[:, None])[:, 0]
    )
    return place.clamp_max(weights.shape[-1] - 1)
