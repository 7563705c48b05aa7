"""Metrics of 10,000 × 2,048 random features: ours against the plain way, two threads, one process a side,
taking turns.

    python -m benchmarks.metrics [--quick]

Precision, recall, density and coverage: blocks whose candidates come from a fast product and are decided in
float64, against three whole matrices of `torch.cdist` and their smallest entries. FID: streamed moments and
singular values of a product of factors, against numpy's covariance and scipy's `sqrtm`. Keys: ``pr_speedup``
and ``fid_speedup``, their time over ours; ``memory``, peak of our process over theirs after both jobs;
``fid_relative_error`` of ours against theirs and ``pr_error``, the largest difference of a share, both on a
smaller set.
"""

import os
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import THREADS, Side, arguments, finish, serve, table, take_turns
from studio.metrics.distances import Moments, frechet
from studio.metrics.manifold import Manifold, manifold
from studio.metrics.nearest import prepare
from studio.runtime.devices import DTYPE_NAMES

N, DIM = 10000, 2048


def features(n: int, dim: int = DIM) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(0)
    return torch.randn(n, dim, generator=draws), torch.randn(n, dim, generator=draws) * 1.02 + 0.02


def plain_manifold(samples: Tensor, reference: Tensor) -> Manifold:
    """k = 3 and 5, from whole matrices of float32 distances."""
    real = torch.cdist(reference, reference).topk(6, largest=False).values  # the first is the row itself
    fake = torch.cdist(samples, samples).topk(4, largest=False).values
    across = torch.cdist(samples, reference)
    ball = across < real[:, 5]
    return Manifold(
        float((across <= real[:, 3]).any(1).float().mean()),
        float((across <= fake[:, 3:]).any(0).float().mean()),
        int(ball.sum()) / (5 * len(samples)),
        float(ball.any(0).float().mean()),
    )


def plain_frechet(x: Tensor, y: Tensor) -> float:
    """The formula as it is written, with the root of a matrix that is not symmetric."""
    import scipy.linalg

    a, b = x.numpy(), y.numpy()
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    shift = a.mean(0, dtype=np.float64) - b.mean(0, dtype=np.float64)
    return float(shift @ shift + np.trace(s) + np.trace(t) - 2 * np.trace(scipy.linalg.sqrtm(s @ t)).real)


def our_frechet(x: Tensor, y: Tensor) -> float:
    return frechet(Moments.of(x), Moments.of(y))


WAYS: dict[str, dict[str, Callable[[Tensor, Tensor], object]]] = {
    "ours": {"pr": manifold, "fid": our_frechet},
    "plain": {"pr": plain_manifold, "fid": plain_frechet},
}


def side(name: str) -> None:
    x, y = features(N)

    def make(job: str) -> Callable[[], object]:
        fn = WAYS[name][job]
        fn(*features(600, 64))  # libraries start up outside the clock
        return lambda: fn(x, y)

    serve(make, warmup=0)


def main() -> None:
    if "--side" in sys.argv:
        return side(sys.argv[-1])
    args = arguments(__doc__ or "")
    # numpy's kernels are the ones it would choose itself
    for pinned in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(pinned, None)
    sides = {way: Side("benchmarks.metrics", way) for way in WAYS}
    x, y = features(1500, 256)
    low = DTYPE_NAMES[prepare(x[:1])[0].low.dtype]
    ours, theirs = manifold(x, y), plain_manifold(x, y)
    exact = plain_frechet(x, y)
    pr = take_turns(sides, "pr", rounds=2 if args.quick else 5)
    table(
        f"precision, recall, density, coverage: {N:,} × {DIM:,} fp32 a side, {THREADS} threads, first "
        f"product {low}",
        pr,
        unit="s",
        scale=1.0,
    )
    fid = take_turns(sides, "fid", rounds=1 if args.quick else 3)
    table(f"FID: {N:,} × {DIM:,} fp32 a side, float64, {THREADS} threads", fid, unit="s", scale=1.0)
    peaks = {way: run("peak") for way, run in sides.items()}
    table("peak memory", peaks, unit="MB", scale=1.0)
    for run in sides.values():
        run.close()
    finish(
        {
            "pr_speedup": pr["plain"] / pr["ours"],
            "fid_speedup": fid["plain"] / fid["ours"],
            "memory": peaks["ours"] / peaks["plain"],
            "fid_relative_error": abs(our_frechet(x, y) / exact - 1),
            "pr_error": max(abs(a - b) for a, b in zip(vars(ours).values(), vars(theirs).values())),
        }
    )


if __name__ == "__main__":
    main()
