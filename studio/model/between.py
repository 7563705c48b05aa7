"""What lies between two samples: their noise, and their conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from backbones.registry import plain
from guidance.rules import Rule
from studio import sampling
from studio.data.labels import NO_LABEL
from studio.model.loaded import Loaded
from studio.model.probability_flow import latents, solver_of
from studio.sampling import sampler_spec


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Between two vectors of any shape, in float64: along the great circle of their directions (Shoemake
    1985), with the length between theirs; straight where they point the same way or opposite ones, or have
    none. ``share`` 0 is a, 1 is b."""
    one, two = a.double(), b.double()
    long, wide = one.norm(), two.norm()
    cosine = (one * two).sum() / (long * wide)
    if not abs(cosine) < 1 - 1e-9:
        return torch.lerp(one, two, share)
    angle = cosine.acos()
    way = torch.sin((1 - share) * angle) * one / long + torch.sin(share * angle) * two / wide
    return torch.lerp(long, wide, share) * way / angle.sin()


def path_between(a: Tensor, b: Tensor, count: int) -> Tensor:
    """(count, ...) float32 from a to b, which are the ends bit for bit."""
    between = [slerp(a, b, i / (count - 1)).float() for i in range(1, count - 1)]
    return torch.stack([a, *between, b])


def ends_of(model: Loaded, conditions: Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Conditions at both ends: of a number that is given as two, one at each."""
    one, two = dict(conditions or {}), dict(conditions or {})
    for name in model.info.numeric:
        pair = plain(one.get(name))
        if isinstance(pair, list | tuple):
            if len(pair) != 2:
                raise ValueError(f"got {len(pair)} values of {name}, expected one, or two: at both ends")
            one[name], two[name] = pair
    return one, two


def along(first: sampling.Request, last: sampling.Request) -> sampling.Request:
    """The first request with numbers that change evenly to those of the last."""
    if first.numeric is None or last.numeric is None or first.numeric == last.numeric:
        return first
    n = len(first.seeds)
    rows = [
        tuple(x + (y - x) * i / (n - 1) for x, y in zip(a, b))
        for i, (a, b) in enumerate(zip(first.numeric, last.numeric))
    ]
    return replace(first, numeric=tuple(rows), values=())


def end_noise(
    model: Loaded, value: Tensor, request: sampling.Request, rules: Sequence[Rule], place: int
) -> Tensor:
    """(*shape) the noise of data (1, ...) that is to be the sample at a place of a request; by heun where its
    sampler has no way back."""
    labels = None if request.labels is None else request.labels[place : place + 1]
    own, sampler = request.of([place], request.seeds[place : place + 1], labels), solver_of(request)
    if not sampler.turns:
        sampler = sampler_spec.build_sampler(sampler_spec.resolved("heun", model.fit))
    return latents(model, value, own, rules, sampler)[0]


def labels_of(
    model: Loaded, labels: Any, conditions: Mapping[str, Any] | None, ends: Sequence[Any], count: int
) -> Any:
    """Labels for all, where none are given: half of them those of the first end, half of them those of the
    last; a seed's is its own, data have none."""
    if labels is not None or not model.classes or {"label", "class"} & set(conditions or {}):
        return labels
    one, two = (end % len(model.classes) if isinstance(end, int) else NO_LABEL for end in ends)
    return [one] * (count - count // 2) + [two] * (count // 2)
