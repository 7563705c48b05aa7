"""Data ↔ what the network sees. A codec belongs to the model and acts at its edges."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from backbones.plugins import Registry
from backbones.registry import build, resolve
from backbones.types import Cond, Noise
from samplers.spaces.euclid import Euclid


class Codec(Protocol):
    """``bound``: of what `encode` makes, where data has a range of its own; None for data without one.
    ``pictures``: whether it decodes to uint8 pictures, which a PNG holds exactly; what else it decodes to is
    kept as an array."""

    name: str
    bound: float | None
    pictures: bool
    parts: bool
    judges: str

    def encode(self, data: Tensor) -> Tensor: ...
    def decode(self, x: Tensor) -> Tensor: ...
    def start(
        self,
        cond: Cond,
        noise: Noise,
        path: Any,
        shape: Sequence[int],
        *,
        number: int | None = None,
        part: Tensor | None = None,
        free: Tensor | None = None,
    ) -> tuple[Tensor, Cond]:
        """Where a run starts (B, *shape), and its conditions with what is then known of the samples.
        ``number``, ``part`` and ``free``: of codecs with ``parts``, how large samples are, and what of them
        stays."""
        ...


class FromNoise:
    """What codecs of real numbers share: they start from the path's prior. ``parts``: whether a part that is
    given goes into the start; otherwise it is a picture, which is noised."""

    parts, judges = False, "state"  # judges: what of a step has to be finite

    def start(
        self,
        cond: Cond,
        noise: Noise,
        path: Any,
        shape: Sequence[int],
        *,
        number: int | None = None,
        part: Tensor | None = None,
        free: Tensor | None = None,
    ) -> tuple[Tensor, Cond]:
        """See `Codec`."""
        return Euclid().prior(noise, tuple(shape), scale=path.prior_scale), cond


SLACK = 1e-4  # beyond 0..1 by rounding


class Pixels(FromNoise):
    """uint8 (B, C, H, W) in 0…255, or floats in 0..1 ↔ float32 in [−1, 1]; decoded to uint8. Raises
    ``ValueError`` for floats beyond 0..1."""

    name, bound, pictures = "pixels", 1.0, True

    def encode(self, data: Tensor) -> Tensor:
        if data.is_floating_point():
            low, high = (float(v) for v in data.aminmax())
            if low < -SLACK or high > 1 + SLACK:
                raise ValueError(
                    f"got pictures with values from {low:g} to {high:g}, expected 0..1 as in the others, "
                    "which were taken as pictures for that; "
                    "scale all to 0..1, or give a data set of floats, such as -1..1, of which the first "
                    "items show it"
                )
            return data.float() * 2 - 1
        return data.to(torch.float32).mul_(1 / 127.5).sub_(1)

    def decode(self, x: Tensor) -> Tensor:
        return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


class Scale(FromNoise):
    """Real data divided by one number, the data's standard deviation: (B, ...) float ↔ the same about unit
    scale."""

    name, bound, pictures = "scale", None, False

    def __init__(self, *, std: float = 1.0):
        self.std = std

    def encode(self, data: Tensor) -> Tensor:
        return data.float() / self.std

    def decode(self, x: Tensor) -> Tensor:
        return x.float() * self.std


REGISTRY = Registry(
    "codecs",
    {
        "pixels": "studio.codecs.codec:Pixels",
        "scale": "studio.codecs.codec:Scale",
        "vae": "studio.codecs.vae:VAECodec",
        "graph": "studio.codecs.graph:GraphCodec",
    },
    needs=("encode", "decode", "start", "pictures", "parts"),
)


def range_of(spec: Mapping[str, Any]) -> float | None:
    """The ``bound`` of the codec that a spec names."""
    return getattr(resolve(REGISTRY, spec["name"], "codec"), "bound", None)


def build_codec(spec: dict, home: Path | None = None) -> Codec:
    """From ``{name: ..., options}``. An option ``folder`` is relative to ``home``, the model's folder."""
    options = dict(spec)
    if home is not None and isinstance(options.get("folder"), str):
        options["folder"] = str(home / options["folder"])
    return build(REGISTRY, options.pop("name"), "codec", options)


def makes_pictures(spec: Mapping[str, Any]) -> bool:
    """Whether the codec of a spec decodes to uint8 pictures."""
    return bool(resolve(REGISTRY, spec["name"], "codec").pictures)
