"""What a token costs: forward and training step of DiT, DiS and Diffusion-RWKV at equal parameters, 64 to
16,384 tokens, time and memory."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import backbones
from backbones import Cond
from studio.reproduce import page as pages
from studio.reproduce.jobs import Job, Outcome, Page, Result

WIDTH, CHANNELS = 384, 4
NETWORKS: dict[str, dict[str, Any]] = {
    "DiT": {"name": "dit", "depth": 12, "num_heads": 6},
    "DiS": {"name": "dis", "depth": 24},
    "RWKV": {"name": "rwkv", "depth": 11},
}
TOKENS = (64, 256, 1024, 4096, 16384)


def build(network: str, tokens: int, width: int = WIDTH) -> nn.Module:
    """A network whose outputs are not zero."""
    options = dict(NETWORKS[network])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = backbones.build(
            options.pop("name"),
            input_size=2 * math.isqrt(tokens),
            in_channels=CHANNELS,
            hidden_size=width,
            num_classes=10,
            **options,
        )
        for name, p in net.named_parameters():
            if p.ndim > 1 and name != "pos_embed" and not bool(p.any()):
                nn.init.normal_(p, std=0.02)
    return net


def inputs(tokens: int) -> tuple[torch.Tensor, torch.Tensor, Cond]:
    side = 2 * math.isqrt(tokens)
    x = torch.randn(1, CHANNELS, side, side, generator=torch.Generator().manual_seed(0))
    return x, torch.tensor([500.0]), Cond(label=torch.tensor([3]))


def run(settings: Mapping[str, Any], work: Path) -> Outcome:
    """Medians of a forward pass (fp32 and bf16) and, up to a length, of a training step, batch 1."""
    tokens, rounds = settings["tokens"], settings["rounds"]
    net, args = build(settings["network"], tokens, settings["width"]).eval(), inputs(tokens)

    def forward(low: bool) -> None:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            net(*args)

    values: dict[str, Any] = {
        "parameters": sum(p.numel() for n, p in net.named_parameters() if n != "pos_embed")
    }
    values |= {
        "forward": median(lambda: forward(False), rounds),
        "forward_bf16": median(lambda: forward(True), rounds),
    }
    if tokens <= settings["train_up_to"]:
        values |= trained(net, args, max(1, rounds - 2))
    return {**values, "threads": torch.get_num_threads(), "dtype": "fp32"}, {}


def run_step(settings: Mapping[str, Any], work: Path) -> Outcome:
    """A training step alone, where it takes minutes."""
    net = build(settings["network"], settings["tokens"], settings["width"])
    return {
        **trained(net, inputs(settings["tokens"]), 1),
        "threads": torch.get_num_threads(),
        "dtype": "fp32",
    }, {}


def trained(net: nn.Module, args: tuple[torch.Tensor, torch.Tensor, Cond], rounds: int) -> dict[str, float]:
    """Median of a training step (fp32, fused AdamW) and what its forward pass keeps."""
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-6, fused=True)

    def step() -> None:
        net(*args).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return {"train": median(step, rounds), "memory": kept_mb(net, *args)}


def kept_mb(net: nn.Module, x: torch.Tensor, t: torch.Tensor, cond: Cond) -> float:
    """Megabytes that a forward pass keeps for its backward one: every saved tensor's storage once, weights
    left out."""
    weights = {p.untyped_storage().data_ptr() for p in [*net.parameters(), *net.buffers()]}
    sizes: dict[int, int] = {}
    held = []  # so that no storage is freed and its address used again

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        # otherwise an output that is saved holds the graph that holds it, and nothing is ever freed
        tensor = tensor.detach()
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        net(x, t, cond)
    return sum(sizes.values()) / 2**20


def median(fn: Callable[[], Any], rounds: int) -> float:
    """Seconds, after one call that is not counted."""
    fn()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        fn()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def jobs(quick: bool) -> list[Job]:
    minutes = {64: 0.1, 256: 0.1, 1024: 0.4, 4096: 2.0, 16384: 4.5}
    tokens, width = (TOKENS[:2], 48) if quick else (TOKENS, WIDTH)
    measured = [
        Job(
            f"{network}-{n}",
            run,
            {
                "network": network,
                "tokens": n,
                "rounds": 2 if quick else 7 if n <= 4096 else 3,
                "width": width,
                "train_up_to": 4096,
            },
            minutes[n],
        )
        for n in tokens
        for network in NETWORKS
    ]
    steps = [
        Job(f"{network}-{n}-step", run_step, {"network": network, "tokens": n, "width": width}, 5.0)
        for n in tokens
        if n > 4096
        for network in NETWORKS
    ]
    return measured + steps


def slope(times: Mapping[int, float], least: int) -> float:
    """Of log time over log tokens from ``least`` on, least squares; NaN where fewer than two lengths were
    run."""
    xs, ys = [math.log(n) for n in times if n >= least], [math.log(v) for n, v in times.items() if n >= least]
    if len(xs) < 2:
        return math.nan
    mean = sum(xs) / len(xs)
    return sum((x - mean) * y for x, y in zip(xs, ys)) / sum((x - mean) ** 2 for x in xs)


def crossing(dit: Mapping[int, float], other: Mapping[int, float]) -> str:
    """Where the other becomes the faster, between which lengths, interpolated in logs."""
    faster = [n for n in dit if other[n] < dit[n]]
    if not faster:
        return "nowhere in this range"
    first = min(faster)
    below = [n for n in dit if n < first]
    if not below:
        return f"already at {first} tokens"
    n = max(below)
    gaps = [math.log(other[k] / dit[k]) for k in (n, first)]
    place = math.exp(math.log(n) + (math.log(first) - math.log(n)) * gaps[0] / (gaps[0] - gaps[1]))
    return f"at about {round(place, -1 if place < 1000 else -2):.0f} tokens"


def write(results: Mapping[str, Result], folder: Path) -> str:
    steps = {k: r.values for k, r in results.items() if k.endswith("-step")}
    results = {
        k: replace(r, values={**r.values, **steps.get(f"{k}-step", {})})
        for k, r in results.items()
        if k not in steps
    }
    pages.write_csv(folder / "table.csv", list(results.values()), ("network", "tokens"))
    tokens = sorted({r.settings["tokens"] for r in results.values()})
    kinds = {"forward": "forward, fp32", "forward_bf16": "forward, bf16", "train": "training step, fp32"}
    times = {
        k: {
            n: {
                t: r.values[k]
                for r in results.values()
                for t in [r.settings["tokens"]]
                if r.settings["network"] == n and k in r.values
            }
            for n in NETWORKS
        }
        for k in kinds
    }
    parts = [
        INTRO.format(
            sizes=", ".join(
                f"{n} {results[f'{n}-{tokens[0]}'].values['parameters'] / 1e6:.1f} M" for n in NETWORKS
            )
        )
    ]
    for kind, title in kinds.items():
        rows = [
            {
                "tokens": n,
                **{name: f"{1e3 * times[kind][name][n]:.1f}" for name in NETWORKS if n in times[kind][name]},
            }
            for n in tokens
        ]
        told = [
            f"{name}: exponent {slope(times[kind][name], min(1024, tokens[-2])):.2f} from "
            f"{min(1024, tokens[-2])} tokens on"
            for name in NETWORKS
        ]
        told += [
            f"{name} becomes faster than DiT {crossing(times[kind]['DiT'], times[kind][name])}"
            for name in NETWORKS
            if name != "DiT"
        ]
        parts.append(
            "\n".join(
                [
                    f"## {title}, ms",
                    "",
                    pages.table(rows, {"tokens": "tokens", **{n: n for n in NETWORKS}}),
                    "",
                    *(f"- {t}." for t in told),
                ]
            )
        )
    rows = [
        {
            "tokens": n,
            **{
                name: f"{results[f'{name}-{n}'].values['memory']:.0f}"
                for name in NETWORKS
                if "memory" in results[f"{name}-{n}"].values
            },
        }
        for n in tokens
    ]
    parts.append(
        "## Memory of a training step before its backward pass, MB\n\n"
        + pages.table(rows, {"tokens": "tokens", **{n: n for n in NETWORKS}})
    )
    panels = {
        kinds[k]: {n: (list(v), [[1e3 * s] for s in v.values()]) for n, v in times[k].items()} for k in kinds
    }
    pages.lines(folder / "cost.png", panels, x="tokens", y="ms")
    return "\n\n".join([*parts, "![time against tokens](cost.png)"])


INTRO = """Width 384, batch 1, pictures of four channels in patches of 2, depths chosen for equal \
parameters (positions not counted): {sizes}. DiT attends by torch's scaled dot
product; the recurrences of DiS and Diffusion-RWKV run as compiled loops on the CPU."""

page = Page("What a token costs", jobs, write)
