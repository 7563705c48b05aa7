"""How fast this machine trains: real steps of a config's own network, measured and thrown away."""

import time

import torch

from backbones.types import Cond, NoiseSource, RunContext
from samplers.objective import Batch
from studio.checkpoints.build import Info, build_network
from studio.config import Config
from studio.training.ema import EMA
from studio.training.optim import build_optimizers
from studio.training.resolve import filled

STEPS, PATIENCE = 3, 2.0  # timed steps at most, and the seconds after which no further one begins
ROWS = 8  # pictures that are enough to tell the pace on a CPU, which grows with them


def step_seconds(config: Config, info: Info, device: torch.device, dtype: torch.dtype) -> float:
    """Seconds of one training step on noise in the data's place: forward, backward, optimiser and averages.
    The best of a few, after one that warms up. Raises ``ValueError`` for a network that cannot be built."""
    config, objective = filled(config, info)
    net = build_network(config).to(device)
    optimizers, averages = build_optimizers({"net": net}, config.train), EMA({"net": net}, config.train.ema)
    whole = config.train.batch_size // config.train.accumulate
    rows = min(whole, ROWS) if device.type == "cpu" else whole
    noise = NoiseSource([config.seed] * rows, index=torch.arange(rows), device=device)
    label = torch.arange(rows, device=device) % len(info.classes) if info.classes else None
    data = Batch(noise.normal(info.shape, stream="pace").clamp(-1, 1), Cond(label=label), None)
    low, began = dtype if dtype != torch.float32 else None, time.monotonic()
    passes, updates = [], []

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.monotonic()

    for k in range(STEPS + 1):
        start = now()
        with torch.autocast(device.type, dtype=low, enabled=low is not None):
            loss = objective.loss(net, data, noise, RunContext()).per_sample.mean()
        loss.backward()
        between = now()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        averages.update(k + 1)
        passes.append(between - start)
        updates.append(now() - between)
        if now() - began > PATIENCE and k:
            break
    return min(passes[1:]) * config.train.batch_size / rows + min(updates[1:])
