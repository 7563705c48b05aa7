"""Looking at a network in training: the held-out loss along the path (ten bins of time, fixed noise, the same samples every time) and a grid of
samples from fixed seeds."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from backbones.types import Cond, NoiseSource
from samplers.objective import Batch, Objective
from studio import sampling
from studio.build import Info, denoiser_of
from studio.codec import Codec
from studio.config import Config
from studio.tasks import build_task
from studio.tasks.image import MODES

if TYPE_CHECKING:
    from PIL.Image import Image

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


def preview(net: nn.Module, config: Config, info: Info, codec: Codec, *, device: torch.device, dtype: torch.dtype) -> "Image | None":
    """A grid from seeds 0, 1, … with the config's own sampling, or None for channels that make no picture."""
    if info.task == "image" and info.shape[0] not in MODES:
        return None
    seeds = tuple(range(512 if info.task == "points" else 20))
    request = sampling.Request(
        seeds, sampling.parse_labels(None, info.classes, seeds), sampling.numeric_rows({}, info.numeric, info.numeric_mean, info.numeric_std, len(seeds)),
        config.sample.num_steps, config.sample.sampler, config.sample.guidance, batch=len(seeds),
    )  # fmt: skip
    values = sampling.run(denoiser_of(config, net, dtype=dtype), info.shape, codec, request, device=device)
    return build_task(info.task).sheet(values)
