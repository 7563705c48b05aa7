"""The held-out loss along the path: ten bins of time, fixed noise, the same samples every time."""

import torch
from torch import Tensor, nn

from backbones.types import Cond, NoiseSource
from samplers.objective import Batch, Objective
from studio.codec import Codec

BINS = 10


@torch.no_grad()
def held_out_loss(
    net: nn.Module,
    objective: Objective,
    codec: Codec,
    values: Tensor,
    cond: Cond,
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    batch: int = 128,
) -> list[float]:
    """Mean loss in each of `BINS` equal stretches of t; sample i is used at one fixed time of every bin. Conditions are never dropped."""
    low = dtype if dtype != torch.float32 else None
    start, drop, training = objective.path.t_start, objective.cond_drop, net.training
    objective.cond_drop = 0.0
    net.eval()
    losses = torch.zeros(BINS, dtype=torch.float64)
    try:
        for b in range(BINS):
            for a in range(0, len(values), batch):
                rows = torch.arange(a, min(a + batch, len(values)))
                noise = NoiseSource([seed] * len(rows), index=rows, step=b, device=device)
                u = noise.uniform(stream="bin", dtype=torch.float64)
                t = start + (1 - start) * (b + u) / BINS
                data = codec.encode(values[rows].to(device))
                with torch.autocast(device.type, dtype=low, enabled=low is not None):
                    loss = objective.loss(net, Batch(data, cond.index(rows).to(device)), noise, t=t)
                losses[b] += loss.per_sample.double().sum().cpu()
    finally:
        objective.cond_drop = drop
        net.train(training)
    return [float(v) for v in losses / len(values)]
