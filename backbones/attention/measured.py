"""Which form of full attention is the fastest on this machine: measured once for a dtype and a head size, and
kept in the user's cache folder.

Processors differ by more than any threshold can say: the formula written out is the fastest form in bf16 on
some and many times slower than SDPA on others. Small calls go by fixed rules, so that no trial is
made for them.
"""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from backbones import host
from backbones.attention import products
from backbones.attention.specs import Full

TOKENS = {64: 8, 256: 4, 1024: 1, 4096: 1}  # each with a batch; the longest with one head
HEADS, ROUNDS = 6, 5
LIMIT = 2.5  # seconds for all of it; what is not reached goes by the rules
WORTH = 2**21  # scores of a call from which a trial is worth its time
FORMS: dict[str, Callable[..., Tensor]] = {
    "sdpa": products.sdpa,
    "explicit": products.explicit,
    "blocks": products.blocks,
    "recomputed": products.recomputed,
}
LONGEST = {"explicit": 1024}  # tokens, beyond which its scores take too much memory
Table = dict[str, dict[str, str]]
_tables: dict[tuple[Any, ...], Table] = {}
_lock = threading.Lock()


def fastest(q: Tensor, *, biased: bool = False) -> str:
    """For queries (B, H, N, D) on the CPU. ``biased``: among the forms that take any mask."""
    doing = "training" if torch.is_grad_enabled() and q.requires_grad else "forward"
    batch, heads, n, d = q.shape
    if batch * heads * n * n < WORTH or torch.compiler.is_compiling() or q.dtype == torch.float64:
        return rule(q.dtype, n, doing)
    if torch._C._are_functorch_transforms_active():
        return rule(q.dtype, n, doing)
    found = table(q.dtype, d)[doing]
    best = next((found[str(k)] for k in sorted(TOKENS, reverse=True) if k <= near(n) and str(k) in found), "")
    fits = n < 2 * LONGEST.get(best, n) and (not biased or best in ("sdpa", "explicit"))
    return best if best and fits else rule(q.dtype, n, doing) if n < 2048 else "sdpa"


def rule(dtype: torch.dtype, n: int, doing: str) -> str:
    """Without a measurement: in bf16 the explicit form up to 1,024 tokens in training and 512 without
    gradient; otherwise SDPA."""
    few = n <= (1024 if doing == "training" else 512)
    return "explicit" if dtype == torch.bfloat16 and few else "sdpa"


def near(n: int) -> int:
    """The length of the trial that n tokens go by."""
    return next((k for k in TOKENS if n < 2 * k), max(TOKENS))


def table(dtype: torch.dtype, d: int) -> Table:
    """The fastest form by what is done (``forward``, ``training``) and by length, as kept, or measured
    now."""
    key = (dtype, d, torch.get_num_threads())
    with _lock:
        if key not in _tables:
            name = f"attention-{str(dtype).removeprefix('torch.')}-{d}"
            _tables[key] = host.remembered(name, lambda: measure(dtype, d))["best"]
        return _tables[key]


def measure(dtype: torch.dtype, d: int) -> dict[str, Any]:
    """``best`` (a `Table`) and ``times`` in milliseconds by what is done, length and form."""
    begun = time.perf_counter()
    best: Table = {"forward": {}, "training": {}}
    times: dict[str, dict[str, dict[str, float]]] = {"forward": {}, "training": {}}
    with torch.inference_mode(False), torch.autocast("cpu", enabled=False):
        for n, batch in TOKENS.items():
            g = torch.Generator().manual_seed(0)
            heads = HEADS if n < 4096 else 1
            q, k, v = (torch.randn(batch, heads, n, d, generator=g).to(dtype) for _ in range(3))
            for doing in best:
                forms = [f for f in FORMS if n <= LONGEST.get(f, n)]
                if doing == "forward":
                    forms.remove("recomputed")
                took = _raced({f: _job(FORMS[f], q, k, v, doing) for f in forms}, begun + LIMIT)
                if took:
                    times[doing][str(n)] = {f: round(1000 * t, 4) for f, t in took.items()}
                    best[doing][str(n)] = min(took, key=lambda f: took[f])
    print(
        f"measured attention on this machine in {time.perf_counter() - begun:.1f} s (once, then it is kept)",
        file=sys.stderr,
    )
    return {"best": best, "times": times}


def _job(form: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, doing: str) -> Callable[[], Any]:
    if doing == "forward":
        return torch.no_grad()(lambda: form(q, k, v, Full()))
    inputs = [t.detach().requires_grad_() for t in (q, k, v)]

    def run() -> None:
        with torch.enable_grad():
            torch.autograd.grad(form(*inputs, Full()).sum(), inputs)

    return run


def _raced(jobs: dict[str, Callable[[], Any]], until: float) -> dict[str, float]:
    """The least seconds of each, in turns; nothing where time ran out before each had two."""
    took: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            if time.perf_counter() > until:
                break
            start = time.perf_counter()
            job()
            took[name].append(time.perf_counter() - start)
    return {n: min(t) for n, t in took.items()} if all(len(t) > 1 for t in took.values()) else {}
