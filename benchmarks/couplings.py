"""What a coupling costs: a training step with and without it, and exact transport against POT's, two threads,
one run.

    python -m benchmarks.couplings [--quick] [--plot PNG]

A step is fed as the trainer feeds it (`studio.training.batches`): Fashion-MNIST pictures, a small DiT in bf16
where the hardware has it, batch 128, loss, backward and AdamW. Pairs of exact transport are found ahead in a
thread, and in line beside it. Keys: ``wcfm_step_overhead``, ``balanced_step_overhead`` and
``ot_prefetched_overhead`` are steps over that of independent pairs; ``ot_speedup_vs_pot`` is pairing 256
pictures of 3×32×32 (emoji) with POT's network simplex over ours, distances included on both sides and total
costs compared; ``ot_vs_pot_256`` and ``ot_vs_pot_1024`` the same for points in the plane.
``sinkhorn_us_per_pair`` and, at a temperature that rounds do not reach, ``sinkhorn_cold_us_per_pair`` are
pairing 256 pictures by the entropic plan. ``--plot`` draws how pairing grows with the batch, 64 to 4096.
"""

import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones import Cond, NoiseSource
from backbones.types import RunContext
from benchmarks.common import finish, interleave, parser_of, table
from samplers.couplings.gibbs import Gibbs
from samplers.couplings.planned import OT, Sinkhorn
from studio.codecs.codec import build_codec
from studio.config import load_config
from studio.data import load_data
from studio.runtime.devices import pick_dtype
from studio.tasks import build_task
from studio.training.batches import Feed
from studio.training.procedure import Dataset, NetworkLoss, Update
from studio.training.resolve import resolve

EMOJI = Path(__file__).parents[1] / "data" / "emoji32.npz"
KINDS: dict[str, Any] = {
    "independent": "independent",
    "W-CFM (gibbs)": {"name": "gibbs", "ess": 0.7},
    "balanced W-CFM (gibbs, balance=10)": {"name": "gibbs", "ess": 0.7, "balance": 10},
    "OT, found ahead": {"name": "ot", "labels": "ignore"},
    "OT, in line": {"name": "ot", "labels": "ignore"},
}


def ends(size: int, dim: int) -> tuple[Tensor, Tensor]:
    """Noise, and eight clusters in the plane, Fashion-MNIST pictures, or emoji of 32×32 in three colours."""
    g = torch.Generator().manual_seed(size + dim)
    if dim == 2:
        angle = torch.randint(8, (size,), generator=g) * (math.pi / 4)
        return torch.randn(size, 2, generator=g), 5 * torch.stack(
            [angle.cos(), angle.sin()], 1
        ) + 0.56 * torch.randn(size, 2, generator=g)
    data = load_data({"name": "emoji", "path": str(EMOJI)} if dim == 3072 else {"name": "fashion-mnist"})
    chosen = torch.randperm(len(data.train), generator=g)[:size]
    return torch.randn(size, dim, generator=g), torch.from_numpy(data.train.values)[chosen].flatten(
        1
    ).float() / 127.5 - 1


def step_of(name: str) -> Callable[[], None]:
    """One training step of `KINDS[name]` on Fashion-MNIST."""
    config = load_config("fashion-dit", ["train.batch_size=128"])
    config.objective["coupling"] = KINDS[name]
    data, device = load_data(config.data), torch.device("cpu")
    resolved = resolve(config, data)
    (net,), objective, low = resolved.networks().values(), resolved.objective, pick_dtype("auto", device)
    if name.endswith("in line"):
        objective.coupling.slow = False  # type: ignore[attr-defined]
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-6, fused=True)
    source = Dataset(data, config.train.batch_size, seed=config.seed)
    update = Update(("net",), NetworkLoss(objective, "net"), source)
    codec, task = build_codec(data.codec), build_task(data.task, data.codec)
    feed = Feed(resolved.config, codec, task, device)
    steps: Iterator[Any] = feed.steps(update, 0, 0, 0, RunContext())

    def step() -> None:
        (ready,) = next(steps)
        with torch.autocast("cpu", dtype=low, enabled=low != torch.float32):
            loss = objective.loss(net, ready.batch, ready.noise, pairs=ready.pairs).per_sample.mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def pot(source: Tensor, data: Tensor) -> Tensor:
    """The total cost of the usual way."""
    import ot

    cost = torch.cdist(source, data).square().double().numpy()
    share = [1 / len(data)] * len(data)
    return torch.as_tensor((ot.emd(share, share, cost, numItermax=10**7) * cost).sum())


