"""What is known of a trained model that was loaded: what it makes, of what, and with which weights."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from samplers.denoiser import Denoiser
from samplers.reparameterised import Reparameterised
from studio.checkpoints.build import Info
from studio.codecs.codec import Codec, decoded_shape
from studio.config import Config
from studio.data.depth import Reading
from studio.sampling import inputs, sampler_spec
from studio.tasks.base import Task


@dataclass
class Loans:
    """What a model has borrowed so far, by name, the channels it shares with each (None: all), whether it has
    been warned of, and the conditions that it was asked beyond what it has seen."""

    models: dict[str, "Loaded"] = field(default_factory=dict)
    fast: dict[str, Any] = field(default_factory=dict)
    channels: dict[tuple[str, bool], int | None] = field(default_factory=dict)
    warned: bool = False
    beyond: set[str] = field(default_factory=set)


@dataclass(frozen=True, repr=False)
class Loaded:
    """``denoiser`` can be queried directly: ``model.denoiser.predict(x, t, Cond(label=...))``. ``weights``:
    which of them, and their ``hash``; ``path``: the text of another path than its own that it is sampled
    on."""

    name: str
    config: Config
    info: Info
    denoiser: Denoiser | Reparameterised
    codec: Codec
    task: Task
    device: torch.device
    weights: str
    hash: str
    folder: Path
    path: str = ""
    loans: Loans = field(default_factory=Loans, compare=False, repr=False)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(C, H, W) or (d,) of a decoded sample."""
        return decoded_shape(self.codec, self.info.shape)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.info.classes

    @property
    def fit(self) -> sampler_spec.Fit:
        """What the defaults of its samplers depend on."""
        return sampler_spec.fit_of(self.config, self.info)

    @property
    def reading(self) -> Reading:
        """How the picture files that it learned from became numbers."""
        return self.info.reading

    def numbers(self, values: Tensor) -> Tensor:
        """Decoded samples (..., *sample_shape) as files hold them, of tensors that hold them otherwise: see
        `studio.sampling.inputs.numbers`."""
        if not inputs.has_sides(self.sample_shape):
            return values
        return inputs.numbers(inputs.laid_out(values, self.sample_shape), pictures=self.codec.pictures)

    def picture(self, init: Any) -> Tensor | None:
        """(C, H, W) uint8 of a picture to start from, in any form of `studio.sampling.inputs`."""
        return (
            None
            if init is None
            else inputs.picture(init, self.sample_shape, pictures=self.codec.pictures, reading=self.reading)
        )

    def source(self, given: Any) -> Tensor:
        """(*sample_shape) of one sample to start from, in any form of `studio.sampling.inputs`."""
        return inputs.source(given, self.sample_shape, pictures=self.codec.pictures, reading=self.reading)

    def mask(self, mask: Any) -> Tensor | None:
        """(H, W) bool of what may change, as the network sees it."""
        return None if mask is None else inputs.mask(mask, self.info.shape[1:], self.sample_shape[1:])
