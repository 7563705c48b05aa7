"""Whole networks at equal parameters against the number of tokens: DiS and Diffusion-RWKV over a DiT on SDPA,
width 384, batch 1, two threads.

    python -m benchmarks.scaling [--quick] [--plot PNG]

The networks are those of the page `linear-cost`, whose parameters agree within 5 %. ``rwkv_vs_dit_N`` and
``dis_vs_dit_N`` are the DiT's forward time over theirs at N tokens (fp32; ``_bf16`` under autocast, weights
cast once); ``exponent_rwkv`` and ``exponent_dis`` are the slopes of log time over log tokens between 1,024
and 16,384 (4,096 with ``--quick``, which times forward only). Training steps (fused AdamW, fp32) are printed
beside.
"""

import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from backbones import Cond
from backbones.inference import lowered
from benchmarks.common import finish, interleave, parser_of, table
from studio.reproduce.linear_cost import CHANNELS, NETWORKS, build, slope
from studio.runtime.devices import keep_freed_memory


def awake(name: str, tokens: int) -> nn.Module:
    """A network of the page, in eval mode."""
    return build(name, tokens).eval()


def forward_times(tokens: int, rounds: int, *, low: bool) -> dict[str, float]:
    x, t, cond = (
        torch.randn(1, CHANNELS, 2 * math.isqrt(tokens), 2 * math.isqrt(tokens)),
        torch.tensor([500.0]),
        Cond(label=torch.tensor([3])),
    )
    sides: dict[str, Any] = {}
    for name in NETWORKS:
        net = awake(name, tokens).requires_grad_(False)
        net = lowered(net, torch.bfloat16) if low else net

        def run(net: nn.Module = net) -> None:
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
                net(x, t, cond)

        sides[name] = run
    return interleave(sides, rounds=rounds, warmup=1)


def step_times(tokens: int, rounds: int) -> dict[str, float]:
    x, t, cond = (
        torch.randn(1, CHANNELS, 2 * math.isqrt(tokens), 2 * math.isqrt(tokens)),
        torch.tensor([500.0]),
        Cond(label=torch.tensor([3])),
    )
    sides: dict[str, Any] = {}
    for name in NETWORKS:
        net = awake(name, tokens).train()
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-6, fused=True)

        def run(net: nn.Module = net, optimizer: torch.optim.Optimizer = optimizer) -> None:
            net(x, t, cond).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

        sides[name] = run
    return interleave(sides, rounds=rounds, warmup=1)


def main() -> None:
    parser = parser_of(__doc__ or "")
    parser.add_argument("--plot", type=Path, help="a PNG of time against tokens")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as the studio does; for all sides
    target = sum(p.numel() for k, p in build("DiT", 64).named_parameters() if k != "pos_embed")
    for name in NETWORKS:
        count = sum(p.numel() for k, p in build(name, 64).named_parameters() if k != "pos_embed")
        print(f"{name}: {count / 1e6:.2f} M parameters ({count / target:.3f} of the DiT's)")
    tokens = (1024, 4096) if options.quick else (64, 256, 1024, 4096, 16384)
    plain: dict[int, dict[str, float]] = {}
    ratios: dict[str, float] = {}
    for n in tokens:
        rounds = 3 if options.quick or n > 4096 else 7
        plain[n] = forward_times(n, rounds, low=False)
        table(f"{n} tokens, forward, fp32", plain[n])
        low = forward_times(n, rounds, low=True)
        table(f"{n} tokens, forward, bf16", low)
        if n in (1024, 4096):
            for name in ("RWKV", "DiS"):
                ratios[f"{name.lower()}_vs_dit_{n}"] = plain[n]["DiT"] / plain[n][name]
                ratios[f"{name.lower()}_vs_dit_{n}_bf16"] = low["DiT"] / low[name]
        if not options.quick and n <= 4096:
            table(f"{n} tokens, training step, fp32", step_times(n, 3))
    for name in ("RWKV", "DiS"):
        ratios[f"exponent_{name.lower()}"] = slope({n: v[name] for n, v in plain.items()}, 1024)
    if options.plot:
        plot(options.plot, plain)
    finish(ratios)


def plot(path: Path, times: dict[int, dict[str, float]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 4.2), dpi=110, layout="constrained")
    ax = figure.add_subplot()
    for name in NETWORKS:
        ax.plot(list(times), [1e3 * v[name] for v in times.values()], marker="o", label=name)
    ax.set(xlabel="tokens", ylabel="forward, ms", xscale="log", yscale="log")
    ax.legend()
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
