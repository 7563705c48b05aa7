"""`attend` with ``auto`` beside each backend by itself, and what its forms gain over SDPA.

    python -m benchmarks.attention [--quick]

``auto_vs_best_mean``, ``auto_vs_best_worst``: the time of ``auto`` over that of the fastest backend, on a
grid of batches, lengths, passes and specs; cells under .3 ms are left out. ``dense_vs_sdpa_N``: SDPA's time
in its faster dtype over that of ``auto`` in the one that products have here, forward, one sample of N tokens.
``window_vs_dense_4096``: full attention over a window of 128 keys to each side. ``train_vs_sdpa_256``: SDPA
in its faster dtype over ``auto``, forward and backward, four samples. 6 heads of 64.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from backbones import RunContext, attend
from backbones.attention import BACKENDS, supports
from backbones.attention.specs import Full, Spec, Window
from backbones.host import instructions, model_name
from benchmarks.common import arguments, finish, table
from studio.runtime.devices import pick_dtype

HEADS, WIDTH = 6, 64
CELLS = [(8, 64), (32, 49), (2, 256), (8, 256), (1, 512), (4, 512), (1, 1024), (2, 1024)]
SHORT, ROUNDS = 3e-4, 7
HERE = [name for name, backend in BACKENDS.items() if not backend.devices]


def numbers(batch: int, n: int, dtype: torch.dtype, grad: bool = False) -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(batch, HEADS, n, WIDTH, generator=g).to(dtype).requires_grad_(grad) for _ in range(3)]


def job(name: str, qkv: list[Tensor], spec: Spec) -> Callable[[], Any]:
    ctx = RunContext(attention=name)
    if not qkv[0].requires_grad:
        return torch.no_grad()(lambda: attend(*qkv, spec, ctx))
    return lambda: torch.autograd.grad(attend(*qkv, spec, ctx).sum(), qkv)


def raced(jobs: dict[str, Callable[[], Any]], limit: float) -> dict[str, float]:
    """Interleaved medians of at least `ROUNDS`; a form ten times slower than the fastest has two."""
    took: dict[str, list[float]] = {name: [] for name in jobs}
    begun, rounds = time.perf_counter(), 0
    for run in jobs.values():
        run()
    while rounds < ROUNDS or time.perf_counter() - begun < limit:
        best = min((min(t) for t in took.values() if t), default=0.0)
        for name, run in jobs.items():
            if rounds > 1 and min(took[name]) > 10 * best:
                continue
            start = time.perf_counter()
            run()
            took[name].append(time.perf_counter() - start)
        rounds += 1
        if rounds >= 60:
            break
    return {name: statistics.median(t) for name, t in took.items()}


def grid(dtype: torch.dtype, quick: bool) -> list[float]:
    """``auto`` over the best, of every cell."""
    found = []
    for batch, n in CELLS:
        for grad in (False, True):
            for spec in (Full(), Window(n // 16, n // 16)):
                qkv = numbers(batch, n, dtype, grad)
                jobs = {b: job(b, qkv, spec) for b in HERE if supports(b, qkv[0], spec) is None}
                times = raced({"auto": job("auto", qkv, spec), **jobs}, 0.15 if quick else 1.0)
                best = min(t for name, t in times.items() if name != "auto")
                if best < SHORT:
                    continue
                found.append(times["auto"] / best)
                title = f"{batch} × {n}, {'training' if grad else 'forward'}, {type(spec).__name__}"
                table(f"{title}: auto over best {found[-1]:.2f}", times)
    return found


def main() -> None:
    options = arguments(__doc__ or "")
    low = pick_dtype("auto", torch.device("cpu")) or torch.float32
    name = str(low).removeprefix("torch.")
    print(f"{model_name()} ({instructions()}), {name}, {options.threads} threads")
    found = grid(low, options.quick)
    ratios = {"auto_vs_best_mean": statistics.mean(found), "auto_vs_best_worst": max(found)}
    kinds = [torch.float32, torch.bfloat16]
    for n in (1024, 4096):
        jobs = {f"sdpa {d}": job("sdpa", numbers(1, n, d), Full()) for d in kinds}
        times = raced({**jobs, "auto": job("auto", numbers(1, n, low), Full())}, 1.0)
        table(f"1 × {n}, forward", times)
        ratios[f"dense_vs_sdpa_{n}"] = min(v for k, v in times.items() if k != "auto") / times["auto"]
    qkv = numbers(1, 4096, low)
    times = raced({"full": job("auto", qkv, Full()), "window": job("auto", qkv, Window(128, 128))}, 1.0)
    table("1 × 4096, a window of 256 keys", times)
    ratios["window_vs_dense_4096"] = times["full"] / times["window"]
    jobs = {f"sdpa {d}": job("sdpa", numbers(4, 256, d, True), Full()) for d in kinds}
    times = raced({**jobs, "auto": job("auto", numbers(4, 256, low, True), Full())}, 1.0)
    table("4 × 256, training", times)
    ratios["train_vs_sdpa_256"] = min(v for k, v in times.items() if k != "auto") / times["auto"]
    finish(ratios)


if __name__ == "__main__":
    main()
