"""Looking at a network in training: the held-out loss along the path (ten bins of time, fixed noise, the same
samples every time) and a grid of samples from fixed seeds."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import guidance
from backbones.types import Cond, NoiseSource, RunContext
from guidance.borrowed import Borrowed
from samplers.batch import Batch, Loss
from samplers.times import on_entries
from studio import sampling
from studio.checkpoints.build import Info, denoiser_of
from studio.codecs.codec import Codec, decoded_shape
from studio.config import Config
from studio.data import Data
from studio.data.labels import parse_labels
from studio.data.loader import fetch, head_source, spread
from studio.sampling import sampler_spec
from studio.sampling.sheets import before_and_after
from studio.tasks.base import Task

if TYPE_CHECKING:
    from PIL.Image import Image

BINS = 10


@torch.no_grad()
def held_out_loss(
    net: nn.Module,
    objective: Any,
    codec: Codec,
    values: Tensor,
    cond: Cond,
    *,
    source: Tensor | None = None,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    batch: int = 128,
) -> list[float]:
    """Mean loss in each of `BINS` equal stretches of t; sample i is used at one fixed time of every bin, on a
    table at the entry next to it, as training is. Conditions are never dropped."""
    low = dtype if dtype != torch.float32 else None
    start = objective.path.t_start
    modes = [(module, module.training) for module in net.modules()]  # a part may have a mode of its own
    net.eval()
    losses = torch.zeros(BINS, dtype=torch.float64)
    try:
        for b in range(BINS):
            for a in range(0, len(values), batch):
                rows = torch.arange(a, min(a + batch, len(values)))
                noise = NoiseSource([seed] * len(rows), index=rows, step=b, device=device)
                u = noise.uniform(stream="bin", dtype=torch.float64)
                t = on_entries(start + (1 - start) * (b + u) / BINS, objective.path)
                data = codec.encode(values[rows].to(device))
                start_from = None if source is None else codec.encode(source[rows].to(device))
                with torch.autocast(device.type, dtype=low, enabled=low is not None):
                    loss = objective.loss(
                        net, Batch(data, cond.index(rows).to(device), start_from), noise, t=t, drop=False
                    )
                losses[b] += loss.per_sample.double().sum().cpu()
    finally:
        for module, training in modes:
            module.training = training
    return [float(v) for v in losses / len(values)]


@torch.no_grad()
def plain_loss(
    nets: Mapping[str, nn.Module],
    loss: Callable[..., Loss],
    codec: Codec,
    values: Tensor,
    cond: Cond,
    *,
    source: Tensor | None = None,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    batch: int = 128,
) -> float:
    """Mean of a loss that knows no path, with all networks in eval mode; sample i meets the same noise every
    time."""
    low, total = dtype if dtype != torch.float32 else None, 0.0
    modes = [(module, module.training) for net in nets.values() for module in net.modules()]
    try:
        for module, _ in modes:
            module.training = False
        for a in range(0, len(values), batch):
            rows = torch.arange(a, min(a + batch, len(values)))
            noise = NoiseSource([seed] * len(rows), index=rows, device=device)
            data = codec.encode(values[rows].to(device))
            start_from = None if source is None else codec.encode(source[rows].to(device))
            given = Batch(data, cond.index(rows).to(device), start_from)
            with torch.autocast(device.type, dtype=low, enabled=low is not None):
                total += float(loss(nets, given, noise, RunContext()).per_sample.double().sum())
    finally:
        for module, training in modes:
            module.training = training
    return total / len(values)


def preview(
    net: nn.Module,
    config: Config,
    info: Info,
    codec: Codec,
    data: Data,
    task: Task,
    *,
    device: torch.device,
    dtype: torch.dtype,
    procedure: Any = None,
) -> "Image | None":
    """A grid from seeds 0, 1, … (from held-out sources where the data has them, which are shown above what
    becomes of them) with the config's own sampling, or None for samples that its task does not draw."""
    if not task.shows(decoded_shape(codec, info.shape)):
        return None
    seeds = tuple(range(task.previewed))
    labels, numeric, fields = _asked(info, data, seeds)
    request = sampling.Request(
        seeds,
        labels,
        numeric,
        config.sample.num_steps,
        sampler_spec.resolved(None, sampler_spec.fit_of(config, info)),
        config.sample.guidance,
        batch=len(seeds),
        sources=head_source(data, len(seeds)),
        fields=fields,
    )
    # other models are left out of previews
    rules = [rule for rule in guidance.parse(config.sample.guidance) if not isinstance(rule, Borrowed)]
    denoiser = denoiser_of(config, net, dtype=dtype, source=bool(info.starts_from), procedure=procedure)
    values = sampling.run(
        sampling.stream(denoiser, info.shape, codec, request, device=device, rules=rules), codec, len(seeds)
    )
    return before_and_after(task, request.sources, values)


def _asked(info: Info, data: Data, seeds: Sequence[int]) -> tuple[Any, Any, dict[str, Tensor]]:
    """Labels, numbers and further conditions of a preview: each class in turn, or, where the data has more
    than classes, what samples of the data have."""
    if not info.numeric and not info.fields:
        return parse_labels(None, info.classes, seeds), None, {}
    part = data.train if data.held_out is None else data.held_out
    there = spread(part, len(seeds))
    cond = fetch(part, [(0, there[i % len(there)]) for i in range(len(seeds))])[1]
    labels = tuple(cond.label.tolist()) if info.classes and isinstance(cond.label, Tensor) else None
    numeric = tuple(map(tuple, cond.numeric.tolist())) if isinstance(cond.numeric, Tensor) else None
    return labels, numeric, {f.name: v for f in info.fields if isinstance(v := cond.get(f.name), Tensor)}
