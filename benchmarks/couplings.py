"""What a coupling costs: a training step (loss, backward, AdamW) with and without it, and exact transport against POT's, float32, two threads.

    python -m benchmarks.couplings [--quick]

Steps: an MLP on points in the plane, batch 256, and a small DiT on 28×28 pictures, batch 64. Keys: ``wcfm_step_overhead`` and
``balanced_step_overhead`` the larger ratio of the two steps to independent pairs; ``ot_speedup_vs_pot`` the geometric mean over batches of our pairing against
distances (torch.cdist) and POT's network simplex, both exact; the total costs are compared.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import backbones
from backbones import Cond, NoiseSource
from benchmarks.common import arguments, finish, interleave, table
from samplers import Batch, build_objective
from samplers.coupling import OT

KINDS: dict[str, Any] = {
    "independent": "independent",
    "W-CFM (gibbs)": {"name": "gibbs", "ess": 0.7},
    "W-CFM, fixed eps": {"name": "gibbs", "kappa": 2.0},
    "balanced W-CFM (gibbs, balance=10)": {"name": "gibbs", "kappa": 2.0, "balance": 10},
    "balanced, eps by sample size": {"name": "gibbs", "ess": 0.7, "balance": 10},
    "OT": {"name": "ot", "labels": "ignore"},
    "Sinkhorn": {"name": "sinkhorn", "labels": "ignore"},
}
BATCHES = [(256, 2), (1024, 2), (128, 784), (512, 784), (1024, 784), (256, 3072), (1024, 3072)]


def ends(size: int, dim: int) -> tuple[Tensor, Tensor]:
    """Noise, and eight clusters in the plane or smooth pictures of 64 factors."""
    g = torch.Generator().manual_seed(size + dim)
    if dim == 2:
        angle = torch.randint(8, (size,), generator=g) * (math.pi / 4)
        return torch.randn(size, 2, generator=g), 5 * torch.stack([angle.cos(), angle.sin()], 1) + 0.56 * torch.randn(size, 2, generator=g)
    factors = torch.randn(64, dim, generator=g) / 8
    return torch.randn(size, dim, generator=g), 0.6 * torch.tanh(torch.randn(size, 64, generator=g) @ factors)


def step_of(kind: Any, net: torch.nn.Module, data: Tensor) -> Callable[[], None]:
    objective, optimizer = build_objective(coupling=kind), torch.optim.AdamW(net.parameters(), lr=1e-6, fused=True)
    count = [0]

    def step() -> None:
        count[0] += 1
        noise = NoiseSource([0] * len(data), index=torch.arange(len(data)), step=count[0])
        objective.loss(net, Batch(data, Cond()), noise).per_sample.mean().backward()
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
    return interleave({"ours": lambda: ours(source, data, Cond(), noise), "POT": lambda: pot(source, data)}, rounds=rounds, warmup=1)


def main() -> None:
    import warnings

    warnings.simplefilter("ignore")
    args = arguments(__doc__ or "")
    ratios: dict[str, float] = {}
    worst = dict.fromkeys(("wcfm_step_overhead", "balanced_step_overhead"), 0.0)
    for title, net, data in (
        ("points, MLP of 3 × 256, batch 256", backbones.build("mlp", dim=2, width=256, depth=3), ends(256, 2)[1]),
        (
            "pictures, DiT of 4 × 192, batch 64",
            backbones.build("dit", input_size=28, in_channels=1, patch_size=4, hidden_size=192, depth=4, num_heads=3, num_classes=10),
            ends(64, 784)[1].view(64, 1, 28, 28),
        ),
    ):
        times = interleave({name: step_of(kind, net, data) for name, kind in KINDS.items()}, rounds=8 if args.quick else 60)
        table(f"A training step: {title}", times)
        plain = times["independent"]
        worst["wcfm_step_overhead"] = max(worst["wcfm_step_overhead"], times["W-CFM (gibbs)"] / plain)
        worst["balanced_step_overhead"] = max(worst["balanced_step_overhead"], times["balanced W-CFM (gibbs, balance=10)"] / plain)
    ratios |= worst
    logs = []
    for size, dim in BATCHES:
        times = transport_times(size, dim, rounds=3 if args.quick else 15)
        table(f"Exact transport of {size} points in {dim} dimensions", times)
        logs.append(math.log(times["POT"] / times["ours"]))
    ratios["ot_speedup_vs_pot"] = math.exp(sum(logs) / len(logs))
    finish(ratios)


if __name__ == "__main__":
    main()
