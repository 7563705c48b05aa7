"""How many tokens fill this machine's processor: below them one call of twice the batch takes less time
than two. Measured once for a dtype, on a small transformer, and kept."""

import sys
import time
from functools import lru_cache
from typing import Any

import torch

from backbones import host
from backbones.inference import lowered
from backbones.types import Cond

LEAST, MOST = 128, 2048  # tokens in a batch: always doubled up to the one, never above the other
SAMPLE = 64  # tokens of a sample of the trial
PAYS = 0.95  # of the time of two calls
ROUNDS, LIMIT = 5, 2.0  # in turns, and seconds for all


def doubles(tokens: int, dtype: torch.dtype | None, few: int | None = None) -> bool:
    """Whether one call of twice a batch of so many tokens is faster than two, on a CPU. ``few``: what a
    network says itself."""
    if few is not None:
        return tokens <= few
    if not LEAST < tokens <= MOST or torch.compiler.is_compiling():
        return tokens <= LEAST
    return tokens <= filled(dtype or torch.float32, torch.get_num_threads())


@lru_cache(maxsize=16)
def filled(dtype: torch.dtype, threads: int) -> int:
    """The most tokens of a batch that gains by being doubled, as kept, or measured now."""
    found = host.remembered(f"doubling-{str(dtype).removeprefix('torch.')}", lambda: measure(dtype))
    return int(found["tokens"])


def measure(dtype: torch.dtype) -> dict[str, Any]:
    """``tokens``, and ``ratios``: the time of one doubled call over that of two, by tokens."""
    from backbones.dit import DiT

    begun = time.perf_counter()
    side = int(SAMPLE**0.5)
    tokens, ratios = LEAST, {}
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
        net = DiT(
            input_size=side, patch_size=1, in_channels=4, hidden_size=384, depth=2, num_heads=6, num_classes=0
        )
        net = net.eval()
        low = dtype in (torch.bfloat16, torch.float16)
        fast = lowered(net, dtype) if low else net

        def call(batch: int) -> float:
            x = torch.zeros(batch, 4, side, side)
            start = time.perf_counter()
            with torch.autocast("cpu", dtype=dtype if low else torch.bfloat16, enabled=low):
                fast(x, torch.zeros(batch), Cond())
            return time.perf_counter() - start

        size = 2 * LEAST
        while size <= MOST:
            one, both = [], []
            for _ in range(ROUNDS):
                one.append(call(size // SAMPLE))
                both.append(call(2 * size // SAMPLE))
                if time.perf_counter() - begun > LIMIT and len(one) > 1:
                    break
            ratios[str(size)] = round(min(both) / (2 * min(one)), 3)
            if ratios[str(size)] > PAYS:
                break
            tokens, size = size, 2 * size
            if time.perf_counter() - begun > LIMIT:
                break
    print(
        f"measured batches on this machine in {time.perf_counter() - begun:.1f} s (once, then it is kept)",
        file=sys.stderr,
    )
    return {"tokens": tokens, "ratios": ratios}