def transport_times(size: int, dim: int, *, rounds: int) -> dict[str, float]:
    """Median seconds of both, after their total costs were found to be the same."""
    source, data = ends(size, dim)
    noise, ours = NoiseSource(range(size)), OT()
    pairs = ours(source, data, Cond(), noise)
    total = (pairs.source - pairs.data).square().sum(1).double().mean()
    if abs(float(total / pot(source, data)) - 1) > 1e-4:
        raise RuntimeError(f"the two disagree on {size} points in {dim} dimensions")
    return interleave(
        {"ours": lambda: ours(source, data, Cond(), noise), "POT": lambda: pot(source, data)},
        rounds=rounds,
        warmup=1,
    )


def entropic(*, rounds: int) -> dict[str, float]:
    """Pairing 64 to 512 pictures of 784 numbers by entropic plans, at the default temperature and at reg =
    0.02, which is nearly exact transport; how far off their row sums are."""
    ratios = {}
    for name, coupling in (
        ("relative 0.05", Sinkhorn()),
        ("reg 1", Sinkhorn(reg=1.0)),
        ("reg 0.02", Sinkhorn(reg=0.02)),
    ):
        times: dict[str, float] = {}
        for size in (64, 128, 256, 512):
            source, data = ends(size, 784)
            noise = NoiseSource(range(size))
            error = float(coupling(source, data, Cond(), noise).logs["marginal_error"])
            label = f"{size}, off by {error:.1e}"
            times |= interleave(
                {label: partial(coupling, source, data, Cond(), noise)}, rounds=rounds, warmup=0
            )
            if size == 256:
                ratios[name] = 1e6 * times[label] / size
        table(f"Sinkhorn at {name}: pairing a batch of 784 numbers each", times)
    return {"sinkhorn_us_per_pair": ratios["relative 0.05"], "sinkhorn_cold_us_per_pair": ratios["reg 0.02"]}


def growth(path: Path, *, quick: bool) -> None:
    """Milliseconds to pair or weigh a batch of 784 numbers, 64 to 4096 of them."""
    from matplotlib.figure import Figure

    sizes = [64, 256, 1024] if quick else [64, 128, 256, 512, 1024, 2048, 4096]
    rows: dict[str, list[float]] = {}
    for size in sizes:
        source, data = ends(size, 784)
        noise = NoiseSource(range(size))
        couplings = {"W-CFM": Gibbs(ess=0.7), "balanced W-CFM": Gibbs(ess=0.7, balance=10), "OT": OT()}
        sides: dict[str, Callable[[], Any]] = {
            name: partial(c, source, data, Cond(), noise) for name, c in couplings.items()
        }
        sides["OT by POT"] = partial(pot, source, data)
        for name, seconds in interleave(sides, rounds=3, warmup=1).items():
            rows.setdefault(name, []).append(seconds)
    figure = Figure(figsize=(5, 3.6), dpi=130, layout="constrained")
    axes = figure.subplots()
    for name, values in rows.items():
        axes.loglog(sizes, [1000 * v for v in values], marker="o", label=name)
        table(f"{name}: pairing a batch of 784 numbers each", dict(zip(map(str, sizes), values)))
    axes.set_xlabel("batch")
    axes.set_ylabel("ms")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path)


def main() -> None:
    import warnings

    warnings.simplefilter("ignore")
    parser = parser_of(__doc__ or "")
    parser.add_argument("--plot", type=Path, help="a PNG of how pairing grows with the batch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    steps = interleave({name: step_of(name) for name in KINDS}, rounds=5 if args.quick else 40)
    table("A training step: DiT of fashion-dit, batch 128", steps)
    plain = steps["independent"]
    ratios = {
        "wcfm_step_overhead": steps["W-CFM (gibbs)"] / plain,
        "balanced_step_overhead": steps["balanced W-CFM (gibbs, balance=10)"] / plain,
        "ot_prefetched_overhead": steps["OT, found ahead"] / plain,
        "ot_inline_overhead": steps["OT, in line"] / plain,
    }
    for key, size, dim in (
        ("ot_speedup_vs_pot", 256, 3072),
        ("ot_vs_pot_256", 256, 2),
        ("ot_vs_pot_1024", 1024, 2),
    ):
        times = transport_times(size, dim, rounds=5 if args.quick else 21)
        table(f"Exact transport of {size} samples of {dim} numbers", times)
        ratios[key] = times["POT"] / times["ours"]
    ratios |= entropic(rounds=1 if args.quick else 5)
    if args.plot:
        growth(args.plot, quick=args.quick)
    finish(ratios)


if __name__ == "__main__":
    sys.exit(main())
