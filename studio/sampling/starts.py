"""Where samples start: the draws of their seeds, or ``noise=`` that a caller gives.

Given as numbers, noise is the start alone: (N, *shape) standard normal, as a network sees it (of latents
where a model has a VAE), one for each seed, or (*shape) for all; what a stochastic sampler draws on its way
is still its seed's. Given as a source (`backbones.noise.NoiseSource`, or anything with its ``at`` and
``normal``), it is asked for every draw.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from backbones.types import Cond, Noise, NoiseSource
from samplers import spaces
from samplers.batch import Ends
from samplers.denoiser import Queryable
from studio.sampling.inputs import laid_out


class Started(NoiseSource):
    """The draws of seeds, but for the start (B, ...), which is given."""

    def __init__(self, seeds: Sequence[int], start: Tensor, device: torch.device):
        super().__init__(seeds, device=device)
        self.start = start.to(device)

    def select(self, i: Tensor | slice) -> Self:
        other = super().select(i)
        other.start = self.start[i]
        return other

    def normal(self, shape: Sequence[int] = (), *, stream: str, dtype: torch.dtype = torch.float32) -> Tensor:
        return (
            self.start.to(dtype) if stream == "prior" else super().normal(shape, stream=stream, dtype=dtype)
        )


def usual_strength(masked: bool) -> float:
    """How much of the way is run anew from a picture, where nobody says: all of it where a mask keeps the
    rest."""
    return 1.0 if masked else 0.6


@dataclass(frozen=True)
class Asked:
    """``seeds`` that stand for a source that is nothing but them; ``count`` samples that noise is for, where
    it tells; the noise of a `Request`, if any is left."""

    seeds: tuple[int, ...] | None = None
    count: int | None = None
    noise: Any = None


def asked(noise: Any, shape: Sequence[int], model: Queryable, *, plain: bool = True) -> Asked:
    """What a caller's noise asks for. Raises ``ValueError`` for what is no noise of this shape, and for a
    start given to a model that begins elsewhere, or (not ``plain``)
    from more than numbers."""
    if noise is None:
        return Asked()
    if type(noise) is NoiseSource and noise.step == 0 and not noise.index.any():
        return Asked(seeds=tuple(noise.seeds.tolist()), count=len(noise))
    if hasattr(noise, "normal") and hasattr(noise, "at") and not isinstance(noise, Tensor):
        return Asked(count=len(noise) if hasattr(noise, "__len__") else None, noise=noise)
    if isinstance(noise, str | bytes):
        raise ValueError(
            f"got noise={noise!r}, expected numbers (N, {', '.join(map(str, shape))}), or a NoiseSource"
        )
    if model.starts != "noise" or not plain:
        where = "from its source" if model.starts != "noise" else "from draws of its own"
        raise ValueError(
            f"got noise as numbers for a model that starts {where}; give seeds, or a NoiseSource"
        )
    start = numbers(noise, shape)
    return Asked(noise=start[None]) if start.ndim == len(shape) else Asked(count=len(start), noise=start)


def numbers(noise: Any, shape: Sequence[int]) -> Tensor:
    """(N, *shape) or (*shape) float32. Raises ``ValueError``; warns of a deviation that no standard normal
    noise has."""
    try:
        value = (
            torch.as_tensor(
                np.stack([np.asarray(n) for n in noise]) if isinstance(noise, list | tuple) else noise
            )
            .detach()
            .cpu()
        )
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"got noise of {type(noise).__name__}, expected an array or a tensor of numbers, or a NoiseSource"
        ) from None
    value = laid_out(value, shape)
    if tuple(value.shape[-len(shape) :]) != tuple(shape) or value.ndim > len(shape) + 1:
        raise ValueError(
            f"got noise of shape {tuple(value.shape)}, expected (N, {', '.join(map(str, shape))}), one "
            "for each seed"
        )
    if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
        kind = (
            "values that are not finite"
            if value.is_floating_point()
            else str(value.dtype).removeprefix("torch.")
        )
        raise ValueError(f"got noise with {kind}, expected finite floats of deviation 1, such as torch.randn")
    value = value.float()
    if value.numel() > 32 and not 0.5 < (size := float(value.square().mean().sqrt())) < 2:
        warnings.warn(
            f"the noise has deviation {size:.3g}, expected about 1: the model's own scale is applied "
            "to it here",
            stacklevel=5,
        )
    return value


def draws(noise: Any, seeds: Sequence[int], rows: Sequence[int | None], device: torch.device) -> Noise:
    """The noise of these rows of a request; None is padding."""
    places = [0 if i is None else i for i in rows]
    own = [seeds[i] for i in places]
    if noise is None:
        return NoiseSource([0 if i is None else seeds[i] for i in rows], device=device)
    if isinstance(noise, Tensor):
        return Started(own, noise[[i % len(noise) for i in places]], device)
    if type(noise) is NoiseSource:
        return NoiseSource(
            noise.seeds[places], index=noise.index[places].cpu(), step=noise.step, device=device
        )
    return noise


def whole(noise: Any) -> bool:
    """Whether noise can only be asked for all samples at once: a source of another kind than ours."""
    return noise is not None and not isinstance(noise, Tensor) and type(noise) is not NoiseSource


def begun(path: Any, init: Tensor, prior: Tensor, t: float, noise: Noise) -> Tensor:
    """The state (B, ...) at a time between a draw of the prior and what a run starts from (1, ...)."""
    space = spaces.of(path.space)
    if path.levels:
        c = path.coefficients(t)
        return space.project(c.alpha * init + (c.sigma / path.prior_scale) * prior, Cond())
    times = torch.full((len(prior),), t, dtype=torch.float64, device=prior.device)
    return path.state(space, Ends(prior, init.expand_as(prior), Cond()), times, noise).x
