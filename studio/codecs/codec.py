"""Data ↔ what the network sees. A codec belongs to the model and acts at its edges."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from backbones.plugins import Registry
from backbones.registry import build, plain, resolve
from backbones.types import Cond, Noise
from samplers import spaces


@dataclass(frozen=True)
class Setting:
    """A whole number from ``low`` to ``high`` that a start can be told beside conditions (``--set``), of all
    samples or one of each."""

    low: int
    high: int

    def checked(self, name: str, given: Any) -> int:
        """Raises ``ValueError`` for what is no such number, given as a number or text."""
        try:
            asked = float(plain(given))
        except (TypeError, ValueError):
            asked = math.nan
        if not asked.is_integer() or not self.low <= asked <= self.high:
            told = f"{asked:g}" if math.isfinite(asked) else given
            raise ValueError(f"got {told} {name}, expected {self.low} to {self.high} on this model")
        return int(asked)

    def of_each(self, name: str, given: Any, count: int) -> int | tuple[int, ...]:
        """One for ``count`` samples, or as many. Raises ``ValueError`` for what is neither."""
        several = plain(given)
        several = several.tolist() if getattr(several, "ndim", 0) == 1 else several
        if isinstance(several, list | tuple):
            if len(several) not in (1, count):
                raise ValueError(
                    f"got {len(several)} values of {name} for {count} samples, expected one, or one for each"
                )
            found = tuple(self.checked(name, one) for one in several)
            return found[0] if len(found) == 1 else found
        return self.checked(name, several)


class Codec(Protocol):
    """``bound``: of what `encode` makes, where data has a range of its own; None for data without one.
    ``pictures``: whether it decodes to uint8 pictures, which a PNG holds exactly; what else it decodes to is
    kept as an array. ``rescales``: whether a state is the data's own numbers on another scale. ``space``:
    where states live. ``parts``: whether a part that is given goes into the start; otherwise it is noised.
    ``judges``: what of a step has to be finite. ``holes``: whether data may be NaN where it has no value.
    ``any_length``: whether samples may be shorter than their shape along its first axis, the rest being
    padding; how long is the first of ``settings``."""

    name: str
    bound: float | None
    pictures: bool
    rescales: bool
    space: str
    parts: bool
    judges: str
    holes: bool
    any_length: bool

    @property
    def settings(self) -> Mapping[str, Setting]:
        """What a start can be told of the samples beside conditions."""
        ...

    def encode(self, data: Tensor) -> Tensor: ...
    def decode(self, x: Tensor) -> Tensor: ...
    def start(
        self,
        cond: Cond,
        noise: Noise,
        path: Any,
        shape: Sequence[int],
        *,
        settings: Mapping[str, Any] | None = None,
        part: Tensor | None = None,
        free: Tensor | None = None,
    ) -> tuple[Tensor, Cond]:
        """Where a run starts (B, *shape), and its conditions with what is then known of the samples.
        ``settings`` by name; of codecs with ``parts`` what of the samples is given, and what of it is
        ``free`` to change."""
        ...

    def sizes(self, shape: Sequence[int]) -> dict[str, Any]:
        """What a backbone's constructor can ask for of states of this shape, by the names of its options."""
        ...

    def places(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The axes of a state that are places, all but channels: what known entries are drawn along. Raises
        ``ValueError`` where states have none."""
        ...

    def log_det(self, shape: Sequence[int]) -> float | None:
        """The logarithm of how much larger a volume of samples of this shape is encoded, by which a density
        of states is one of data; None where that depends on the sample, or is not known."""
        ...

    def misread(self, made_for: "Codec", model: str) -> str:
        """Why this codec, of ``model``, does not read data that was made for another one of its name; empty
        where it does."""
        ...

    def apart(self, other: "Codec", mine: str, theirs: str) -> str:
        """Why the states of another codec of this name mean something else, empty where they do not;
        ``mine`` and ``theirs`` name the models."""
        ...


class FromNoise:
    """What codecs of real numbers share: they start from the path's prior."""

    rescales, space, parts, judges, holes, any_length = False, "euclid", False, "state", False, False

    @property
    def settings(self) -> Mapping[str, Setting]:
        return {}

    def start(
        self,
        cond: Cond,
        noise: Noise,
        path: Any,
        shape: Sequence[int],
        *,
        settings: Mapping[str, Any] | None = None,
        part: Tensor | None = None,
        free: Tensor | None = None,
    ) -> tuple[Tensor, Cond]:
        """See `Codec`."""
        return spaces.of(path.space).start(noise, tuple(shape), cond, scale=path.prior_scale)

    def sizes(self, shape: Sequence[int]) -> dict[str, Any]:
        """``dim`` of vectors; ``in_channels`` and ``input_size`` (a number where all sides are equal) of what
        has sides, of clips (T, C, H, W) the frames too."""
        if len(shape) == 4:
            return {"in_channels": shape[1], "input_size": (shape[0], *shape[2:])}
        channels, *sides = shape
        if not sides:
            return {"dim": channels}
        return {"in_channels": channels, "input_size": sides[0] if len({*sides}) == 1 else tuple(sides)}

    def places(self, shape: Sequence[int]) -> tuple[int, ...]:
        """All axes but the channels, which are the first of several, and of clips (T, C, H, W) the second."""
        return (0, 2, 3) if len(shape) == 4 else tuple(range(1, len(shape))) or (0,)

    def log_det(self, shape: Sequence[int]) -> float | None:
        return None

    def misread(self, made_for: Codec, model: str) -> str:
        return ""

    def apart(self, other: Codec, mine: str, theirs: str) -> str:
        return ""


SLACK = 1e-4  # beyond 0..1 by rounding


class Pixels(FromNoise):
    """uint8 (B, C, H, W) or (B, T, C, H, W) in 0…255, or floats in 0..1 ↔ float32 in [−1, 1]; decoded to
    uint8. Raises ``ValueError`` for floats beyond 0..1."""

    name, bound, pictures, rescales = "pixels", 1.0, True, True

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

    def log_det(self, shape: Sequence[int]) -> float | None:
        return -math.prod(shape) * math.log(127.5)


class Scale(FromNoise):
    """Real data divided by one number, the data's standard deviation: (B, ...) float ↔ the same about unit
    scale."""

    name, bound, pictures, rescales = "scale", None, False, True

    def __init__(self, *, std: float = 1.0):
        self.std = std

    def encode(self, data: Tensor) -> Tensor:
        return data.float() / self.std

    def decode(self, x: Tensor) -> Tensor:
        return x.float() * self.std

    def log_det(self, shape: Sequence[int]) -> float | None:
        return -math.prod(shape) * math.log(self.std)

    def apart(self, other: Codec, mine: str, theirs: str) -> str:
        std = getattr(other, "std", 1.0)
        if self.std == std:
            return ""
        return (
            f"{theirs} divides its data by {std:g}, {mine} by {self.std:g}; choose a model of the same "
            "scale, such as the base it was fine-tuned from"
        )


class Columns(FromNoise):
    """Vectors (B, d) float less a ``mean`` and over a ``std`` for each number ↔ the same about unit scale.
    ``names``: what the numbers are called."""

    name, bound, pictures, rescales = "columns", None, False, True

    def __init__(self, *, mean: tuple[float, ...], std: tuple[float, ...], names: tuple[str, ...] = ()):
        self.mean, self.std, self.names = mean, std, names

    def encode(self, data: Tensor) -> Tensor:
        return (data.float() - data.new_tensor(self.mean).float()) / data.new_tensor(self.std).float()

    def decode(self, x: Tensor) -> Tensor:
        return x.float() * x.new_tensor(self.std).float() + x.new_tensor(self.mean).float()

    def log_det(self, shape: Sequence[int]) -> float | None:
        return -math.fsum(map(math.log, self.std))

    def apart(self, other: Codec, mine: str, theirs: str) -> str:
        if (self.mean, self.std) == (getattr(other, "mean", ()), getattr(other, "std", ())):
            return ""
        return (
            f"{theirs} standardises its numbers otherwise than {mine}; choose a model of the same scale, "
            "such as the base it was fine-tuned from"
        )


REGISTRY = Registry(
    "codecs",
    {
        "pixels": "studio.codecs.codec:Pixels",
        "scale": "studio.codecs.codec:Scale",
        "columns": "studio.codecs.codec:Columns",
        "bounded": "studio.codecs.bounded:Bounded",
        "curves": "studio.codecs.curves:Curves",
        "rows": "studio.codecs.rows:Rows",
        "vae": "studio.codecs.vae:VAECodec",
        "graph": "studio.codecs.graph:GraphCodec",
        "angles": "studio.codecs.angles:Angles",
        "chains": "studio.codecs.chains:Chains",
        "tokens": "studio.codecs.tokens:TokensCodec",
    },
    needs=("encode", "decode", "start", "pictures", "parts"),
)


def decoded_shape(codec: Codec, shape: Sequence[int]) -> tuple[int, ...]:
    """Of one decoded sample, for a state of ``shape``."""
    decoded = getattr(codec, "decoded_shape", None)
    return tuple(shape if decoded is None else decoded(tuple(shape)))


def has_channels(codec: Codec, shape: Sequence[int]) -> bool:
    """Whether states of this shape have channels in front, which others can have more or fewer of."""
    return 1 < len(shape) < 4 and "in_channels" in codec.sizes(shape)


def kind_of(spec: Mapping[str, Any]) -> Any:
    """The class of the codec that a spec names, which says what does not depend on options."""
    return resolve(REGISTRY, spec["name"], "codec")


def has_holes(spec: Mapping[str, Any]) -> bool:
    """Whether data of a spec's codec may be NaN where it has no value; not where none is named yet."""
    return bool(spec) and bool(getattr(kind_of(spec), "holes", False))


def range_of(spec: Mapping[str, Any]) -> float | None:
    """The ``bound`` of the codec that a spec names."""
    return getattr(kind_of(spec), "bound", None)


def build_codec(spec: dict, home: Path | None = None) -> Codec:
    """From ``{name: ..., options}``. An option ``folder`` is relative to ``home``, the model's folder."""
    options = dict(spec)
    if home is not None and isinstance(options.get("folder"), str):
        options["folder"] = str(home / options["folder"])
    return build(REGISTRY, options.pop("name"), "codec", options)


def makes_pictures(spec: Mapping[str, Any]) -> bool:
    """Whether the codec of a spec decodes to uint8 pictures."""
    return bool(kind_of(spec).pictures)


def are_numbers(spec: Mapping[str, Any], *, pictures: bool) -> bool:
    """Whether states are the data's own numbers: those of uint8 pictures, or of none."""
    return bool(kind_of(spec).rescales) and makes_pictures(spec) == pictures
